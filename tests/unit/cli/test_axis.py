"""The axis: work is drawn to scale, waiting is hidden."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stepwell.cli.timeline.axis import Axis

DAY = 86_400.0


def test_work_without_pauses_is_drawn_to_scale() -> None:
    axis = Axis([(0, 10)], 0, 10, 40)

    assert axis.gaps == []
    assert [axis.column(at) for at in (0, 2.5, 5, 7.5, 10)] == [0, 10, 20, 30, 39]
    assert [axis.last_column(at) for at in (0, 2.5, 5, 7.5, 10)] == [0, 9, 19, 29, 39]


def test_two_days_of_waiting_take_a_few_columns_and_their_length_is_written_above() -> None:
    axis = Axis([(0, 1), (2 * DAY, 2 * DAY + 1)], 0, 2 * DAY + 1, 40)

    [gap] = axis.gaps
    assert (gap.label, gap.width) == ("2d", 4)
    assert axis.column(1) >= 16
    assert axis.column(2 * DAY) >= gap.column + gap.width - 1
    assert axis.column(2 * DAY + 1) == 39


def test_a_short_pause_is_not_hidden() -> None:
    assert Axis([(0, 10), (11, 20)], 0, 20, 40).gaps == []


def test_waiting_at_the_end_is_hidden_too() -> None:
    axis = Axis([(0, 1)], 0, DAY, 40)

    assert [gap.label for gap in axis.gaps] == ["1d"]
    assert axis.column(DAY) == 39


def test_of_many_gaps_only_the_places_are_shown() -> None:
    axis = Axis([(hour * 3600, hour * 3600 + 1) for hour in range(20)], 0, 19 * 3600 + 1, 60)

    assert len(axis.gaps) == 19
    assert {gap.width for gap in axis.gaps} == {1}
    assert {gap.label for gap in axis.gaps} == {""}


def test_a_run_that_has_done_nothing_yet_has_an_axis() -> None:
    assert Axis([], 5, 5, 20).column(5) == 0
    assert Axis([], 0, 3600, 20).column(3600) == 19


moments = st.floats(min_value=0, max_value=1e7)


@given(
    st.lists(st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair))), max_size=12),
    st.integers(min_value=1, max_value=200),
    st.lists(moments, min_size=2, max_size=20),
)
def test_whatever_happened_later_moments_never_stand_further_left_and_none_stands_outside(
    busy: list[tuple[float, float]], width: int, looked_at: list[float]
) -> None:
    begin = min((start for start, _ in busy), default=0.0)
    end = max((stop for _, stop in busy), default=begin)
    axis = Axis(busy, begin, end, width)
    columns = [axis.column(at) for at in sorted(looked_at)]

    assert columns == sorted(columns)
    assert all(axis.last_column(at) <= axis.column(at) for at in looked_at)
    assert all(0 <= column < width for column in columns)
