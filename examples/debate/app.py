"""A debate becomes a film in eight steps: script, two portraits at once, video, audio, composite, upload, record.

Written with `async def` from top to bottom. Every provider is somebody else's machine, so every step says what to do
when it is busy (429), down (5xx) or unwilling.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from stepwell import (
    AsyncContext,
    Backoff,
    Callback,
    EventModel,
    Failure,
    NonRetriableError,
    RetryAfterError,
    Stepwell,
    idempotency_key,
    step,
)

from . import fakes
from .fakes import Asset, Script, catalogue, file_store, painter, speaker, video_house, writer

app = Stepwell("debate")


class DebateRequested(EventModel, name="debate/requested"):
    debate_id: str
    topic: str
    pro: str
    con: str


@contextmanager
def asking_politely() -> Iterator[None]:
    """Say which refusals are worth another try. Anything else, a 503 say, is tried again with backoff."""
    try:
        yield
    except fakes.TooManyRequests as busy:
        raise RetryAfterError(busy.retry_after) from busy
    except fakes.Refused as refusal:
        raise NonRetriableError(str(refusal)) from refusal


# ---- steps -----------------------------------------------------------------------------------------------------------


@step(retries=5)
async def write_script(topic: str, pro: str, con: str) -> Script:
    with asking_politely():
        return await writer.write(topic, pro, con)


@step(retries=5)
async def paint_portrait(person: str) -> Asset:
    with asking_politely():
        return await painter.portrait(person, idempotency_key=idempotency_key())


@step(retries=6, backoff=Backoff("10s", factor=2, maximum="2m"))
async def read_aloud(script: Script) -> Asset:
    with asking_politely():
        return await speaker.read(script, idempotency_key=idempotency_key())


@step(timeout="5m")
def composite(video: Asset, audio: Asset) -> bytes:  # CPU-bound work is a plain function; it runs in a thread
    return fakes.mix(video, audio)


@step
async def upload(name: str, film: bytes) -> str:
    with asking_politely():
        return await file_store.upload(name, film)


@step
async def record(debate_id: str, status: str, detail: str) -> None:
    await catalogue.save(debate_id, status=status, detail=detail)


# ---- functions -------------------------------------------------------------------------------------------------------


async def report_failure(ctx: AsyncContext[Failure]) -> None:
    """Runs once a debate has failed for good, so that nobody waits for a film that will never come."""
    failure = ctx.event.data
    await ctx.step.run(record, failure.event.data["debate_id"], "failed", failure.error.message)


@app.function(on=DebateRequested, on_failure=report_failure)
async def make_debate(ctx: AsyncContext[DebateRequested]) -> dict[str, str]:
    debate = ctx.event.data

    script = await ctx.step.run(write_script, debate.topic, debate.pro, debate.con)

    pro, con = await asyncio.gather(
        ctx.step.run("portrait-pro", paint_portrait, debate.pro),
        ctx.step.run("portrait-con", paint_portrait, debate.con),
    )
    video, audio = await asyncio.gather(
        render_video(ctx, [pro, con]),
        ctx.step.run(read_aloud, script),
    )

    film = await ctx.step.run(composite, video, audio)
    url = await ctx.step.run(upload, f"{debate.debate_id}.mp4", film)
    await ctx.step.run(record, debate.debate_id, "published", url)
    return {"title": script.title, "url": url}


async def render_video(ctx: AsyncContext[DebateRequested], portraits: list[Asset]) -> Asset:
    """Order the video and wait for the webhook. Meanwhile nothing runs and nothing is paid for but the video."""

    @step(retries=5)
    def order_video(callback: Callback) -> None:
        ctx.logger.info("ordering a video of %d portraits", len(portraits))
        with asking_politely():
            video_house.order(portraits, callback_url=callback.url)

    answer = await ctx.step.wait_for_callback("video", submit=order_video, timeout="30m")
    return Asset(**answer)
