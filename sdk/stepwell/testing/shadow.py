"""The table as it was last seen to be written: what an item was before a write, which DynamoDB does not say."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stepwell.store.table import TTL_ATTRIBUTE, unmarshal
from stepwell.testing.itemsize import Attributes, item_size

Key = tuple[str, str]
KEYS = ("pk", "sk", "due_pk", "due_sk")


@dataclass(frozen=True, slots=True)
class Image:
    """An item at one moment."""

    attributes: Attributes
    size: int
    """Bytes."""

    @property
    def index_key(self) -> tuple[str, str] | None:
        """Where it stands in the index, if it does."""
        attributes = self.attributes
        if "due_pk" not in attributes or "due_sk" not in attributes:
            return None
        return attributes["due_pk"]["S"], attributes["due_sk"]["S"]

    @property
    def ttl(self) -> int | None:
        """When DynamoDB may delete it, epoch seconds."""
        return int(self.attributes[TTL_ATTRIBUTE]["N"]) if TTL_ATTRIBUTE in self.attributes else None

    @property
    def index_size(self) -> int:
        """Bytes of it in the index, which holds keys only."""
        return item_size({name: self.attributes[name] for name in KEYS if name in self.attributes})

    def plain(self) -> dict[str, Any]:
        """The item as Python values."""
        return unmarshal(self.attributes)


def image_of(attributes: Attributes) -> Image:
    """The image of an item."""
    return Image(attributes, item_size(attributes))


class Shadow:
    """What the table holds."""

    def __init__(self, read: Callable[[str, str], Mapping[str, Any] | None]) -> None:
        self._read = read
        self._images: dict[Key, Image] = {}
        self.due: dict[Key, str] = {}
        """The items that stand in the due part of the index, and when they are due."""
        self._expiring: list[tuple[int, Key]] = []  # a heap, which also holds what has been prolonged or deleted since

    def get(self, key: Key) -> Image | None:
        """The item under a key, as it is."""
        return self._images.get(key)

    def put(self, key: Key, attributes: Attributes) -> tuple[Image | None, Image]:
        """Note that an item was put; its images before and after."""
        before, after = self._images.get(key), image_of(attributes)
        self._keep(key, after)
        return before, after

    def refresh(self, key: Key) -> tuple[Image | None, Image | None]:
        """Note that an item was changed in a way only the table knows."""
        before = self._images.get(key)
        attributes = self._read(*key)
        after = image_of(attributes) if attributes is not None else None
        self._keep(key, after)
        return before, after

    def delete(self, key: Key) -> Image | None:
        """Note that an item was deleted; what it was."""
        before = self._images.get(key)
        self._keep(key, None)
        return before

    def expired(self, now: float) -> Iterator[Key]:
        """The items that DynamoDB may have deleted by `now` (epoch seconds), each once."""
        while self._expiring and self._expiring[0][0] <= now:
            ttl, key = heapq.heappop(self._expiring)
            image = self._images.get(key)
            if image is not None and image.ttl == ttl:
                yield key

    def items(self) -> Iterator[tuple[Key, Image]]:
        """Everything the table holds."""
        yield from list(self._images.items())

    def _keep(self, key: Key, image: Image | None) -> None:
        if image is None:
            self._images.pop(key, None)
            self.due.pop(key, None)
            return
        self._images[key] = image
        if image.ttl is not None:
            heapq.heappush(self._expiring, (image.ttl, key))
        index_key = image.index_key
        if index_key is not None and index_key[0].startswith("DUE#"):
            self.due[key] = index_key[1]
        else:
            self.due.pop(key, None)
