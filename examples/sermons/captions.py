"""Captions in WebVTT (https://www.w3.org/TR/webvtt1/), which every browser shows under a <video> or <audio>."""

from .speech import Passage


def webvtt(passages: list[Passage]) -> str:
    """The passages as captions."""
    cues = [f"{_clock(passage.start)} --> {_clock(passage.end)}\n{passage.text}\n" for passage in passages]
    return "WEBVTT\n\n" + "\n".join(cues)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"
