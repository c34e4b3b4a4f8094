"""What a status endpoint answers: how far a run is, and which clips are there already."""

from pydantic import BaseModel

from stepwell import Client, RunStatus

from . import records
from .records import ClipRecord


class Status(BaseModel):
    run: RunStatus
    message: str  # what the run says about itself
    clips: list[ClipRecord]

    @property
    def saved(self) -> int:
        return sum(clip.status == "saved" for clip in self.clips)


def status(client: Client, run_id: str) -> Status:
    """The state of a run of `identify-clips` or `process-clips`, and of the clips of its video."""
    run = client.run(run_id)
    return Status(
        run=run.status,
        message=run.progress["message"] if run.progress else "not started",
        clips=records.of_video(run.event.data["video_id"]),
    )
