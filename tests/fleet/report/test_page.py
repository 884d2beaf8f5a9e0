# SPDX-License-Identifier: Apache-2.0
"""The page: charts with axes, ticks and names, in one file that loads nothing and runs no script."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from fedge_fleet.report import (
    BaseLine,
    Cell,
    Details,
    Dot,
    DotChart,
    DotRow,
    Line,
    LineChart,
    Note,
    Promise,
    Report,
    Table,
    render,
)
from fedge_fleet.report.scale import apart, scale

ROUNDS = LineChart(
    "How it learns <b>",
    "rounds",
    "macro-F1",
    [Line("release & more", [(0, 0.2), (1, 0.5), (20, 0.81)]), Line("other", [(0, 0.3), (20, 0.8)], dashed=True)],
    bands=[(2, 4), (30, 40)],
    baselines=[BaseLine("alone", 0.7), BaseLine("unknown", math.nan)],
    whole=True,
)
SITES = DotChart(
    "Sites",
    "macro-F1",
    [
        DotRow("plant1", [Dot("alone", 0.6, "open"), Dot("together", 0.7)], "+0.1", (0.6, 0.7), "good", (0.68, 0.72)),
        DotRow("plant2", [Dot("alone", math.nan, "open"), Dot("worst", 0.5, "cross"), Dot("pooled", 0.8, "tick")]),
    ],
    [BaseLine("chance", 0.5)],
)


def figure(html: str) -> ElementTree.Element:
    """The figure as XML: what does not close, or is not escaped, does not parse."""
    return ElementTree.fromstring(html)


def texts(element: ElementTree.Element) -> list[str]:
    return ["".join(t.itertext()) for t in element.iter("text")]


def test_a_line_chart_has_axes_ticks_units_names_and_base_lines() -> None:
    found = figure(ROUNDS.html())
    words = texts(found)
    assert {"rounds", "release & more", "other", "alone", "0", "20", "0.2", "0.8"} <= set(words)
    assert "unknown" not in words and "".join(found.find("p").itertext()) == "macro-F1"  # type: ignore[union-attr]
    kinds = [e.get("class") for e in found.iter()]
    assert kinds.count("base") >= 1 and kinds.count("band") == 1 and "c1 dashed" in kinds
    assert len(list(found.iter("polyline"))) == 2


def test_a_dot_chart_has_a_row_for_each_name_and_a_key_for_each_kind_of_dot() -> None:
    found = figure(SITES.html())
    assert {"plant1", "plant2", "+0.1", "macro-F1", "chance"} <= set(texts(found))
    legend = ["".join(s.itertext()) for s in found.iter("span")]
    assert legend == ["alone", "together", "worst", "pooled"]
    kinds = [e.get("class") for e in found.iter("line")]
    assert kinds.count("span good") == 1 and kinds.count("error") == 3
    assert "nan" not in SITES.html()


def test_what_has_no_value_is_no_figure() -> None:
    nothing = [Line("a", [(0, math.nan)])]
    assert (
        LineChart("t", "x", "y", nothing).html() == DotChart("t", "x", []).html() == Table("t", ["a"], []).html() == ""
    )
    assert Note("t", []).html() == Details("t", []).html() == ""


def test_the_page_is_one_file_that_loads_and_runs_nothing() -> None:
    table = Table("Sites", ["site", "score"], [["a<", Cell("0.5", "good")]], "a caption")
    page = render(
        Report("T & t", [ROUNDS, SITES, table, Note("n", ["x"]), Details("d", [table])], [Promise("p", "1", False)],
               [("Does it pay?", "Yes.")], "under")
    )  # fmt: skip
    for outside in ("<script", "src=", "href", "url(", "@import", "http:", "https:"):
        assert outside not in page
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page and "NOT KEPT" in page
    assert page.index("Does it pay?") < page.index("<figure>") < page.index("How it learns") and "a&lt;" in page
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", page)) - {"--left", "--right"}
    for mode in re.findall(r":root \{([^}]+)\}", page):
        assert used <= set(re.findall(r"(--[a-z0-9]+):", mode)) | {"--paper"}, "a colour is not defined in this mode"


@pytest.mark.parametrize(
    ("values", "low", "high", "labels"),
    [
        ([0.61, 0.92], 0.6, 1.0, ["0.6", "0.7", "0.8", "0.9", "1.0"]),
        ([0.0, 100.0], 0, 100, ["0", "20", "40", "60", "80", "100"]),
        ([0.5, 0.5], 0.4999997, 0.5000003, None),
        ([-0.012, 0.033], -0.02, 0.04, ["-0.02", "-0.01", "0.00", "0.01", "0.02", "0.03", "0.04"]),
    ],
)
def test_ticks_are_round_and_hold_every_value(
    values: list[float], low: float, high: float, labels: list[str] | None
) -> None:
    found = scale(values)
    assert found.low == pytest.approx(low, abs=1e-6) and found.high == pytest.approx(high, abs=1e-6)
    assert found.low <= min(values) and max(values) <= found.high and 2 <= len(found.ticks) <= 12
    if labels is not None:
        assert [found.label(t) for t in found.ticks] == labels


def test_an_axis_covers_what_it_is_told_to_and_counts_by_whole_numbers() -> None:
    assert scale([0.700, 0.701], span=0.05).high - scale([0.700, 0.701], span=0.05).low >= 0.05
    assert scale([0, 3], whole=True).ticks == (0, 1, 2, 3) and scale([5.0, 9.0], zero=True).low == 0
    assert scale([]).percent(0.5) == 50


def test_names_that_end_together_are_moved_apart() -> None:
    places = apart([100.0, 101.0, 238.0, 239.0], 15, 244)
    ordered = sorted(places)
    assert all(b - a >= 15 for a, b in pairwise(ordered)) and max(places) <= 244
    assert places[0] < places[1] < places[2] < places[3]
