"""The bench: its arithmetic, and what keeps the figures from creeping up unnoticed, counted instead of timed."""

from __future__ import annotations

import cProfile
import json
import pstats
import subprocess
import sys

import pytest

import bench.__main__ as runner
from bench.apps import app
from bench.canned import CannedDynamoDb, canned_ports, queued_run
from bench.figures import Figure, figures_table, number, peers_table, table
from bench.growth import Marks
from bench.importtime import heaviest, parse, total
from bench.invocations import InvocationContext
from bench.machine import share_of_a_core
from bench.overhead import KINDS, per_step
from bench.timed import Spent, TimedClient
from stepwell_lambdas.worker.handler import make_handler


class TestFigures:
    def test_a_figure_is_the_median_of_its_samples(self) -> None:
        assert Figure("f", "ms", (9.0, 1.0, 2.0)).value == 2.0

    def test_a_figure_without_samples_is_refused(self) -> None:
        with pytest.raises(ValueError, match="nothing was measured"):
            Figure("f", "ms", ())

    @pytest.mark.parametrize(
        ("value", "at_least", "ok"),
        [(1.0, False, True), (1.01, False, False), (1.0, True, True), (0.99, True, False)],
    )
    def test_a_target_is_a_ceiling_unless_it_is_said_to_be_a_floor(
        self, value: float, at_least: bool, ok: bool
    ) -> None:
        assert Figure("f", "ms", (value,), 1.0, at_least).ok is ok

    def test_a_figure_without_a_target_is_neither_met_nor_missed(self) -> None:
        assert Figure("f", "ms", (1.0,)).ok is None

    @pytest.mark.parametrize(
        ("value", "shown"), [(0, "0"), (0.12345, "0.123"), (9.999, "10"), (54.32, "54.3"), (1234.5, "1,234")]
    )
    def test_numbers_have_three_digits_or_thousands_set_apart(self, value: float, shown: str) -> None:
        assert number(value) == shown

    def test_a_table_lines_its_columns_up(self) -> None:
        assert table(["a", "b"], [["x", "1"], ["yyy", "22"]], right=[1]).splitlines() == [
            "a     b",
            "---  --",
            "x     1",
            "yyy  22",
        ]

    def test_a_missed_target_is_seen_in_the_table(self) -> None:
        lines = figures_table([Figure("slow", "ms", (2.0,), 1.0), Figure("fast", "ms", (0.5,), 1.0)]).splitlines()

        assert [line.endswith("MISSED") for line in lines[2:]] == [True, False]

    def test_others_stand_beside_only_what_they_were_measured_for(self) -> None:
        compared = Figure("a", "ms", (2.0,), peers={"x": 1.0})

        shown = peers_table([compared, Figure("b", "ms", (3.0,), peers={"y": 4.0}), Figure("c", "ms", (1.0,))])

        assert shown is not None
        assert [line.split() for line in shown.splitlines()[2:]] == [["a", "ms", "2", "1"], ["b", "ms", "3", "4"]]
        assert peers_table([Figure("c", "ms", (1.0,))]) is None


IMPORTTIME = """\
import time: self [us] | cumulative | imported package
import time:        10 |         10 | encodings
import time:         1 |          1 |       json
import time:         2 |          2 |         jmespath
import time:         4 |          6 |       botocore.loaders
import time:         8 |         14 |     botocore
import time:        16 |         16 |     stepwell.codec
import time:        32 |         63 |   stepwell.ports
import time:        64 |        127 | handler
"""


class TestImporttime:
    def test_a_module_is_counted_with_all_it_imported(self) -> None:
        assert total(parse(IMPORTTIME), "handler") == 127

    def test_a_package_left_out_is_left_out_once_and_with_all_it_imported(self) -> None:
        assert total(parse(IMPORTTIME), "handler", without={"botocore"}) == 127 - 14

    def test_what_was_imported_before_is_not_counted(self) -> None:
        assert total(parse(IMPORTTIME), "encodings", without={"handler"}) == 10

    def test_a_module_that_was_not_imported_is_an_error(self) -> None:
        with pytest.raises(LookupError, match="pandas"):
            total(parse(IMPORTTIME), "pandas")

    def test_the_heaviest_come_first_by_their_own_code(self) -> None:
        assert [each.name for each in heaviest(parse(IMPORTTIME), 2)] == ["handler", "stepwell.ports"]

    def test_what_python_really_writes_is_understood(self) -> None:
        run = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import json"], capture_output=True, text=True, check=True
        )
        assert total(parse(run.stderr), "json") >= total(parse(run.stderr), "json.decoder") > 0


class TestRunner:
    @staticmethod
    def run(monkeypatch: pytest.MonkeyPatch, figures: list[Figure], *arguments: str) -> tuple[int, list[int]]:
        rounds: list[int] = []

        def bench(count: int) -> list[Figure]:
            rounds.append(count)
            return figures

        monkeypatch.setattr(runner, "_bench", lambda name: bench)
        monkeypatch.setattr(runner, "share_of_a_core", lambda: 1.0)
        monkeypatch.setattr("logging.disable", lambda level: None)
        return runner.main(arguments), rounds

    def test_it_fails_when_a_target_is_missed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(monkeypatch, [Figure("f", "ms", (2.0,), 1.0)], "cost")[0] == 1
        assert self.run(monkeypatch, [Figure("f", "ms", (1.0,), 1.0), Figure("g", "ms", (9.0,))], "cost")[0] == 0

    def test_it_runs_what_is_named_as_often_as_it_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(monkeypatch, [Figure("f", "ms", (1.0,))], "cost", "growth", "--rounds", "2")[1] == [2, 2]

    def test_json_holds_every_figure(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.run(monkeypatch, [Figure("f", "ms", (1.0, 2.0, 9.0), 1.5)], "cost", "--json")

        told = json.loads(capsys.readouterr().out)["benches"]["cost"][0]
        assert (told["value"], told["lowest"], told["highest"], told["ok"]) == (2.0, 1.0, 9.0, False)

    @pytest.mark.parametrize("arguments", [["spead"], ["--rounds", "0"]])
    def test_nonsense_is_refused(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as refused:
            runner.main(arguments)
        assert refused.value.code == 2

    def test_the_share_of_a_core_is_a_share(self) -> None:
        assert 0 < share_of_a_core(0.02) <= 1


class TestMeasuring:
    def test_time_in_a_client_is_told_apart_and_calls_are_counted(self) -> None:
        class Busy:
            def get_item(self, *, rounds: int) -> int:
                return sum(range(rounds))

        spent = Spent()
        client = TimedClient(Busy(), spent)

        assert client.get_item(rounds=200_000) == sum(range(200_000))
        once = spent.seconds
        client.get_item(rounds=200_000)

        assert spent.seconds > once > 0
        assert spent.calls == {"get_item": 2}

    def test_marks_give_the_time_of_a_usual_step(self) -> None:
        marks = Marks(Spent(), [float(n) for n in range(150)] + [149 + 3.0 * n for n in range(1, 151)])

        assert (marks.around(60), marks.around(240)) == (1.0, 3.0)

    @pytest.mark.parametrize("kind", KINDS)
    def test_both_a_fresh_and_a_replayed_step_take_time(self, kind: str) -> None:
        assert per_step(kind, 3) > 0
        assert per_step(kind, 3, replayed=True) > 0


class TestOverhead:
    """Time varies with the machine; what is done does not."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_inline_step_is_one_request(self, kind: str) -> None:
        function, event = KINDS[kind]
        spent = Spent()
        table = CannedDynamoDb(queued_run(function, event, {"steps": 20}))
        run = table.get_item()["Item"]["pk"]["S"].removeprefix("RUN#")

        answer = make_handler(canned_ports(table, spent), app)({"run": run, "epoch": 0}, InvocationContext("test"))

        assert answer["outcome"] == "completed"
        assert spent.calls["put_item"] == len(table.steps) == 20
        assert spent.calls["update_item"] == 2  # the claim and the end

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_inline_step_stays_within_a_few_hundred_function_calls(self, kind: str) -> None:
        per_step(kind, 20)
        few, many = (_function_calls(kind, steps) for steps in (10, 60))

        assert (many - few) / 50 < 450  # about 300 when this was written, a tenth of a millisecond


def _function_calls(kind: str, steps: int) -> int:
    profile = cProfile.Profile()
    profile.enable()
    per_step(kind, steps)
    profile.disable()
    calls: int = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
    return calls


class TestColdStart:
    """What importing a handler takes is what it imports beyond what botocore needs itself."""

    @pytest.mark.parametrize(
        ("handler", "packages", "modules"),
        [
            ("consumer", {"stepwell", "stepwell_lambdas", "ulid", "typing_extensions"}, 50),
            ("orchestrator", {"stepwell", "stepwell_lambdas", "ulid", "typing_extensions"}, 80),
        ],
    )
    def test_the_engines_lambdas_import_little_besides_stepwell(
        self, handler: str, packages: set[str], modules: int
    ) -> None:
        program = (
            "import json, sys, botocore.session\nbefore = set(sys.modules)\n"
            f"import stepwell_lambdas.{handler}.handler\nprint(json.dumps(sorted(set(sys.modules) - before)))"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        added = [name for name in json.loads(run.stdout) if name.partition(".")[0] not in sys.stdlib_module_names]

        assert {name.partition(".")[0] for name in added} <= packages
        assert len(added) < modules
