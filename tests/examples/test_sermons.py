"""The sermons pipeline: a real recording, really recognised, and found again by what was said in it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from imageio_ffmpeg import get_ffmpeg_exe

from stepwell import Run, RunStatus
from stepwell.testing import LocalStepwell
from stepwell_examples.sermons import app as sermons
from stepwell_examples.sermons import captions, demo, library, speech, storage
from stepwell_examples.sermons.app import TranscriptionRequest, app
from stepwell_examples.sermons.demo import RECORDING
from stepwell_examples.sermons.speech import Passage, Unreadable

UPLOAD = "uploads/sermon.ogg"
REQUEST = TranscriptionRequest(sermon_id="rock", audio=UPLOAD, piece_seconds=5)
SPOKEN = {"river", "morning", "water", "bread", "table", "window", "house", "rock", "storm", "neighbor", "peace"}


class Subscriber:
    """Somebody who subscribed to the topic, with a queue."""

    def __init__(self) -> None:
        queues, topics = boto3.client("sqs"), boto3.client("sns")
        self._queue = queues.create_queue(QueueName="subscriber")["QueueUrl"]
        arn = queues.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        topic = topics.create_topic(Name=sermons.TOPIC)["TopicArn"]
        topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def messages(self) -> list[tuple[str, str]]:
        """Subject and text of what has come since last time."""
        received = boto3.client("sqs").receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
        bodies = [json.loads(message["Body"]) for message in received.get("Messages", [])]
        return [(body["Subject"], body["Message"]) for body in bodies]


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    with LocalStepwell(app) as world:
        boto3.client("s3").create_bucket(Bucket=storage.BUCKET)
        storage.upload(RECORDING, UPLOAD)
        yield world


@pytest.fixture
def subscriber(local: LocalStepwell) -> Subscriber:
    return Subscriber()


def transcription(local: LocalStepwell, event_id: str) -> Run:
    run = local.run(event_id, function="transcribe-sermon")
    assert run is not None
    return run


def instead_of_listening(local: LocalStepwell, *words: str) -> None:
    """Recognising takes seconds; where it is not the point, every piece says these words."""
    local.mock_step("transcribe", returns=[Passage(start=0, end=1, text=" ".join(words))])


def stored(key: str) -> str:
    return boto3.client("s3").get_object(Bucket=storage.BUCKET, Key=key)["Body"].read().decode()


# ---- the pipeline ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_recording_is_transcribed_kept_and_found_by_what_was_said(
    local: LocalStepwell, subscriber: Subscriber
) -> None:
    event_id = local.send(REQUEST)
    local.run_until_idle()
    run = transcription(local, event_id)

    assert run.status == RunStatus.COMPLETED
    assert run.result["title"] == "The house on the rock"
    assert set(stored(run.result["text"]).split()) >= SPOKEN
    assert stored(run.result["captions"]).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:03.0")

    [best, *_] = sermons.search("who built his house on a rock?")
    assert "rock" in best.text
    assert best.sermon_id == "rock"
    assert best.start == pytest.approx(8.3, abs=0.3)

    assert subscriber.messages() == [("A recording was transcribed", "The house on the rock: 17 s, 5 passages")]
    finished = [event for event in local.client.events() if event.name == "Transcription.finished"]
    assert [event.data["sermon_id"] for event in finished] == ["rock"]


def test_progress_counts_the_pieces(local: LocalStepwell) -> None:
    instead_of_listening(local, "peace")
    event_id = local.send(REQUEST)
    local.run_until_idle()
    run = transcription(local, event_id)
    assert run.progress is not None
    assert (run.progress["done"], run.progress["total"]) == (3, 3)
    assert len([step for step in run.steps.values() if step.id == "transcribe"]) == 3


def test_passages_keep_their_place_in_the_whole_recording(local: LocalStepwell) -> None:
    instead_of_listening(local, "peace")
    event_id = local.send(REQUEST)
    local.run_until_idle()
    pieces = transcription(local, event_id).steps["transcode"].result
    assert [piece["start"] for piece in pieces] == [0, pytest.approx(8.3, abs=0.2), pytest.approx(15.4, abs=0.2)]


@pytest.mark.parametrize("step", ["transcode", "index", "save"])
def test_a_worker_that_dies_leaves_no_second_copy_in_the_library(local: LocalStepwell, step: str) -> None:
    instead_of_listening(local, "bread")
    local.crash_after(step)
    event_id = local.send(REQUEST)
    local.advance("20m")
    assert transcription(local, event_id).status == RunStatus.COMPLETED
    assert len(sermons.search("bread")) == 3, "one passage for each of the three pieces"


def test_a_sermon_that_comes_in_while_another_is_indexed_is_not_lost(
    local: LocalStepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead_of_listening(local, "bread")
    add, others = library.add, [("tuesday", "Another", [Passage(start=0, end=1, text="bread")])]

    def add_while_another_comes_in(*args: Any) -> None:
        while others:
            sermons.index(*others.pop())
        add(*args)

    monkeypatch.setattr(library, "add", add_while_another_comes_in)
    event_id = local.send(REQUEST.model_copy(update={"sermon_id": "monday", "piece_seconds": 60}))
    local.advance("1m")
    run = transcription(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert run.steps["index"].attempts == 2, "the first attempt found that the library had changed"
    assert sorted(hit.sermon_id for hit in sermons.search("bread")) == ["monday", "tuesday"]


def test_an_upload_that_is_no_recording_fails_at_once_and_is_reported(
    local: LocalStepwell, subscriber: Subscriber, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("The house on the rock")
    storage.upload(tmp_path / "notes.txt", "uploads/notes.txt")
    event_id = local.send(REQUEST.model_copy(update={"audio": "uploads/notes.txt"}))
    local.run_until_idle()

    run = transcription(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.message.startswith("not a recording")
    assert run.steps["read_metadata"].attempts == 1
    [(subject, text)] = subscriber.messages()
    assert subject == "A recording could not be transcribed"
    assert text.startswith("uploads/notes.txt: not a recording")


def test_an_upload_that_is_not_there_is_not_asked_for_twice(local: LocalStepwell) -> None:
    event_id = local.send(REQUEST.model_copy(update={"audio": "uploads/nothing.ogg"}))
    local.run_until_idle()
    run = transcription(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.message == f"there is no uploads/nothing.ogg in the bucket {storage.BUCKET}"
    assert run.steps["read_metadata"].attempts == 1


def test_a_recording_of_silence_fails_and_leaves_the_library_alone(local: LocalStepwell, tmp_path: Path) -> None:
    storage.upload(tone(tmp_path / "silence.flac", "anullsrc"), "uploads/silence.flac")
    event_id = local.send(REQUEST.model_copy(update={"audio": "uploads/silence.flac"}))
    local.run_until_idle()
    run = transcription(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert "nobody speaks" in run.error.message
    with pytest.raises(storage.Missing):
        sermons.search("dog")


def test_a_library_that_changed_meanwhile_is_not_overwritten(local: LocalStepwell, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    storage.replace(tmp_path / "mine", "library.db", version=None)
    version = storage.download("library.db", to=tmp_path / "copy")
    (tmp_path / "theirs").write_text("theirs")
    storage.replace(tmp_path / "theirs", "library.db", version)
    for outdated in (version, None):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            storage.replace(tmp_path / "mine", "library.db", outdated)
    assert stored("library.db") == "theirs"


@pytest.mark.slow
def test_the_demo_ends_well(local: LocalStepwell) -> None:
    assert demo.play(local, lambda sentence: None) == []


# ---- the tools, without AWS ------------------------------------------------------------------------------------------


def tone(to: Path, source: str) -> Path:
    """Four seconds from one of ffmpeg's generators."""
    generate = ["-f", "lavfi", "-t", "4", "-i", source]
    subprocess.run([get_ffmpeg_exe(), "-nostdin", "-v", "error", *generate, to], check=True)
    return to


def test_a_recording_says_how_long_it_is_and_who_speaks() -> None:
    recording = speech.describe(RECORDING)
    assert recording.title == "The house on the rock"
    assert recording.speaker == "First sermon"
    assert recording.seconds == pytest.approx(16.7, abs=0.1)
    assert recording.codec == "opus"


def test_a_film_without_sound_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no sound"):
        speech.describe(tone(tmp_path / "silent.mp4", "testsrc"))


def test_a_recording_is_cut_at_pauses_and_nothing_is_lost(tmp_path: Path) -> None:
    cuts = speech.split(RECORDING, tmp_path, at_least=3)
    assert [cut.start for cut in cuts[1:]] == [cut.end for cut in cuts[:-1]]
    assert cuts[0].start == 0
    assert cuts[-1].end == pytest.approx(16.7, abs=0.1)
    assert all(cut.end - cut.start >= 3 for cut in cuts[:-1])
    assert len(cuts) == 4
    for cut in cuts:
        assert speech.describe(cut.file).seconds == pytest.approx(cut.end - cut.start, abs=0.02)


def test_a_recording_without_pauses_stays_in_one_piece(tmp_path: Path) -> None:
    [cut] = speech.split(tone(tmp_path / "hum.flac", "sine"), tmp_path, at_least=1)
    assert (cut.start, cut.end) == (0, 4)


@pytest.mark.parametrize("source", ["anullsrc", "sine"])
def test_where_nobody_speaks_no_word_is_heard(tmp_path: Path, source: str) -> None:
    assert speech.recognise(tone(tmp_path / "sound.flac", source), tmp_path) == []


def test_the_library_finds_the_best_passage_whatever_the_word_endings(tmp_path: Path) -> None:
    texts = ["there was bread on the table", "a man who builds his house on the rock", "the rocks of the river"]
    passages = [Passage(start=second, end=second + 1, text=text) for second, text in enumerate(texts)]
    library.add(tmp_path / "db", "s", "Sermon", passages)
    assert [hit.text for hit in library.search(tmp_path / "db", "building houses, rock")] == [texts[1], texts[2]]
    assert library.search(tmp_path / "db", "camel") == []
    assert library.search(tmp_path / "db", '"?') == []


def test_a_sermon_added_again_replaces_the_one_before(tmp_path: Path) -> None:
    library.add(tmp_path / "db", "s", "First", [Passage(start=0, end=1, text="bread and water")])
    library.add(tmp_path / "db", "t", "Other", [Passage(start=0, end=1, text="water")])
    library.add(tmp_path / "db", "s", "Second", [Passage(start=0, end=1, text="water")])
    assert library.search(tmp_path / "db", "bread") == []
    assert sorted(hit.title for hit in library.search(tmp_path / "db", "water")) == ["Other", "Second"]


def test_captions_are_webvtt() -> None:
    passages = [Passage(start=0, end=3.05, text="peace"), Passage(start=3599.5, end=3661, text="be with you")]
    assert captions.webvtt(passages) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:03.050\npeace\n\n00:59:59.500 --> 01:01:01.000\nbe with you\n"
    )
