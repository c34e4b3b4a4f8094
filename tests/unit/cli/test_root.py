"""The command itself: quick to help, and kind about errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from botocore import exceptions as aws
from typer.testing import CliRunner

from stepwell.cli import friendly
from stepwell.cli.root import GROUPS, cli
from stepwell.cli.sending import read_data
from stepwell.errors import ErrorInfo, InvalidOption, RunFailed, UnknownRun


def stepwell(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, arguments, env=env)
    return result.exit_code, result.stdout, result.stderr


def test_help_needs_neither_aws_nor_the_engine_nor_the_test_kit() -> None:
    program = """
import json, sys
from stepwell.cli.root import cli
try:
    cli(["runs", "--help"])
except SystemExit:
    pass
heavy = {"boto3", "botocore", "moto", "stepwell.client", "stepwell.app", "stepwell.testing"}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout.splitlines()[-1]) == []


def test_every_group_is_in_the_help() -> None:
    status, out, _ = stepwell("--help")
    assert status == 0
    for command in (
        "demo",
        "send",
        "invoke",
        "runs",
        "events",
        "callbacks",
        "functions",
        "keys",
        "dlq",
        "doctor",
        "cost",
    ):
        assert f" {command} " in out
    assert len(GROUPS) == 11


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert stepwell("--version")[1].strip() == f"stepwell {version('stepwell')}"


def test_without_a_stack_and_without_variables_it_says_what_to_set() -> None:
    status, out, err = stepwell("runs", "list")
    assert (status, out) == (1, "")
    assert "which-stepwell" in err
    assert "--stack NAME" in err
    assert "stepwell demo" in err
    assert "Traceback" not in err


def test_with_debug_the_traceback_comes_through() -> None:
    result = CliRunner().invoke(cli, ["--debug", "runs", "list"])
    assert isinstance(result.exception, friendly.Trouble)


@pytest.mark.parametrize(
    ("error", "code", "says", "advises"),
    [
        (UnknownRun("There is no run 'x'."), "unknown-run", "no run 'x'", "runs list"),
        (InvalidOption("no such status"), "invalid-option", "no such status", ""),
        (RunFailed("shop.1", ErrorInfo("ValueError", "bad")), "run-failed", "ValueError: bad", "runs show"),
        (TimeoutError("not within 5s"), "timeout", "not within 5s", ""),
        (
            aws.ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not allowed"}}, "Query"),
            "aws: AccessDeniedException",
            "Query: not allowed",
            "get-caller-identity",
        ),
        (aws.NoCredentialsError(), "aws: no credentials", "credentials", "AWS_PROFILE"),
        (aws.NoRegionError(), "aws: no region", "region", "AWS_REGION"),
        (aws.EndpointConnectionError(endpoint_url="http://x"), "aws: unreachable", "http://x", "network"),
        (ZeroDivisionError("division by zero"), "unexpected", "ZeroDivisionError: division by zero", "--debug"),
    ],
)
def test_every_error_is_one_paragraph_with_its_code_and_what_to_do(
    error: Exception, code: str, says: str, advises: str
) -> None:
    trouble = friendly.explain(error)
    assert trouble.code == code
    assert says in trouble.message
    assert advises in trouble.next_step


def test_brackets_in_an_error_are_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    friendly.show(friendly.Trouble("code", "[bold]not[/] markup [/nor this]", "neither [red]this"))
    err = capsys.readouterr().err
    assert "[bold]not[/] markup [/nor this]" in err
    assert "neither [red]this" in err


def test_data_is_json_from_the_command_line_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text('{"order": "ü"}', "utf-8")
    assert read_data(None) == {}
    assert read_data('{"a": [1, 2]}') == {"a": [1, 2]}
    assert read_data(f"@{file}") == {"order": "ü"}


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ("{order: 1}", "invalid-json", "line 1, column 2: {order: 1}"),
        ("", "invalid-json", "line 1, column 1"),
        ("@nowhere.json", "no-data", "nowhere.json cannot be read"),
    ],
)
def test_data_that_cannot_be_read_is_refused_with_the_place(given: str, code: str, says: str) -> None:
    with pytest.raises(friendly.Trouble) as refused:
        read_data(given)
    assert refused.value.code == code
    assert says in refused.value.message
