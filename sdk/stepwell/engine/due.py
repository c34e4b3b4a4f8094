"""What the sweeper does about an item that is due. Each kind of item decides for itself; the sweeper carries it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepwell.ports import Ports
from stepwell.queue import Message
from stepwell.store.due import Key


@dataclass(frozen=True, slots=True)
class Action:
    """Messages to post, and then a write that moves the item's due_at.

    In this order, so whoever is cut off in between posts them again: the messages must bear repetition, and the move
    must depend on the due_at that was seen, because another sweeper may have been faster.
    """

    move: Callable[[], object]
    messages: tuple[Message, ...] = ()


Kind = Callable[[Ports, Sequence[Key], int], list[Action]]
"""What to do at a time (milliseconds) about the items of one kind with these keys. The index may be behind: the items have
to be read first, and left alone if they are gone or not due any more."""
