"""The AI providers behind the debate, faked: writer, painter, video house, speaker, file store and catalogue.

They live in memory and follow a clock, so that rate limits, outages and rendering times mean something: a provider that
is asked too soon answers 429 with a Retry-After, one that is down answers 503 until it is up again, and the video house
answers minutes later at the callback's URL. Paid work is keyed: a request that comes back with the same idempotency key gets
the answer it already paid for.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Lock
from typing import Any

Clock = Callable[[], datetime]
Post = Callable[[str, dict[str, Any]], object]
"""How the video house reaches us: POST a body as JSON to a URL."""


def wall_clock() -> datetime:
    return datetime.now(UTC)


class TooManyRequests(Exception):
    """HTTP 429: come back after `retry_after`."""

    def __init__(self, provider: str, retry_after: timedelta) -> None:
        super().__init__(f"{provider} answered 429, Retry-After: {retry_after.total_seconds():.0f}")
        self.retry_after = retry_after


class ServiceUnavailable(Exception):
    """HTTP 503: the provider is down."""


class Refused(Exception):
    """HTTP 422: the provider will not do this, however often it is asked."""


@dataclass(frozen=True)
class Asset:
    """Something a provider made and keeps for us."""

    url: str
    seconds: int = 0


@dataclass(frozen=True)
class Script:
    """Who says what."""

    title: str
    lines: list[tuple[str, str]]  # (speaker, words), in order


class Provider:
    """What all providers share: a clock, one request every `interval`, and outages on demand."""

    interval = timedelta(0)

    def __init__(self) -> None:
        self._lock = Lock()
        self.reset(wall_clock)

    def reset(self, clock: Clock) -> None:
        """Forget everything and follow this clock."""
        self._clock = clock
        self._up_again = self._next_turn = clock()
        self.answers: list[int] = []  # HTTP status of every request so far
        self._paid: dict[str, Asset] = {}  # what was made, by idempotency key

    def go_down(self, lasts: timedelta) -> None:
        """Answer 503 from now on, for that long."""
        self._up_again = self._clock() + lasts

    def _admit(self) -> None:
        now = self._clock()
        if now < self._up_again:
            self.answers.append(503)
            raise ServiceUnavailable(f"{type(self).__name__.lower()} answered 503")
        if now < self._next_turn:
            self.answers.append(429)
            raise TooManyRequests(type(self).__name__.lower(), self._next_turn - now)
        self._next_turn = now + self.interval

    def _make(self, asset: Asset, idempotency_key: str) -> Asset:
        with self._lock:
            if idempotency_key not in self._paid:
                self._admit()
                self._paid[idempotency_key] = asset
            self.answers.append(200)
            return self._paid[idempotency_key]

    @property
    def paid(self) -> int:
        """How many pieces of work we will find on the bill."""
        return len(self._paid)


class Writer(Provider):
    """Writes the script. It refuses topics its terms of use do not allow."""

    forbidden = ("weapons",)

    async def write(self, topic: str, pro: str, con: str) -> Script:
        with self._lock:
            self._admit()
            if any(word in topic.lower() for word in self.forbidden):
                self.answers.append(422)
                raise Refused(f"the topic {topic!r} is against the terms of use")
            self.answers.append(200)
        return Script(
            title=topic,
            lines=[
                (pro, f"{topic}? Yes, and we should have done it years ago."),
                (con, "That is what was said of every mistake worth remembering."),
                (pro, "And of everything we would not want to miss today."),
                (con, "Then let us do it slowly, and keep the receipts."),
            ],
        )


class Painter(Provider):
    """Paints portraits, one every twenty seconds."""

    interval = timedelta(seconds=20)

    async def portrait(self, person: str, *, idempotency_key: str) -> Asset:
        return self._make(Asset(f"https://painter.example/{_digest(person)}.png"), idempotency_key)


class Speaker(Provider):
    """Reads a script aloud."""

    async def read(self, script: Script, *, idempotency_key: str) -> Asset:
        words = " ".join(line for _, line in script.lines)
        recording = Asset(f"https://speaker.example/{_digest(words)}.wav", seconds=len(words) // 15)
        return self._make(recording, idempotency_key)


@dataclass
class Rendering:
    """A video the house works on, and whom to tell."""

    url: str
    asset: Asset
    ready_at: datetime


class VideoHouse(Provider):
    """Takes orders at once and answers by webhook four minutes later."""

    rendering_time = timedelta(minutes=4)

    def reset(self, clock: Clock) -> None:
        super().reset(clock)
        self.orders: dict[str, Rendering] = {}  # by callback URL
        self._told: set[str] = set()

    def order(self, portraits: list[Asset], *, callback_url: str) -> None:
        """Start rendering; the answer goes to `callback_url`. The same order again changes nothing."""
        with self._lock:
            self._admit()
            self.answers.append(202)
            asset = Asset(f"https://video.example/{_digest(*(p.url for p in portraits))}.mp4", seconds=24)
            ready_at = self._clock() + self.rendering_time
            self.orders.setdefault(callback_url, Rendering(callback_url, asset, ready_at))

    def call_back(self, post: Post) -> int:
        """Tell those whose video is ready by now; how many were told."""
        now = self._clock()
        ready = [order for order in self.orders.values() if order.ready_at <= now and order.url not in self._told]
        for order in ready:
            post(order.url, {"url": order.asset.url, "seconds": order.asset.seconds})
            self._told.add(order.url)
        return len(ready)

    def give_up(self, post: Post, reason: str) -> None:
        """Tell everybody who still waits that their video will not come."""
        for url in self.orders.keys() - self._told:
            post(f"{url}/fail", {"message": reason})
            self._told.add(url)


class FileStore(Provider):
    """Files by name. Uploading one again overwrites it."""

    def reset(self, clock: Clock) -> None:
        super().reset(clock)
        self.files: dict[str, bytes] = {}

    async def upload(self, name: str, content: bytes) -> str:
        with self._lock:
            self._admit()
            self.answers.append(200)
            self.files[name] = content
        return f"https://files.example/{name}"


class Catalogue(Provider):
    """What became of each debate; one row for an id, the last write stands."""

    def reset(self, clock: Clock) -> None:
        super().reset(clock)
        self.rows: dict[str, dict[str, str]] = {}

    async def save(self, debate_id: str, **row: str) -> None:
        with self._lock:
            self._admit()
            self.answers.append(200)
            self.rows[debate_id] = row


def mix(video: Asset, audio: Asset) -> bytes:
    """Stand-in for ffmpeg: the edit list of a film, as bytes."""
    tracks = {"video": video.url, "audio": audio.url, "seconds": min(video.seconds, audio.seconds)}
    return json.dumps(tracks, sort_keys=True).encode()


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:12]


writer = Writer()
painter = Painter()
speaker = Speaker()
video_house = VideoHouse()
file_store = FileStore()
catalogue = Catalogue()


def reset(clock: Clock = wall_clock) -> None:
    """Start with an empty world that follows this clock."""
    for provider in (writer, painter, speaker, video_house, file_store, catalogue):
        provider.reset(clock)
