"""Play the sermons: a real recording is transcribed piece by piece, and found again by a word that was said in it."""

from collections.abc import Callable
from pathlib import Path

import boto3

from stepwell import Stepwell
from stepwell.testing import LocalStepwell

from . import storage
from .app import TranscriptionRequest, app, search

apps: list[Stepwell] = [app]

RECORDING = Path(__file__).parent / "data" / "sermon.ogg"


def play(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    """Transcribe a recording although a worker dies on the way, and search in what was said."""
    problems: list[str] = []
    boto3.client("s3").create_bucket(Bucket=storage.BUCKET)
    storage.upload(RECORDING, "uploads/sermon.ogg")

    say("A recording of 17 seconds is uploaded. One of the workers that transcribe it is going to die.")
    local.crash_after("transcribe")
    request = local.send(TranscriptionRequest(sermon_id="rock", audio="uploads/sermon.ogg", piece_seconds=5))
    local.advance("20m")  # past the dead worker's lease

    run = local.run(request)
    if run is None or run.status != "completed":
        return [f"the transcription should have completed: {run}"]
    pieces = [step for step in run.steps.values() if step.id == "transcribe"]
    say(f"“{run.result['title']}” was transcribed in {len(pieces)} pieces: {run.result['passages']} passages.")

    hits = search("a house in the storm")
    if not hits or "rock" not in hits[0].text:
        problems.append(f"the house on the rock should have been found: {hits}")
    else:
        say(f"Who looks for “a house in the storm” should listen from second {hits[0].start:.0f}: “{hits[0].text}”.")
    return problems
