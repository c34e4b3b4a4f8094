"""Speech on disk: what a recording is, where its pauses are, which words it says. Paths in, values out; no AWS in here.

The tools come from PyPI: imageio-ffmpeg carries an ffmpeg binary, pocketsphinx an acoustic model of English.
"""

import re
import subprocess
import wave
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from imageio_ffmpeg import get_ffmpeg_exe
from pocketsphinx import Decoder
from pydantic import BaseModel

from stepwell import NonRetriableError

SAMPLE_RATE = 16_000  # Hz: what the acoustic model was trained on
PAUSE = "noise=-35dB:d=0.25"  # a quarter of a second of quiet is a pause between sentences
QUIET = 580  # of 32,767: the same -35 dB, as the loudest sample
UTTERANCE = 2.0  # seconds: shorter than this, the recogniser has too little context to tell words apart
HYPOTHESES = 3000  # followed at a time: a tenth of the default, a third faster, and the words come out the same


class Unreadable(NonRetriableError):
    """This file is no recording, and trying again will not make it one."""


class FfmpegFailed(RuntimeError):
    """ffmpeg gave up; its last words say why."""


class Recording(BaseModel):
    title: str | None
    speaker: str | None
    seconds: float
    codec: str


class Passage(BaseModel):
    """A few words that were spoken in one breath."""

    start: float  # seconds from the beginning of the recording
    end: float
    text: str

    def later(self, seconds: float) -> "Passage":
        """The same passage in a recording that began that much earlier."""
        return Passage(start=round(self.start + seconds, 2), end=round(self.end + seconds, 2), text=self.text)


def describe(path: Path) -> Recording:
    """Length, codec and tags of a recording. Raises Unreadable if it holds no sound."""
    try:
        report = _ffmpeg("-i", path, "-t", "0", "-f", "null", "-")
    except FfmpegFailed as error:
        raise Unreadable(f"not a recording: {error}") from error
    codec = re.search(r"Stream #.*Audio: (\w+)", report)
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", report)
    if codec is None or length is None:
        raise Unreadable("there is no sound in this file")
    hours, minutes, seconds = length.groups()
    return Recording(
        title=_tag("title", report),
        speaker=_tag("artist", report),
        seconds=int(hours) * 3600 + int(minutes) * 60 + float(seconds),
        codec=codec[1],
    )


class Cut(NamedTuple):
    """A stretch of a recording, as a WAV file of its own."""

    start: float  # seconds from the beginning of the recording
    end: float
    file: Path


def split(source: Path, into: Path, at_least: float) -> list[Cut]:
    """Cut a recording at pauses into stretches of at least that many seconds (the last may be shorter)."""
    whole = str(into / "whole.wav")
    as_speech = ["-vn", "-ac", "1", "-ar", str(SAMPLE_RATE), "-c:a", "pcm_s16le"]
    report = _ffmpeg("-i", source, "-af", f"silencedetect={PAUSE}", *as_speech, whole)

    bounds = [0.0]
    for end, length in re.findall(r"silence_end: ([\d.]+) \| silence_duration: ([\d.]+)", report):
        middle = float(end) - float(length) / 2
        if middle - bounds[-1] >= at_least:
            bounds.append(middle)

    cuts = []
    with wave.open(whole, "rb") as sound:
        bounds.append(sound.getnframes() / SAMPLE_RATE)
        for number, (start, end) in enumerate(pairwise(bounds)):
            cut = Cut(round(start, 2), round(end, 2), into / f"{number:04}.wav")
            with wave.open(str(cut.file), "wb") as file:
                file.setparams(sound.getparams())
                file.writeframes(sound.readframes(round(end * SAMPLE_RATE) - sound.tell()))
            cuts.append(cut)
    return cuts


def recognise(source: Path, into: Path) -> list[Passage]:
    """Write down what is said in a recording, passage by passage. `into` is a directory for working files."""
    decoder = Decoder(samprate=SAMPLE_RATE, maxhmmpf=HYPOTHESES, loglevel="FATAL")
    passages = []
    for cut in split(source, into, at_least=UTTERANCE):
        with wave.open(str(cut.file), "rb") as sound:
            samples = sound.readframes(sound.getnframes())
        if max(memoryview(samples).cast("h"), default=0) < QUIET:
            continue  # in silence too, the recogniser would hear a word
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp()
        if heard is not None and heard.hypstr:
            passages.append(Passage(start=cut.start, end=cut.end, text=heard.hypstr))
    return passages


def _ffmpeg(*arguments: str | Path) -> str:
    """Run ffmpeg and return its report, which goes to standard error."""
    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-y", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if finished.returncode:
        raise FfmpegFailed(finished.stderr.strip().rpartition("\n")[2])
    return finished.stderr


def _tag(name: str, report: str) -> str | None:
    found = re.search(rf"^\s+{name}\s*: (.+)$", report, re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else None
