"""Sermons: a recording comes in; a transcript, captions and a searchable library come out.

An hour of sound is too much for one worker. So it is cut at pauses into pieces of a few minutes, each transcribed in a
worker of its own: a crash costs one piece, and the longest sermon takes no longer than its longest piece.
"""

import os

import boto3
from pydantic import BaseModel

from stepwell import Context, EventModel, Failure, NonRetriableError, Singleton, Stepwell, idempotency_key, step

from . import captions, library, speech, storage
from .library import Hit
from .speech import Passage, Recording

app = Stepwell("sermons")

LIBRARY = "library.db"
TOPIC = os.environ.get("SERMONS_TOPIC", "sermons")


# ---- events ----------------------------------------------------------------------------------------------------------


class TranscriptionRequest(EventModel, name="Transcription.request"):
    sermon_id: str
    audio: str  # key of the recording in the bucket
    piece_seconds: float = 300  # how much sound one worker takes


class TranscriptionFinished(EventModel, name="Transcription.finished"):
    sermon_id: str
    transcript: str  # key of the text


# ---- steps: files are fetched by key, worked on in a temporary directory, and kept under a new key -------------------


class Piece(BaseModel):
    start: float  # seconds from the beginning of the recording
    audio: str  # key


class Transcript(BaseModel):
    text: str  # keys
    captions: str


@step(timeout="1m")
def read_metadata(audio: str) -> Recording:
    with storage.workspace() as here:
        storage.download(audio, to=here / "recording")
        return speech.describe(here / "recording")


@step(timeout="10m")
def transcode(audio: str, piece_seconds: float, under: str) -> list[Piece]:
    """Turn any recording into what the recogniser understands, cut at pauses. `under`: where to keep the pieces."""
    with storage.workspace() as here:
        storage.download(audio, to=here / "recording")
        return [
            Piece(start=cut.start, audio=storage.upload(cut.file, f"{under}/{cut.file.name}"))
            for cut in speech.split(here / "recording", into=here, at_least=piece_seconds)
        ]


@step(compute="large", timeout="14m", retries=2)
def transcribe(piece: Piece) -> list[Passage]:
    with storage.workspace() as here:
        storage.download(piece.audio, to=here / "piece")
        passages = speech.recognise(here / "piece", into=here)
    return [passage.later(piece.start) for passage in passages]


@step(retries=8)
def index(sermon_id: str, title: str, passages: list[Passage]) -> None:
    """Add the sermon to the library. If two come at once, the slower fails here; its retry reads the newer library."""
    with storage.workspace() as here:
        try:
            version = storage.download(LIBRARY, to=here / LIBRARY)
        except storage.Missing:
            version = None  # the first sermon of all
        library.add(here / LIBRARY, sermon_id, title, passages)
        storage.replace(here / LIBRARY, LIBRARY, version)


@step
def save(sermon_id: str, passages: list[Passage]) -> Transcript:
    with storage.workspace() as here:
        (here / "text").write_text("\n".join(passage.text for passage in passages), encoding="utf-8")
        (here / "captions").write_text(captions.webvtt(passages), encoding="utf-8")
        return Transcript(
            text=storage.upload(here / "text", f"transcripts/{sermon_id}.txt"),
            captions=storage.upload(here / "captions", f"transcripts/{sermon_id}.vtt"),
        )


@step
def notify(subject: str, message: str) -> None:
    """Tell whoever subscribed to the topic. SNS may deliver twice; the key lets a subscriber notice."""
    sns = boto3.client("sns")
    sns.publish(
        TopicArn=sns.create_topic(Name=TOPIC)["TopicArn"],  # answers with the topic if it is there already
        Subject=subject,
        Message=message,
        MessageAttributes={"idempotency_key": {"DataType": "String", "StringValue": idempotency_key()}},
    )


# ---- functions -------------------------------------------------------------------------------------------------------


def report_failure(ctx: Context[Failure]) -> None:
    failure = ctx.event.data
    recording = failure.event.data["audio"]
    ctx.step.run(notify, "A recording could not be transcribed", f"{recording}: {failure.error.message}")


@app.function(
    on=TranscriptionRequest,
    on_failure=report_failure,
    singleton=Singleton("cancel", key="event.data.sermon_id"),
    tags={"sermon": "event.data.sermon_id"},
)
def transcribe_sermon(ctx: Context[TranscriptionRequest]) -> dict[str, object]:
    request = ctx.event.data
    sermon_id = request.sermon_id

    recording = ctx.step.run(read_metadata, request.audio)
    title = recording.title or sermon_id
    pieces = ctx.step.run(transcode, request.audio, request.piece_seconds, f"pieces/{ctx.run_id}")

    transcribing = [ctx.step.submit(transcribe, piece) for piece in pieces]
    passages: list[Passage] = []
    for done, future in enumerate(transcribing, start=1):
        passages += future.result()
        ctx.progress(done, len(pieces), f"transcribed {done} of {len(pieces)} pieces")
    if not passages:
        raise NonRetriableError(f"nobody speaks in {request.audio}")

    ctx.step.run(index, sermon_id, title, passages)
    transcript = ctx.step.run(save, sermon_id, passages)
    ctx.step.run(notify, "A recording was transcribed", f"{title}: {recording.seconds:.0f} s, {len(passages)} passages")
    ctx.step.send_event("finished", TranscriptionFinished(sermon_id=sermon_id, transcript=transcript.text))
    return {"title": title, "passages": len(passages), **transcript.model_dump()}


def search(question: str) -> list[Hit]:
    """What the library knows about it, best answer first."""
    with storage.workspace() as here:
        storage.download(LIBRARY, to=here / LIBRARY)
        return library.search(here / LIBRARY, question)
