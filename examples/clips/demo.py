"""Play the clips: a film with a damaged scene is taken apart, and the scenes that are whole become clips."""

from collections.abc import Callable

import boto3

from stepwell import Stepwell
from stepwell.testing import LocalStepwell

from . import records, sample, storage
from .app import IdentifyClips, app
from .status import status

apps: list[Stepwell] = [app]


def play(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    """Upload a film of four scenes, one silent and one damaged, and ask how it goes."""
    boto3.client("s3").create_bucket(Bucket=storage.BUCKET)
    records.create_table()

    say("A film of four scenes is uploaded. The second is silent, and a bad disk has damaged the first.")
    with storage.workspace() as here:
        film = sample.film(here / "film.mp4")
        sample.damage(film, at=0.3)
        storage.upload(film, "uploads/film.mp4")
    event_id = local.send(IdentifyClips(video_id="film", video="uploads/film.mp4"))
    local.run_until_idle()

    identifying = local.run(event_id)
    if identifying is None or identifying.status != "completed":
        return [f"the scenes should have been found: {identifying}"]
    say(f"It has {identifying.result['clips']} scenes with something to hear. Each is cut out in a worker of its own.")

    [processing] = local.client.runs_of_event(identifying.steps["process"].result)
    state = status(local.client, processing.id)
    say(f"The run is {state.run.value}: {state.message}.")
    for clip in state.clips:
        say(f"  {clip.start:4.1f} s to {clip.end:4.1f} s is {clip.status}: {clip.file or clip.error}")
    if state.run != "completed" or [clip.status for clip in state.clips] != ["broken", "saved", "saved"]:
        return [f"one of three clips should be broken, the others saved: {state}"]
    return []
