# SPDX-License-Identifier: Apache-2.0
"""Names of events that follow from the rows: the same rows give the same, and others another one."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_agent.machines.event_names import DATED_NS, follows_from_rows, of_window
from fedge_agent.types import Window

AT_NS = 1_772_438_400_250_000_000  # 2026-03-02T08:00:00.25Z


def window(end_ns: int = AT_NS, value: float = 1.0, origin: str | None = "") -> Window:
    values = np.full((2, 5), value, np.float32)
    values[0, 0] = np.nan
    return Window("pump", end_ns, values, 0.1, None, 0, origin)


def test_the_same_rows_give_the_same_name_and_others_another_one() -> None:
    name = of_window(window())
    assert name.startswith("20260302T080000.25Z-") and name == of_window(window()._replace(received_ns=9, label=1.0))
    others = [window(value=1.0001), window(AT_NS + 1), window(origin="log_2.csv")]
    assert len({name, *map(of_window, others)}) == 4
    assert all(follows_from_rows(of_window(each)) for each in (window(), *others))
    assert not follows_from_rows("k7f3x-12") and not follows_from_rows("7")


def test_rows_of_now_have_none() -> None:
    assert of_window(window(origin=None)) == ""


@pytest.mark.parametrize("end_ns", [0, 28_800 * 10**9, DATED_NS - 1])
def test_times_that_begin_anew_each_day_take_the_name_of_the_day_s_file_and_have_none_without_it(end_ns: int) -> None:
    assert of_window(window(end_ns)) == ""  # it may be that of another day: each start of the agent numbers its own
    first, second = (of_window(window(end_ns, origin=f"log_{day}.csv")) for day in (1, 2))
    assert first and second and first != second
    assert of_window(window(DATED_NS)) != ""
