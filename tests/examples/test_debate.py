"""The debate pipeline: eight steps over providers that are busy, down, slow or unwilling."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stepwell import Run, RunStatus
from stepwell.testing import LocalStepwell
from stepwell_examples.debate import demo, fakes
from stepwell_examples.debate.app import DebateRequested, app

REQUEST = DebateRequested(debate_id="d-1", topic="Four-day weeks for robots", pro="Ada", con="Blaise")


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    with LocalStepwell(app) as world:
        fakes.reset(clock=world.now)
        yield world
    fakes.reset()


def run_of(local: LocalStepwell, event_id: str) -> Run:
    run = local.run(event_id, function="make-debate")
    assert run is not None
    return run


def attempts(run: Run, step: str) -> int:
    """How often the body of the step with this id began, wherever in the run it stands."""
    [record] = [record for record in run.steps.values() if record.id == step]
    return record.attempts


def post(local: LocalStepwell) -> fakes.Post:
    """How the video house reaches the door of this world."""

    def post(url: str, body: dict[str, Any]) -> None:
        assert local.http("POST", url, body=body).status == 200

    return post


def finish_the_video(local: LocalStepwell) -> None:
    local.advance("5m")
    assert fakes.video_house.call_back(post(local)) == 1
    local.run_until_idle()


def test_a_debate_becomes_a_film_in_the_catalogue(local: LocalStepwell) -> None:
    event_id = local.send(REQUEST)
    finish_the_video(local)
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert run.result == {"title": "Four-day weeks for robots", "url": "https://files.example/d-1.mp4"}
    assert fakes.catalogue.rows == {"d-1": {"status": "published", "detail": "https://files.example/d-1.mp4"}}
    assert b"https://video.example/" in fakes.file_store.files["d-1.mp4"]
    assert b"https://speaker.example/" in fakes.file_store.files["d-1.mp4"]


def test_the_audio_is_made_while_the_video_is_rendered(local: LocalStepwell) -> None:
    event_id = local.send(REQUEST)
    local.advance("1m")
    assert fakes.speaker.paid == 1
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    assert fakes.video_house.call_back(post(local)) == 0, "the video takes four minutes"
    finish_the_video(local)
    assert run_of(local, event_id).status == RunStatus.COMPLETED
    assert len(fakes.video_house.orders) == 1


def test_a_busy_painter_is_asked_again_when_he_said_and_not_earlier(local: LocalStepwell) -> None:
    event_id = local.send(REQUEST)
    local.run_until_idle()
    assert sorted(fakes.painter.answers) == [200, 429]
    local.advance("19s")
    assert sorted(fakes.painter.answers) == [200, 429]
    local.advance("3s")
    assert sorted(fakes.painter.answers) == [200, 200, 429]
    finish_the_video(local)
    run = run_of(local, event_id)
    assert sorted((attempts(run, "portrait-pro"), attempts(run, "portrait-con"))) == [1, 2]


def test_an_outage_delays_one_step_and_repeats_none_of_the_others(local: LocalStepwell) -> None:
    fakes.speaker.go_down(timedelta(minutes=2))
    event_id = local.send(REQUEST)
    local.advance("5m")
    assert 503 in fakes.speaker.answers
    assert fakes.speaker.paid == 1
    finish_the_video(local)
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert attempts(run, "read_aloud") == len(fakes.speaker.answers)
    assert fakes.writer.answers == [200]
    assert fakes.painter.paid == 2
    assert fakes.video_house.answers == [202]


def test_a_refused_topic_fails_at_once_and_is_reported(local: LocalStepwell) -> None:
    event_id = local.send(REQUEST.model_copy(update={"topic": "Cheaper weapons"}))
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert "against the terms of use" in run.error.message
    assert fakes.writer.answers == [422]
    assert fakes.catalogue.rows["d-1"]["status"] == "failed"
    assert "against the terms of use" in fakes.catalogue.rows["d-1"]["detail"]


def test_a_video_that_never_comes_fails_the_debate_after_half_an_hour(local: LocalStepwell) -> None:
    event_id = local.send(REQUEST)
    local.advance("29m")
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    local.advance("5m")
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.type.endswith("StepTimeout")
    assert fakes.catalogue.rows["d-1"]["status"] == "failed"


def test_a_video_house_that_gives_up_fails_the_debate_with_its_reason(local: LocalStepwell) -> None:
    event_id = local.send(REQUEST)
    local.advance("1m")
    fakes.video_house.give_up(post(local), "all our machines are on fire")
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert "all our machines are on fire" in run.error.message


@pytest.mark.parametrize("step", ["portrait-con", "read_aloud"])
def test_work_that_was_cut_off_before_its_record_is_not_billed_twice(local: LocalStepwell, step: str) -> None:
    local.crash_after(step)
    event_id = local.send(REQUEST)
    local.advance("15m")
    fakes.video_house.call_back(post(local))
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.COMPLETED
    assert (fakes.painter.paid, fakes.speaker.paid) == (2, 1)
    assert len(fakes.video_house.orders) == 1


def test_the_demo_ends_well(local: LocalStepwell) -> None:
    assert demo.play(local, lambda sentence: None) == []


def test_what_the_readme_shows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    readme = Path(demo.__file__).with_name("README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith("{'title': 'Four-day weeks for robots', 'url': ")


# ---- the fakes keep their promises -----------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    fakes.reset(clock)
    return clock


def test_the_painter_says_how_long_to_wait(clock: Clock) -> None:
    asyncio.run(fakes.painter.portrait("Ada", idempotency_key="a"))
    clock.now += timedelta(seconds=5)
    with pytest.raises(fakes.TooManyRequests) as busy:
        asyncio.run(fakes.painter.portrait("Blaise", idempotency_key="b"))
    assert busy.value.retry_after == timedelta(seconds=15)
    clock.now += busy.value.retry_after
    asyncio.run(fakes.painter.portrait("Blaise", idempotency_key="b"))
    assert fakes.painter.answers == [200, 429, 200]


def test_work_that_is_paid_for_is_answered_again_for_nothing(clock: Clock) -> None:
    first = asyncio.run(fakes.painter.portrait("Ada", idempotency_key="a"))
    assert asyncio.run(fakes.painter.portrait("Ada", idempotency_key="a")) == first
    assert fakes.painter.paid == 1


def test_a_provider_is_down_for_as_long_as_it_was_told(clock: Clock) -> None:
    script = asyncio.run(fakes.writer.write("Tea", "Ada", "Blaise"))
    fakes.speaker.go_down(timedelta(minutes=1))
    clock.now += timedelta(seconds=59)
    with pytest.raises(fakes.ServiceUnavailable):
        asyncio.run(fakes.speaker.read(script, idempotency_key="s"))
    clock.now += timedelta(seconds=1)
    assert asyncio.run(fakes.speaker.read(script, idempotency_key="s")).seconds > 0
