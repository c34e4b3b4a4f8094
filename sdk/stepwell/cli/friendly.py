"""Errors for people: one red paragraph with the error's code and what to do. The traceback only with --debug."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec

import typer

from stepwell.errors import StepwellError

P = ParamSpec("P")

debug: ContextVar[bool] = ContextVar("stepwell_debug", default=False)

NEXT_STEP = {
    "unknown-run": "`stepwell runs list --since 7d` shows the runs there are.",
    "unknown-letter": "`stepwell dlq list` names those there are.",
    "not-redriven": "They can be sent again: what has arrived twice is handled once.",
    "unknown-function": "`stepwell functions` shows what is registered.",
    "payload-too-large": "Put the data into S3 and send its key.",
    "run-failed": "`stepwell runs show` with its id shows where.",
}
"""By the code of the error; most messages say it themselves."""

AWS_NEXT_STEP = {
    "AccessDenied": "The credentials in use lack that permission; `aws sts get-caller-identity` says whose they are.",
    "AccessDeniedException": "The credentials in use lack that permission; `aws sts get-caller-identity` says whose "
    "they are.",
    "ExpiredToken": "Sign in again (`aws sso login`), then repeat the command.",
    "ExpiredTokenException": "Sign in again (`aws sso login`), then repeat the command.",
    "ResourceNotFoundException": "The table is not there: another region or account, or a stack that was deleted. "
    "Check AWS_REGION and STEPWELL_TABLE, or pass --stack.",
    "AWS.SimpleQueueService.NonExistentQueue": "The queue is not there: another region or account, or a stack that was "
    "deleted. Check STEPWELL_QUEUE_URL, or pass --stack.",
    "QueueDoesNotExist": "The queue is not there: another region or account, or a stack that was deleted. Check "
    "STEPWELL_QUEUE_URL, or pass --stack.",
}
"""By AWS's own error code."""


class Trouble(Exception):
    """Something the command itself has to say: what is wrong, and what to do."""

    def __init__(self, code: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step


def explain(error: Exception) -> Trouble:
    """The error in words for people, whatever it is."""
    if isinstance(error, Trouble):
        return error
    if isinstance(error, StepwellError):
        return Trouble(error.code, str(error), NEXT_STEP.get(error.code, ""))
    if isinstance(error, TimeoutError):
        return Trouble("timeout", str(error))
    return _explain_aws(error) or Trouble(
        "unexpected", f"{type(error).__name__}: {error}", "`stepwell --debug ...` shows where it comes from."
    )


def _explain_aws(error: Exception) -> Trouble | None:
    from botocore import exceptions as aws

    if isinstance(error, aws.ClientError):
        told = error.response.get("Error", {})
        code = str(told.get("Code", "unknown"))
        return Trouble(
            f"aws: {code}", f"{error.operation_name}: {told.get('Message') or code}", AWS_NEXT_STEP.get(code, "")
        )
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        return Trouble("aws: no credentials", str(error), "Set AWS_PROFILE, or sign in (`aws sso login`).")
    if isinstance(error, aws.NoRegionError):
        return Trouble("aws: no region", str(error), "Set AWS_REGION.")
    if isinstance(error, aws.HTTPClientError | aws.ConnectionError):
        return Trouble("aws: unreachable", str(error), "Is the network up, and does AWS_ENDPOINT_URL point somewhere?")
    if isinstance(error, aws.BotoCoreError):
        return Trouble(f"aws: {type(error).__name__}", str(error))
    return None


def friendly(command: Callable[P, None]) -> Callable[P, None]:
    """A command that tells its errors and ends with status 1."""

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            if debug.get():
                raise
            show(explain(error))
            raise typer.Exit(1) from None

    return told


def show(trouble: Trouble) -> None:
    """Print it to stderr."""
    from rich.padding import Padding
    from rich.text import Text

    from stepwell.cli.console import err, signs

    console = err()
    paragraph = Text.assemble(
        (f"{signs(console).failed} {trouble.code}  ", "bold red"), (trouble.message, "red"), style="red"
    )
    console.print(paragraph)
    if trouble.next_step:
        console.print(Padding(Text(trouble.next_step, style="dim"), (0, 0, 0, 2)))
