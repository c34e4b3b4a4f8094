"""Play the debate on a virtual clock: a busy painter, a silent speaker, a slow video, a refusal."""

from collections.abc import Callable
from datetime import timedelta

from stepwell import RunStatus, Stepwell
from stepwell.testing import LocalStepwell

from . import fakes
from .app import DebateRequested, app

apps: list[Stepwell] = [app]


def play(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    """Make one film against the odds, and let another be refused."""
    fakes.reset(clock=local.now)
    return _a_film_is_made(local, say) + _a_topic_is_refused(local, say)


def _a_film_is_made(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    problems: list[str] = []

    say("A debate is requested. The speaker is down for 50 seconds, the painter takes one request every 20.")
    fakes.speaker.go_down(timedelta(seconds=50))
    event_id = local.send(DebateRequested(debate_id="d-1", topic="Four-day weeks for robots", pro="Ada", con="Blaise"))
    local.run_until_idle()

    local.advance("2m")
    say(f"Answers of the painter: {fakes.painter.answers}; of the speaker: {fakes.speaker.answers}.")
    if 429 not in fakes.painter.answers or fakes.painter.paid != 2:
        problems.append(f"two portraits should have been painted around the rate limit: {fakes.painter.answers}")
    if 503 not in fakes.speaker.answers or fakes.speaker.paid != 1:
        problems.append(f"the script should have been read after the outage: {fakes.speaker.answers}")

    run = local.run(event_id)
    say(f"Audio is done, the video house renders: the run is {run.status if run else 'missing'} and costs nothing.")
    if run is None or run.status != RunStatus.SUSPENDED:
        problems.append(f"the run should wait for the video house: {run}")

    local.advance("4m")
    told = fakes.video_house.call_back(lambda url, answer: local.http("POST", url, body=answer))
    local.run_until_idle()
    run = local.run(event_id)
    say(f"The video house called back ({told} video). The film: {run.result if run else None}.")
    if run is None or run.status != RunStatus.COMPLETED:
        problems.append(f"the debate should have completed: {run}")
    if fakes.catalogue.rows.get("d-1", {}).get("status") != "published" or "d-1.mp4" not in fakes.file_store.files:
        problems.append("the film should be in the store and in the catalogue")
    return problems


def _a_topic_is_refused(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    problems: list[str] = []

    asked_before = len(fakes.writer.answers)
    event_id = local.send(DebateRequested(debate_id="d-2", topic="Cheaper weapons", pro="Ada", con="Blaise"))
    local.run_until_idle()
    run = local.run(event_id)
    asked = len(fakes.writer.answers) - asked_before
    row = fakes.catalogue.rows.get("d-2", {})
    say(f"Another topic is refused for good. The writer was asked {asked} time; the catalogue says {row}.")
    if run is None or run.status != RunStatus.FAILED or asked != 1:
        problems.append(f"a refusal should fail the run at once: {run}, asked {asked} times")
    if row.get("status") != "failed":
        problems.append("the failure should have been recorded")
    return problems
