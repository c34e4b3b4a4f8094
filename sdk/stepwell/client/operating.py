"""A client that operates a Stepwell: it holds functions back, sends dead letters back, and answers callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stepwell.client.connection import Connection
from stepwell.dead_letters import DeadLetter, DeadLetters
from stepwell.engine import answering, pausing
from stepwell.errors import UnknownFunction
from stepwell.finding import named
from stepwell.typed import Typed


class Operating(Connection):
    """The verbs of people at work."""

    # ---- functions

    def pause(self, function: Any) -> None:
        """Let new runs of a function (a declared one, or "app/function-id") wait, whatever starts them, until `resume`.
        Runs that have begun go on. Nothing is lost: they start in the order of their events; of a schedule only the last
        tick does.

        Raises UnknownFunction.
        """
        pausing.pause(self._ports, *self._known(function))

    def resume(self, function: Any) -> None:
        """Start what waited for a paused function, and what comes. Raises UnknownFunction."""
        pausing.resume(self._ports, *self._known(function))

    def _known(self, function: Any) -> tuple[str, str]:
        app, target = named(function)
        record = self._ports.store.apps.current()[0].get(app)
        if record is None or target not in {entry["id"] for entry in record.known_functions}:
            raise UnknownFunction(
                f"There is no function {function!r}. Write 'app/function-id'; `stepwell functions` lists them."
            )
        return app, target

    # ---- dead letters

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Messages that could not be handled, each with its reason. Looking at them takes nothing away."""
        return iter(DeadLetters(self._ports))

    def redrive(self, id: str | None = None) -> int:
        """Send a dead letter, or all of them, back to the main queue; says how many. Mend the cause first.

        Raises UnknownLetter for an id that none of them has, and NotRedriven, when all others are sent, for those that
        cannot be.
        """
        return DeadLetters(self._ports).redrive(id)

    # ---- callbacks

    def complete_callback(self, token: str, result: Any = None) -> None:
        """Answer a callback. The first answer stands; the same answer again changes nothing.

        Raises UnknownCallback for a token that belongs to no callback, CallbackOver for one that is over: answered
        otherwise, out of time, or its run has ended.
        """
        answering.complete(self._ports, token, Typed(Any, "the answer").encode(result), self._values)

    def fail_callback(self, token: str, message: str) -> None:
        """Report that what the callback waits for has failed: the function gets a StepError with this message."""
        answering.fail(self._ports, token, str(message), self._values)

    def heartbeat_callback(self, token: str) -> None:
        """Say that somebody is still working on it. Raises UnknownCallback, CallbackOver if it is over."""
        answering.heartbeat(self._ports, token)
