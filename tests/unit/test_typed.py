"""Values by their annotations, and fingerprints of arguments."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stepwell.errors import NotSerializable
from stepwell.typed import Typed, fingerprint, parameters, returns

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Model(BaseModel):
    n: int
    at: datetime | None = None


@dataclass
class Data:
    raw: bytes
    ratio: float = float("inf")


class Color(Enum):
    RED = "r"


@given(
    st.binary(), st.decimals(allow_nan=False, allow_infinity=False), st.datetimes(timezones=st.just(UTC)), st.uuids()
)
def test_values_survive_by_their_annotation(raw: bytes, number: Decimal, at: datetime, uuid: UUID) -> None:
    typed = Typed(tuple[bytes, Decimal, datetime, UUID], "it")
    assert typed.decode(typed.round_trip((raw, number, at, uuid))) == (raw, number, at, uuid)


def test_bytes_and_infinity_survive_in_dataclasses_too() -> None:
    typed = Typed(list[Data], "it")
    assert typed.decode(typed.encode([Data(b"\xff\x00")])) == [Data(b"\xff\x00")]
    alone = Typed(Data, "it")
    assert alone.decode(alone.encode(Data(b"\xfe", 1.5))) == Data(b"\xfe", 1.5)


@pytest.mark.parametrize("value", ["text", None, {"n": "many"}, object()])
def test_what_does_not_fit_its_annotation_is_refused_when_it_is_written(value: Any) -> None:
    with pytest.raises(NotSerializable, match=r"^it "):
        Typed(Model, "it").round_trip(value)


def test_without_an_annotation_anything_that_is_json_may_pass() -> None:
    assert Typed(Any, "it").round_trip({"a": (1, Color.RED, Model(n=1))}) == '{"a":[1,"r",{"n":1,"at":null}]}'
    with pytest.raises(NotSerializable, match="it is a function"):
        Typed(Any, "it").round_trip(lambda: 1)


def test_an_annotation_pydantic_cannot_write_is_refused_naming_it() -> None:
    class Opaque: ...

    with pytest.raises(NotSerializable, match="Opaque"):
        Typed(Opaque, "it")


def test_the_annotation_of_the_result_is_found_behind_partials_wrappers_and_methods() -> None:
    class Service:
        def work(self, n: int) -> Model:
            return Model(n=n)

        def __call__(self) -> Model:
            return Model(n=0)

    @functools.wraps(Service.work)
    def wrapped(*args: Any) -> Any: ...

    for fn in (functools.partial(Service().work, 1), Service().work, wrapped, Service(), Model):
        assert returns(fn, "it").annotation is Model
    assert returns(lambda: 1, "it").annotation is Any
    assert parameters(Service.work, "it") == {"n": int}


def test_an_annotation_of_a_local_class_is_found() -> None:
    class Local(BaseModel):
        n: int

    def fn() -> Local:
        return Local(n=1)

    def uses_it() -> Local:
        return Local(n=2)

    assert returns(uses_it, "it").annotation is Local


def test_an_annotation_that_exists_for_the_type_checker_only_is_refused_saying_so() -> None:
    def fn() -> Awaitable[int]: ...  # type: ignore[empty-body]

    with pytest.raises(NotSerializable, match="TYPE_CHECKING"):
        returns(fn, "the result of step 'fn'")


# ---- fingerprints


def print_of(*args: Any, **kwargs: Any) -> str:
    return fingerprint((args, kwargs))[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({3, 1, 2}, {2, 3, 1}),
        (Model(n=1), Model(n=1)),
        (Data(b"x"), Data(b"x")),
        (date(2026, 1, 1), date(2026, 1, 1)),
        (Decimal("1.0"), Decimal("1.0")),
        (open, open),
        ((1, 2), [1, 2]),
    ],
)
def test_equal_arguments_have_equal_fingerprints(one: Any, other: Any) -> None:
    assert print_of(one) == print_of(other)
    assert print_of(x=one) == print_of(x=other)


def test_different_arguments_have_different_fingerprints() -> None:
    values = [1, "1", 1.5, None, True, [], {}, b"x", b"y", Model(n=1), Model(n=2), Color.RED, "r2", date(2026, 1, 1)]
    assert len({print_of(value) for value in values}) == len(values)
    assert print_of(1, 2) != print_of((1, 2)) != print_of(2, 1)
    assert print_of(a=1) != print_of(1)


def test_what_cannot_be_compared_across_processes_counts_by_its_type() -> None:
    assert print_of(object()) == print_of(object())
    assert print_of(lambda: 1) == print_of(lambda: 2)
    endless: list[Any] = []
    endless.append(endless)
    assert print_of(endless) == print_of(endless)


def test_people_see_the_beginning_of_the_arguments() -> None:
    assert fingerprint((("o-1", 4200), {}))[1] == '["o-1",4200]'
    assert fingerprint((("o-1",), {"n": 1}))[1] == '["o-1"],{"n":1}'
    assert len(fingerprint((("x" * 500,), {}))[1]) == 100


def test_a_fingerprint_is_the_same_in_another_process() -> None:
    code = (
        "from stepwell.typed import fingerprint; print(fingerprint((({'b', 'a', 'c'}, {'k': 1}), {'z': 2, 'y': 1}))[0])"
    )
    seeds = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert seeds[0] == seeds[1] != b""
