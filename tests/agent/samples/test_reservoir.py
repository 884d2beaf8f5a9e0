# SPDX-License-Identifier: Apache-2.0
"""The random sample of a machine's windows: even over time, without overlaps, bounded, and there after a restart."""

from __future__ import annotations

import cbor2
import numpy as np
import pytest
from fedge_agent.samples import reservoir_file
from fedge_agent.samples.reservoir import MOST_SEEN, VALUES, WINDOWS, Reservoir

NAMES = ("current", "pressure")
S = 10**9


def filled(windows: int, seed: str = "pump") -> Reservoir:
    """Windows whose values are their number, and 1000 more in the second channel."""
    made = Reservoir(seed)
    made.begin(NAMES, S)
    for i in range(windows):
        made.take(np.array([[i] * 10, [1000 + i] * 10], np.float64), i * S)
    return made


def test_the_first_windows_are_all_held() -> None:
    held = filled(50).held()
    assert held.seen == 50 and held.values.shape == (50, 2, VALUES) and held.names == NAMES
    assert (held.values[:, 0, 0] == np.arange(50)).all() and (held.values[:, 1] >= 1000).all()


def test_each_window_is_as_likely_to_be_held() -> None:
    held = filled(20 * WINDOWS).held()
    numbers = held.values[:, 0, 0]
    assert len(numbers) == WINDOWS and len(set(numbers)) == WINDOWS
    shares = np.histogram(numbers, 4, (0, 20 * WINDOWS))[0] / WINDOWS
    assert (abs(shares - 0.25) < 0.12).all(), shares


def test_after_many_windows_it_follows_the_machine() -> None:
    held = filled(3 * MOST_SEEN).held()
    assert np.median(held.values[:, 0, 0]) > 1.8 * MOST_SEEN


def test_windows_that_overlap_the_last_one_count_once() -> None:
    made = Reservoir("pump")
    made.begin(NAMES, 10 * S)
    for i in range(100):
        made.take(np.zeros((2, 10)), i * S)
    assert made.seen == 10
    made.take(np.zeros((2, 10)), 5 * S)  # the clock was set back
    assert made.seen == 11


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_gaps_and_wild_values_are_held_without_a_warning(value: float) -> None:
    made = Reservoir("pump")
    made.begin(NAMES, S)
    made.take(np.array([[value] * 10, [1.0] * 10]), 0)
    assert not np.isinf(made.held().values).any()


def test_rows_behind_the_channels_and_pictures_are_taken() -> None:
    made = Reservoir("pump")
    made.begin(("picture",), 0)
    made.take(np.full((3, 8, 8), 7, np.uint8), 0)
    assert (made.held().values == 7).all()
    shaft = filled(0)
    shaft.take(np.array([[1.0] * 4, [2.0] * 4, [1500.0] * 4]), 0)
    assert shaft.held().values.max() == 2


def test_a_score_goes_with_its_window_and_needs_a_limit() -> None:
    made = filled(1)
    made.score(2.0, np.inf)
    assert np.isnan(made.held().scores[0])
    made.score(2.0, 4.0)
    assert made.held().scores[0] == 0.5
    made.take(np.zeros((2, 10)), 1)  # overlaps, so it is not held
    made.score(9.0, 1.0)
    assert made.held().scores.tolist() == [0.5]


def test_it_resumes_after_a_restart_unless_the_channels_changed() -> None:
    before = filled(WINDOWS + 100)
    data = reservoir_file.encode({"pump": before.held()})
    again = Reservoir("pump")
    again.restore(reservoir_file.decode(data)["pump"])
    again.begin(NAMES, S)
    np.testing.assert_array_equal(again.held().values, before.held().values)
    assert again.seen == before.seen
    again.take(np.zeros((2, 10)), 0)
    assert again.seen == before.seen + 1
    again.begin(("current",), S)
    assert again.seen == 0


def test_what_is_held_is_bounded() -> None:
    assert len(reservoir_file.encode({"pump": filled(3000).held()})) < 10_000


@pytest.mark.parametrize(
    "entry",
    [
        5,
        [["a"], 3],
        [["a"], 3, b"12345", b""],
        [["a"], 9, bytes(16), bytes(4)],
        [["a"], 1, b"\x00\x00\x80\x7f" * 4, bytes(4)],
        [5, 1, bytes(16), bytes(4)],
        [[], 1, b"", bytes(4)],
    ],
)
def test_a_damaged_entry_is_left_out_and_the_others_are_read(entry: object) -> None:
    good = [["a"], 1, np.ones(4, "<f4").tobytes(), np.ones(1, "<f4").tobytes()]
    found = reservoir_file.decode(cbor2.dumps({"bad": entry, "good": good}))
    assert set(found) == {"good"} and found["good"].values.tolist() == [[[1.0] * 4]]


@pytest.mark.parametrize("data", [b"", b"\xff", cbor2.dumps([1, 2])])
def test_bytes_that_are_no_table_hold_nothing(data: bytes) -> None:
    assert reservoir_file.decode(data) == {}
