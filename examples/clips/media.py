"""Video on disk: what it is, where its scenes are, and cutting clips out of it. Paths in, values out; no AWS in here.

The tool is ffmpeg, whose binary comes from PyPI with imageio-ffmpeg.
"""

import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from imageio_ffmpeg import get_ffmpeg_exe

from stepwell import NonRetriableError

SCENE_CHANGE = "scdet=threshold=15"  # per cent of the picture that is new
SILENCE = "silencedetect=noise=-40dB:d=0.5"
TOLERANCE = 0.5  # seconds a clip may be shorter than ordered: frames and sound packets do not end at the same time


class Broken(NonRetriableError):
    """This video, or this part of it, cannot be read; the message says why. Every attempt would read the same bytes."""


class Span(NamedTuple):
    start: float  # seconds
    end: float


def duration(video: Path) -> float:
    """Seconds. Raises Broken if this is no video."""
    report = _ffmpeg("-i", video, "-t", "0", "-f", "null", "-")
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", report)
    if length is None or "Video:" not in report:
        raise Broken("there are no pictures in this file")
    hours, minutes, seconds = length.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def find_spans(video: Path, shortest: float) -> list[Span]:
    """The stretches worth a clip: one scene each, with something to hear, not shorter than `shortest` seconds."""
    end = duration(video)
    report = _ffmpeg("-i", video, "-vf", SCENE_CHANGE, "-af", SILENCE, "-f", "null", "-")
    scenes = [float(time) for time in re.findall(r"lavfi\.scd\.time: ([\d.]+)", report)]
    silences = [
        Span(float(until) - float(length), float(until))
        for until, length in re.findall(r"silence_end: ([\d.]+) \| silence_duration: ([\d.]+)", report)
    ]
    return between(end, scenes, silences, shortest)


def between(end: float, scenes: list[float], silences: list[Span], shortest: float) -> list[Span]:
    """What lies between scene changes and outside silences, without the scraps."""
    edges = sorted({0.0, end, *scenes, *(edge for silence in silences for edge in silence)})
    stretches = [Span(round(start, 2), round(stop, 2)) for start, stop in pairwise(edges) if stop - start >= shortest]
    return [
        stretch
        for stretch in stretches
        if not any(silence.start < (stretch.start + stretch.end) / 2 < silence.end for silence in silences)
    ]


def cut(video: Path, span: Span, to: Path) -> float:
    """Cut out a clip; returns its length in seconds. Raises Broken if the video has no such part or it is damaged."""
    end = duration(video)
    if not 0 <= span.start < span.end <= end + TOLERANCE:
        raise Broken(f"there is nothing from {span.start:g} s to {span.end:g} s in a video of {end:g} s")
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-c:a", "aac", "-movflags", "+faststart"]
    strict = ["-xerror", "-err_detect", "explode"]  # otherwise ffmpeg paints damage over in grey and calls it done
    _ffmpeg(*strict, "-ss", f"{span.start}", "-to", f"{span.end}", "-i", video, *encode, to)
    length = duration(to)
    if length < span.end - span.start - TOLERANCE:
        raise Broken(f"only {length:g} s of {span.end - span.start:g} s could be read")
    return length


def _ffmpeg(*arguments: str | Path) -> str:
    """Run ffmpeg and return its report, which goes to standard error.

    Raises Broken with the first error in the report, or ChildProcessError if ffmpeg was killed, which says nothing
    about the video.
    """
    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "level+info", "-y", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if finished.returncode < 0:
        raise ChildProcessError(f"ffmpeg was killed by signal {-finished.returncode}")
    if finished.returncode > 0:
        error = re.search(r"\[(?:error|fatal)\] (.+)", finished.stderr)
        raise Broken(error[1] if error else f"ffmpeg ended with {finished.returncode}")
    return finished.stderr
