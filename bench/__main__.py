"""`python -m bench [NAME ...] [--rounds N] [--json]`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module

from bench.figures import Figure, figures_table, peers_table
from bench.machine import describe, share_of_a_core

NAMES = ("overhead", "emulator", "coldstart", "growth", "cost")
ROUNDS = {"overhead": 7, "emulator": 3, "coldstart": 7, "growth": 5, "cost": 1}
BUSY = 0.85
"""Below this share of a core wall times say more about the neighbours than about Stepwell."""

Bench = Callable[[int], list[Figure]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benches named, or all. 0 if no target was missed, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="bench", description="How fast Stepwell is, and what it costs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all unless given")
    parser.add_argument("--rounds", type=int, help="how often each figure is taken; the median is shown")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    logging.disable(logging.CRITICAL)  # what runs log costs time of its own, and hides the table
    return report({name: _bench(name) for name in options.names or NAMES}, options.rounds, as_json=options.json)


def report(benches: dict[str, Bench], rounds: int | None, *, as_json: bool) -> int:
    """Run the benches and print what they give; the exit code."""
    machine, parts, shares = describe(), {}, []
    for name, bench in benches.items():
        shares.append(share_of_a_core())
        began = time.monotonic()
        parts[name] = bench(rounds or ROUNDS.get(name, 1))
        if not as_json:
            print(f"{name} ({time.monotonic() - began:.0f} s)\n\n{figures_table(parts[name])}\n", flush=True)
            if compared := peers_table(parts[name]):
                print(compared + "\n", flush=True)
    shares.append(share_of_a_core())
    missed = [figure.name for figures in parts.values() for figure in figures if figure.ok is False]
    if as_json:
        shown = {name: [figure.as_json() for figure in figures] for name, figures in parts.items()}
        json.dump({"machine": machine, "share_of_a_core": min(shares), "benches": shown}, sys.stdout, indent=2)
        print()
    else:
        print(machine)
        if min(shares) < BUSY:
            print(
                f"The machine was busy: a thread of its own got {min(shares):.0%} of a core. Wall times are too long."
            )
        print("All targets are met." if not missed else f"Missed: {'; '.join(missed)}.")
    return 1 if missed else 0


def _bench(name: str) -> Bench:
    bench: Bench = import_module(f"bench.{name}").bench
    return bench


if __name__ == "__main__":
    sys.exit(main())
