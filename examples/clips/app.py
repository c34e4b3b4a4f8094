"""Clips: a video is searched for scenes, each is cut out in a worker of its own, and what cannot be cut is reported."""

from stepwell import Concurrency, Context, EventModel, StepError, Stepwell, step

from . import media, records, storage
from .media import Span
from .records import Clip, ClipRecord

app = Stepwell("clips")


# ---- events ----------------------------------------------------------------------------------------------------------


class IdentifyClips(EventModel, name="video/identify.clips"):
    video_id: str
    video: str  # key of the file in the bucket
    shortest: float = 2.0  # seconds


class ProcessClips(EventModel, name="clips/process"):
    """Sent when clips were identified, or by an editor who chose them by hand."""

    video_id: str
    clips: list[Clip]


class ClipsProcessed(EventModel, name="clips/processed"):
    video_id: str
    saved: list[str]  # clip ids
    broken: list[str]


# ---- steps: each fetches its input by key, for it may run on another machine than the one before ---------------------


@step(compute="large", timeout="14m")
def find_clips(video_id: str, video: str, shortest: float) -> list[Clip]:
    with storage.workspace() as here:
        spans = media.find_spans(storage.download(video, to=here / "video"), shortest)
    return [
        Clip(video_id=video_id, clip_id=f"{number:03}", video=video, start=span.start, end=span.end)
        for number, span in enumerate(spans, start=1)
    ]


@step
def save_records(of_clips: list[ClipRecord]) -> None:
    records.save(of_clips)


@step(compute="large", timeout="5m", retries=2)
def cut_clip(clip: Clip) -> ClipRecord:
    """Cut one clip and keep it. The record is written right here, so that whoever looks sees clip after clip appear."""
    with storage.workspace() as here:
        video = storage.download(clip.video, to=here / "video")
        seconds = media.cut(video, Span(clip.start, clip.end), to=here / "clip.mp4")
        file = storage.upload(here / "clip.mp4", f"clips/{clip.video_id}/{clip.clip_id}.mp4")
    record = ClipRecord(**clip.model_dump(), status="saved", file=file, seconds=seconds)
    records.save([record])
    return record


# ---- functions -------------------------------------------------------------------------------------------------------


@app.function(on=IdentifyClips, tags={"video": "event.data.video_id"})
def identify_clips(ctx: Context[IdentifyClips]) -> dict[str, int]:
    request = ctx.event.data

    ctx.progress(0, message="looking for scenes")
    clips = ctx.step.run(find_clips, request.video_id, request.video, request.shortest)
    ctx.progress(len(clips), len(clips), f"found {len(clips)} clips")

    if clips:
        ctx.step.run(save_records, [ClipRecord(**clip.model_dump()) for clip in clips])
        ctx.step.send_event("process", ProcessClips(video_id=request.video_id, clips=clips))
    return {"clips": len(clips)}


@app.function(
    on=ProcessClips,
    concurrency=Concurrency(1, key="event.data.video_id"),
    tags={"video": "event.data.video_id"},
)
def process_clips(ctx: Context[ProcessClips]) -> dict[str, list[str]]:
    request = ctx.event.data
    clips = request.clips

    ctx.progress(0, len(clips), "cutting")
    # A broken clip takes nothing away from the others. If more than half are broken, so is the video: the run fails.
    outcomes = ctx.step.map(cut_clip, clips, max_concurrency=4, tolerated_failures=0.5)

    saved = [outcome.clip_id for outcome in outcomes if not isinstance(outcome, StepError)]
    broken = [
        ClipRecord(**clip.model_dump(), status="broken", error=outcome.message)
        for clip, outcome in zip(clips, outcomes, strict=True)
        if isinstance(outcome, StepError)
    ]
    if broken:
        ctx.step.run("report-broken", save_records, broken)
    ctx.progress(len(clips), len(clips), f"{len(saved)} saved, {len(broken)} broken")

    result = {"saved": saved, "broken": [record.clip_id for record in broken]}
    ctx.step.send_event("processed", ClipsProcessed(video_id=request.video_id, **result))
    return result
