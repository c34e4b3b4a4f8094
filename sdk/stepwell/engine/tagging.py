"""Tags: business keys under which a run is found.

They are computed from the event when the run is created, and filed before it. A tag that cannot be computed is left out,
with a reason in the log: nobody's order waits because it has no number.

The run of an event that a batch takes along is filed nowhere. Its tags lead to the run of the batch, which stands at its own
place there as everywhere: they are filed once it has the event, and by a redelivery if that was cut off in between.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stepwell.codec import canonical
from stepwell.engine.keeping import month_ttl
from stepwell.events import Envelope
from stepwell.expressions import expression
from stepwell.ports import Ports
from stepwell.records import RunState

logger = logging.getLogger("stepwell")

LONGEST = 256
"""Characters of a value."""


def tagged(run: RunState, entry: Mapping[str, Any] | None, event: Envelope) -> RunState:
    """The run with its tags, which are yet to be filed."""
    wanted = (entry or {}).get("tags")
    return replace(run, tags=tags_of(run, wanted, event)) if wanted else run


def file_tags(ports: Ports, run: RunState, event: Envelope) -> None:
    """File a run that is about to be created."""
    ports.store.tags.file(run.app, run.id, run.tags, ttl=month_ttl(ports, run, max(run.created, event.ts)))


def file_taken(ports: Ports, taken: RunState, batch: RunState | None) -> None:
    """File the run of a batch (None if it is gone) under the tags of an event that it has taken along."""
    if batch is not None and taken.tags:
        ttl = month_ttl(ports, batch, max(ports.now(), batch.wake_at or 0))
        ports.store.tags.file(batch.app, batch.id, taken.tags, ttl=ttl, taken=True)


def tags_of(run: RunState, wanted: Mapping[str, str], event: Envelope) -> dict[str, str]:
    """The values of the tags that can be computed."""
    scope, found = event.scope(), {}
    for name, source in wanted.items():
        try:
            found[name] = tag_value(expression(source).value(scope))
        except Exception as error:  # an expression that does not compile here raises several kinds
            logger.warning("run %s has no tag %s: %s: %s", run.id, name, source, error)
    return found


def tag_value(value: Any) -> str:
    """A value as a tag has it: text as it is, numbers and truth values as in JSON. Raises ValueError for all else."""
    if value is None or isinstance(value, list | dict):
        raise ValueError(f"a tag is text, a number or true or false, not {'null' if value is None else 'a collection'}")
    text = value if isinstance(value, str) else canonical(value)
    if not 0 < len(text) <= LONGEST:
        raise ValueError(f"a tag has 1 to {LONGEST} characters, not {len(text)}")
    return text
