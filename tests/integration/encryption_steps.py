"""Steps that run in workers of their own, for the encryption tests: such a step is found by its import path."""

from __future__ import annotations

from stepwell import step


@step
def shout_apart(text: str) -> str:
    return text.upper()
