"""Cold starts: what importing a handler takes, boto3 and botocore aside, and what the first client takes.

Measured in new processes with `python -X importtime`. Its wall times are scaled by the share of a core that the process
got. "SDK aside" leaves out the subtrees of boto3 and botocore; what both need, such as logging, counts for whoever
imports it first, which is mostly Stepwell. "After the SDK" is what is added where botocore is loaded already.

Modules come from compiled byte code, as in Lambda: the packages that are deployed carry it (`stepwell_cdk.packages`).
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache

from bench.figures import Figure
from bench.importtime import parse, total

SDK = {"boto3", "botocore"}
TARGETS = {"consumer": 60.0, "orchestrator": 150.0, "worker": 150.0}
"""Milliseconds."""

_IMPORT = """
import json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
import {module}
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""
_AFTER = """
import time
import botocore.session
began = time.process_time()
import {module}
print(time.process_time() - began)
"""
_CLIENTS = """
import json, time
began = time.process_time()
from stepwell.ports import Config, Ports
imported = time.process_time()
import botocore.session
session = botocore.session.Session()
session.set_credentials("test", "test")
config = Config("table", "queue", region="us-east-1", endpoint_url="http://127.0.0.1:1")
ports = Ports.build(session, config)
times = {{"import": imported - began}}
before = time.process_time()
for name, client in (("first", ports.store.table.client), ("second", ports.queue.client)):
    client()
    now = time.process_time()
    times[name], before = now - before, now
print(json.dumps(times))
"""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One import of a handler in a new process; milliseconds of CPU."""

    everything: float
    without_sdk: float


def cold_start(function: str) -> ColdStart:
    """Import the handler of a Lambda once."""
    module = f"stepwell_lambdas.{function}.handler"
    run = _python("-X", "importtime", "-c", _IMPORT.format(module=module))
    wall, cpu = json.loads(run.stdout)
    imports = parse(run.stderr)
    # The packages around the handler are modules of their own in the list, and belong to it.
    outer = [each for each in imports if each.name in ("stepwell_lambdas", f"stepwell_lambdas.{function}", module)]
    around = sum(each.own for each in outer if each.name != module)
    scale = min(1.0, cpu / wall) / 1000
    return ColdStart((total(imports, module) + around) * scale, (total(imports, module, without=SDK) + around) * scale)


def added(function: str) -> float:
    """Milliseconds of CPU that the handler adds where botocore is there already, with all that it needs itself."""
    return 1000 * float(_python("-c", _AFTER.format(module=f"stepwell_lambdas.{function}.handler")).stdout)


def clients() -> dict[str, float]:
    """Milliseconds of CPU until the first client (DynamoDB) is made, and until the second (SQS)."""
    times: dict[str, float] = json.loads(_python("-c", _CLIENTS.format()).stdout)
    return {name: seconds * 1000 for name, seconds in times.items()}


def bench(rounds: int) -> list[Figure]:
    """The figures."""
    for function in TARGETS:
        cold_start(function)  # compiles what was not compiled, and fills the page cache
    starts = {function: [cold_start(function) for _ in range(rounds)] for function in TARGETS}
    after = {function: tuple(added(function) for _ in range(rounds)) for function in TARGETS}
    made = [clients() for _ in range(rounds)]
    return [
        *(
            Figure(f"import {function}, SDK aside", "ms CPU", tuple(s.without_sdk for s in starts[function]), target)
            for function, target in TARGETS.items()
        ),
        *(Figure(f"import {function}, after the SDK", "ms CPU", after[function]) for function in TARGETS),
        Figure("import consumer, SDK included", "ms CPU", tuple(s.everything for s in starts["consumer"])),
        Figure("first client (DynamoDB)", "ms CPU", tuple(each["first"] for each in made)),
        Figure("second client (SQS)", "ms CPU", tuple(each["second"] for each in made)),
    ]


@cache
def _compiled() -> str:
    """Where this bench keeps byte code: the machine may forbid it beside the sources."""
    directory = tempfile.mkdtemp(prefix="stepwell-bench-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    foreign = ("AWS_", "STEPWELL_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment["PYTHONPYCACHEPREFIX"] = _compiled()
    run = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"what was to be measured failed:\n{run.stderr[-2000:]}")
    return run
