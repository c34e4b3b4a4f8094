"""Values to JSON and back by their annotations, with pydantic. Only the worker and clients import this."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import TypeAliasType

from stepwell.codec import loads
from stepwell.errors import NotSerializable

_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_PREVIEW = 100


class Typed:
    """How values of one annotation are written and read back. `Any` means plain JSON."""

    def __init__(self, annotation: Any, what: str) -> None:
        self.what = what
        self.annotation = annotation
        self._adapter = None if annotation is Any else _adapter(annotation, what)

    def encode(self, value: Any) -> str:
        """The JSON text. Raises NotSerializable naming what it is and which type stands in the way."""
        try:
            if self._adapter is None:
                return to_json(value, inf_nan_mode="constants", bytes_mode="base64").decode()
            return self._adapter.dump_json(value, warnings=False).decode()
        except (PydanticSerializationError, UnicodeError, ValueError, RecursionError, AttributeError) as error:
            advice = "Return plain data, a pydantic model or a dataclass."
            if "utf-8" in str(error):  # a pydantic model writes its bytes as text unless it says otherwise
                advice = (
                    "Bytes in a pydantic model need model_config = "
                    'ConfigDict(ser_json_bytes="base64", val_json_bytes="base64").'
                )
            raise NotSerializable(
                f"{self.what} is a {type(value).__name__} that cannot be written as JSON: {error}. {advice}"
            ) from error

    def decode(self, text: str) -> Any:
        """The value. Raises NotSerializable if it does not fit its annotation."""
        if self._adapter is None:
            return loads(text)
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            raise NotSerializable(f"{self.what} does not fit its annotation {self.annotation!r}: {error}") from error

    def round_trip(self, value: Any) -> str:
        """The JSON text, proven to be readable: what is recorded can be replayed."""
        text = self.encode(value)
        if self._adapter is not None:
            self.decode(text)
        return text


def returns(fn: Callable[..., Any], what: str) -> Typed:
    """How the results of a callable are written and read back."""
    return Typed(fn if inspect.isclass(fn) else _hints(fn, what).get("return", Any), what)


def parameters(fn: Callable[..., Any], what: str) -> dict[str, Any]:
    """The annotations of a callable's parameters."""
    return {name: hint for name, hint in _hints(fn, what).items() if name != "return"}


def _hints(fn: Any, what: str) -> dict[str, Any]:
    if inspect.isfunction(fn) and (known := _KNOWN.get(fn)) is not None:
        return known
    while isinstance(fn, functools.partial):
        fn = fn.func
    target = inspect.unwrap(fn)
    if inspect.ismethod(target):
        target = target.__func__
    if not inspect.isfunction(target):
        target = type(target).__dict__.get("__call__")
        if not inspect.isfunction(target):
            return {}
    known = _KNOWN.get(target)
    if known is None:
        known = _KNOWN[target] = _read_hints(target, what)
    return known


_KNOWN: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
"""The annotations of each function for as long as it lives: a lambda must not be kept with all that it has captured."""


def _read_hints(target: Any, what: str) -> dict[str, Any]:
    try:
        if not target.__annotations__:
            return {}
        cells = inspect.getclosurevars(target).nonlocals
        return typing.get_type_hints(target, localns=dict(cells) or None, include_extras=True)
    except NameError as error:
        raise NotSerializable(
            f"{what}: the annotation of {target.__qualname__} names {error.name!r}, which does not exist at run time. "
            "Import it outside of `if TYPE_CHECKING`, or define it at module level."
        ) from error
    except TypeError:
        return {}


def _adapter(annotation: Any, what: str) -> TypeAdapter[Any]:
    try:
        return _cached_adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _new_adapter(annotation)
    except PydanticSchemaGenerationError as error:
        raise NotSerializable(f"{what}: pydantic knows no way to write {annotation!r}: {error}") from error


def _new_adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=_CONFIG)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        # Models, dataclasses and TypedDicts may bring a configuration of their own, so pydantic refuses ours beside
        # them. Behind an alias ours holds wherever they bring none, and bytes in a dataclass need not be UTF-8.
        alias: Any = TypeAliasType("Result", annotation)
        return TypeAdapter(alias, config=_CONFIG)


_cached_adapter = functools.lru_cache(maxsize=4096)(_new_adapter)


# ---- fingerprints of arguments


def fingerprint(arguments: tuple[tuple[Any, ...], Mapping[str, Any]]) -> tuple[str, str]:
    """A text that is equal for equal arguments in every process, and its beginning to show to people.

    What cannot be compared across processes (a function, an open file) counts by its type only.
    """
    positional, keywords = arguments
    try:
        text = _FINGERPRINT.encode([list(positional), dict(keywords)])
    except (TypeError, ValueError, RecursionError):
        text = json.dumps([[type(value).__name__ for value in positional], sorted(keywords)])
    shown = text[1:-1].removesuffix(",{}")
    return text, shown if len(shown) <= _PREVIEW else shown[: _PREVIEW - 3] + "..."


def _comparable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(element, default=_comparable, sort_keys=True) for element in value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    try:
        return to_json(value).decode()  # dates, UUIDs, paths and all else pydantic writes
    except (PydanticSerializationError, ValueError):
        return f"<{type(value).__qualname__}>"


_FINGERPRINT = json.JSONEncoder(default=_comparable, sort_keys=True, separators=(",", ":"))
