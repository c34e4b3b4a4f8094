"""Middleware: code around sending, runs and steps. `encryption` and `otel` come with Stepwell, each with an extra.

Nothing here is imported unless it is used, and neither of the two unless it is asked for by name.
"""

from stepwell.errors import KeyUnavailable, MiddlewareFailed, TamperedValue
from stepwell.middleware.base import Middleware, Place, RunCall, StepCall

__all__ = ["KeyUnavailable", "Middleware", "MiddlewareFailed", "Place", "RunCall", "StepCall", "TamperedValue"]
