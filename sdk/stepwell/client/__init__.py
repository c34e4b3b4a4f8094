"""Talking to a deployed (or local) Stepwell from outside: send events, look at runs, answer callbacks.

connection   which Stepwell, and by way of which middleware
sending      what starts something: events, direct invocations
looking      runs and events, found and waited for
repeating    runs, cancelled, replayed and forked; one, or many at once
operating    functions, dead letters, callbacks
"""

from __future__ import annotations

from stepwell.client.connection import OUTPUTS
from stepwell.client.looking import Looking
from stepwell.client.operating import Operating
from stepwell.client.repeating import Repeating
from stepwell.client.sending import Sending

__all__ = ["OUTPUTS", "Client"]


class Client(Sending, Looking, Repeating, Operating):
    """A client of one Stepwell.

    `Client.from_stack("name")` finds everything in the outputs of a deployed stack, `Client.from_env()` in
    STEPWELL_QUEUE_URL, STEPWELL_TABLE and STEPWELL_BUCKET. It is safe to share between threads.
    """
