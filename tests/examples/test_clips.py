"""The clips pipeline: a real film, real scenes, real cuts, and a scene that cannot be cut."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from stepwell import Run, RunStatus
from stepwell.testing import LocalStepwell
from stepwell_examples.clips import demo, media, records, sample, storage
from stepwell_examples.clips.app import IdentifyClips, ProcessClips, app, cut_clip
from stepwell_examples.clips.media import Broken, Span
from stepwell_examples.clips.records import Clip, ClipRecord
from stepwell_examples.clips.status import Status, status

UPLOAD = "uploads/film.mp4"
IDENTIFY = IdentifyClips(video_id="film", video=UPLOAD)
SCENES = [(0, 4), (7, 11), (11, 14)]  # those with sound


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.film(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def damaged_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    film = sample.film(tmp_path_factory.mktemp("damaged") / "film.mp4")
    sample.damage(film, at=0.3)  # in the first scene
    return film


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    with LocalStepwell(app) as world:
        boto3.client("s3").create_bucket(Bucket=storage.BUCKET)
        records.create_table()
        yield world


def by_hand(*spans: tuple[float, float]) -> ProcessClips:
    """Clips an editor has chosen."""
    clips = [
        Clip(video_id="film", clip_id=f"{number:03}", video=UPLOAD, start=start, end=end)
        for number, (start, end) in enumerate(spans, start=1)
    ]
    return ProcessClips(video_id="film", clips=clips)


def run_of(local: LocalStepwell, event_id: str) -> Run:
    run = local.run(event_id)
    assert run is not None
    return run


def processing(local: LocalStepwell, event_id: str) -> Run:
    """The run of process-clips that followed the run of identify-clips."""
    return run_of(local, run_of(local, event_id).steps["process"].result)


# ---- the pipeline ----------------------------------------------------------------------------------------------------


def test_a_film_becomes_a_clip_for_every_scene_with_sound(local: LocalStepwell, film: Path, tmp_path: Path) -> None:
    storage.upload(film, UPLOAD)
    event_id = local.send(IDENTIFY)
    local.run_until_idle()

    run = processing(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert run.result == {"saved": ["001", "002", "003"], "broken": []}
    clips = records.of_video("film")
    assert [(clip.status, clip.start, clip.end) for clip in clips] == [("saved", *scene) for scene in SCENES]
    for clip in clips:
        assert clip.file is not None
        length = media.duration(storage.download(clip.file, to=tmp_path / "clip.mp4"))
        assert length == pytest.approx(clip.end - clip.start, abs=0.1)


def test_a_damaged_scene_is_reported_and_the_others_are_saved(local: LocalStepwell, damaged_film: Path) -> None:
    storage.upload(damaged_film, UPLOAD)
    event_id = local.send(IDENTIFY)
    local.run_until_idle()

    assert processing(local, event_id).result == {"saved": ["002", "003"], "broken": ["001"]}
    [broken, *others] = records.of_video("film")
    assert (broken.status, broken.file) == ("broken", None)
    assert broken.error
    assert [clip.status for clip in others] == ["saved", "saved"]
    [processed] = [event for event in local.client.events() if event.name == "clips/processed"]
    assert processed.data == {"video_id": "film", "saved": ["002", "003"], "broken": ["001"]}


def test_a_clip_beyond_the_end_of_the_film_is_broken_and_says_why(local: LocalStepwell, film: Path) -> None:
    storage.upload(film, UPLOAD)
    event_id = local.send(by_hand((1, 2), (90, 95)))
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    [saved, broken] = records.of_video("film")
    assert saved.status == "saved"
    assert broken.error == "there is nothing from 90 s to 95 s in a video of 14 s"


def test_if_more_than_half_are_broken_the_run_fails(local: LocalStepwell, film: Path) -> None:
    storage.upload(film, UPLOAD)
    event_id = local.send(by_hand((1, 2), (90, 95), (95, 99)))
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert "there is nothing from" in run.error.message


def test_what_is_no_film_fails_without_another_attempt(local: LocalStepwell, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Scene one: a house on a rock.")
    storage.upload(tmp_path / "notes.txt", UPLOAD)
    event_id = local.send(IDENTIFY)
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.steps["find_clips"].attempts <= 1
    assert records.of_video("film") == []


def test_status_shows_clip_after_clip_while_the_run_goes_on(local: LocalStepwell, film: Path) -> None:
    storage.upload(film, UPLOAD)
    seen: list[Status] = []

    def look_and_cut(clip: Clip) -> ClipRecord:
        seen.append(status(local.client, run_of(local, event_id).id))
        return cut_clip(clip)

    local.mock_step("cut_clip", calls=look_and_cut)
    event_id = local.send(by_hand(*SCENES))
    local.run_until_idle()
    seen.append(status(local.client, run_of(local, event_id).id))

    assert {state.message for state in seen[:-1]} == {"cutting"}
    saved = [sum(clip.status == "saved" for clip in state.clips) for state in seen]
    assert saved == sorted(saved)
    assert (saved[0], saved[-1]) == (0, 3)
    assert seen[-1].run == RunStatus.COMPLETED
    assert seen[-1].message == "3 saved, 0 broken"


def test_identified_clips_are_known_before_they_are_cut(local: LocalStepwell, film: Path) -> None:
    storage.upload(film, UPLOAD)
    seen: list[ClipRecord] = []

    def look_and_cut(clip: Clip) -> ClipRecord:
        seen.extend(records.of_video("film"))
        return cut_clip(clip)

    local.mock_step("cut_clip", calls=look_and_cut)
    event_id = local.send(IDENTIFY)
    local.run_until_idle()
    assert [clip.status for clip in seen[:3]] == ["identified"] * 3
    found = status(local.client, run_of(local, event_id).id)
    assert (found.run, found.message) == (RunStatus.COMPLETED, "found 3 clips")


@pytest.mark.parametrize("step", ["find_clips", "cut_clip", "save_records"])
def test_a_worker_that_dies_costs_no_clip_and_makes_none_twice(local: LocalStepwell, film: Path, step: str) -> None:
    storage.upload(film, UPLOAD)
    local.crash_after(step)
    event_id = local.send(IDENTIFY)
    local.advance("30m")
    assert processing(local, event_id).status == RunStatus.COMPLETED
    assert [clip.status for clip in records.of_video("film")] == ["saved"] * 3


def test_the_demo_ends_well() -> None:
    said: list[str] = []
    with LocalStepwell(app) as local:
        assert demo.play(local, said.append) == []
    assert "The run is completed: 2 saved, 1 broken." in said


# ---- the tools, without AWS ------------------------------------------------------------------------------------------


def test_scenes_and_silences_are_found_in_a_film(film: Path) -> None:
    assert media.duration(film) == 14
    assert media.find_spans(film, shortest=1) == SCENES
    assert media.find_spans(film, shortest=3.5) == SCENES[:2]


@pytest.mark.parametrize(
    ("scenes", "silences", "expected"),
    [
        ([], [], [(0, 10)]),
        ([4], [], [(0, 4), (4, 10)]),
        ([4, 4.1], [], [(0, 4), (4.1, 10)]),
        ([], [Span(3, 6)], [(0, 3), (6, 10)]),
        ([5], [Span(3, 6)], [(0, 3), (6, 10)]),
        ([], [Span(0, 10)], []),
    ],
)
def test_clips_lie_between_scene_changes_and_outside_silences(
    scenes: list[float], silences: list[Span], expected: list[tuple[float, float]]
) -> None:
    assert media.between(10, scenes, silences, shortest=1) == expected


def test_a_clip_has_the_length_that_was_ordered(film: Path, tmp_path: Path) -> None:
    length = media.cut(film, Span(7.5, 9.25), tmp_path / "clip.mp4")
    assert length == pytest.approx(1.75, abs=0.15), "whole pictures, of which there are 15 a second"


@pytest.mark.parametrize("span", [Span(90, 95), Span(12, 20), Span(5, 3), Span(-1, 2)])
def test_a_part_the_film_does_not_have_cannot_be_cut(film: Path, tmp_path: Path, span: Span) -> None:
    with pytest.raises(Broken, match="there is nothing from"):
        media.cut(film, span, tmp_path / "clip.mp4")


def test_damage_to_one_scene_leaves_the_others_whole(damaged_film: Path, tmp_path: Path) -> None:
    with pytest.raises(Broken):
        media.cut(damaged_film, Span(0, 4), tmp_path / "clip.mp4")
    assert media.cut(damaged_film, Span(7, 11), tmp_path / "clip.mp4") == pytest.approx(4, abs=0.1)


def test_a_recording_without_pictures_is_no_film(tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    media._ffmpeg("-f", "lavfi", "-i", "sine=d=1", sound)
    with pytest.raises(Broken, match="no pictures"):
        media.duration(sound)
