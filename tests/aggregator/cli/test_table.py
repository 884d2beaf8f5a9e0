# SPDX-License-Identifier: Apache-2.0
"""Tables for people: what does not fit the width is below the row, and nothing is left out."""

from __future__ import annotations

from typing import Any

import pytest
from fedge_aggregator.cli.table import show

ROWS: list[dict[str, Any]] = [
    {"federation": "pumps", "release": 7, **{f"figure_{i}": 0.125 + i for i in range(12)}},
    {"federation": "pumps", "release": "open", "in": ["press-shop-gw1", "press-shop-gw2"]},
]


def test_columns_that_do_not_fit_are_listed_below_their_row(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, False, width=100)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split()[:3] == ["federation", "release", "figure_0"] and "figure_11" not in lines[0]
    whole = " ".join(lines)
    assert all(str(0.125 + i) in whole for i in range(12)) and "figure_11 11.125" in whole
    assert "in press-shop-gw1, press-shop-gw2" in lines[-1] and lines[-2].startswith("pumps       open")


def test_table_without_a_width_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, False)
    assert len(capsys.readouterr().out.splitlines()) == 3
