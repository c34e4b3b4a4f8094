"""What Lambda hands to a handler."""

from __future__ import annotations

import time
import uuid


class InvocationContext:
    """The `context` of one invocation: its request id, and the time it has left."""

    def __init__(self, function_name: str, seconds: float = 900.0) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self.function_name = function_name
        self._deadline = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end it."""
        return max(0, round((self._deadline - time.monotonic()) * 1000))
