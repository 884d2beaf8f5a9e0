# SPDX-License-Identifier: Apache-2.0
"""Numbers that could be two: decided by any cell of the table that can be only one, else said with both readings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.csv.form import Form
from fedge_agent.protocols.csv.guess import keys_of, understand
from fedge_agent.protocols.csv.guess_numbers import signs
from fedge_agent.protocols.csv.numbers import reader

POINT: dict[str, Any] = {"decimal": ".", "thousands": ""}
COMMA: dict[str, Any] = {"decimal": ",", "thousands": ""}
GERMAN: dict[str, Any] = {"decimal": ",", "thousands": "."}
ENGLISH: dict[str, Any] = {"decimal": ".", "thousands": ","}

# (delimiter, columns, keys, words of the doubt)
CASES: dict[str, tuple[str, list[list[str]], dict[str, Any], str]] = {
    "nothing decides": (";", [["1.200", "2.400"]], POINT, "'1.200' is read as 1.2; if it is 1200, say decimal = \","),
    "nothing decides, tab": ("\t", [["1.200"]], POINT, "'1.200' is read as 1.2; if it is 1200"),
    "commas part the cells": (",", [["1.200"]], POINT, ""),
    "another column has a decimal comma": (";", [["1.200"], ["20,5"]], GERMAN, ""),
    "another column has a decimal point": (";", [["1.200"], ["20.5"]], POINT, ""),
    "one late cell is a fraction": (";", [["1.200"] * 500 + ["0.950"]], POINT, ""),
    "one late cell has four digits": (";", [["1.200"] * 500 + ["1200.000"]], POINT, ""),
    "two groups": (";", [["1.234.500", "1.200"]], GERMAN, ""),
    "a counter that passes 1000": (";", [["980", "998", "1.012"]], GERMAN, "'1.012' is read as 1012; if it is 1.012"),
    "a counter among commas": (",", [["980", "1.012"]], POINT, "'1.012' is read as 1.012; if it is 1012"),
    "an exponent": (";", [["1.200", "1.200E-02"]], POINT, ""),
    "minus": (";", [["-1.200"]], POINT, "'-1.200' is read as -1.2; if it is -1200"),
    "a comma, nothing decides": (";", [["1,200"]], COMMA, "'1,200' is read as 1.2; if it is 1200, say decimal = \".\""),
    "a comma, quoted": (",", [["1,200"]], ENGLISH, "'1,200' is read as 1200; if it is 1.2, say decimal = \",\""),
    "a comma and a fraction": (",", [["1,200"], ["0.5"]], ENGLISH, ""),
    "a comma and a long fraction": (";", [["1,200", "1,2345"]], COMMA, ""),
    "both signs": (";", [["1.234,5"], ["1.200"]], GERMAN, ""),
    "French groups": (";", [["1 200", "1\u202f300,5"]], {"decimal": ",", "thousands": " "}, ""),
    "groups alone": (";", [["1 200"]], {"decimal": ",", "thousands": " "}, "no number shows its decimal sign"),
    "Swiss groups": (";", [["1'200.5", "1’300"]], {"decimal": ".", "thousands": "'"}, ""),
    "Swiss groups alone": (";", [["1'200"]], {"decimal": ".", "thousands": "'"}, "no number shows its decimal sign"),
    "columns in two styles": (";", [["1.25", "2.5"], ["20,5"]], POINT, "column 'b': '20,5' is no number with"),
    "whole numbers": (";", [["1200", "980"]], POINT, ""),
    "dates and words": (";", [["24.11.2026", "x"], ["1,5"]], COMMA, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_style_is_decided_by_the_whole_table_or_doubted(name: str) -> None:
    delimiter, columns, keys, words = CASES[name]
    found = signs(["a", "b"][: len(columns)], columns, delimiter, dotted_days=False)
    assert found.keys == keys
    assert [words in doubt for doubt in found.doubts] == ([True] if words else [])


def test_a_group_never_begins_with_zero() -> None:
    read = reader(Form(decimal=",", thousands="."))
    assert (read("0.200"), read("01.200"), read("1.200"), read("0"), read("0,5")) == (None, None, 1200, 0, 0.5)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_doubt_stands_in_what_browse_writes(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "e.csv"
    rows = [f"24.11.2026 08:00:{i:02}{delimiter}1.{200 + i}\n" for i in range(9)]
    path.write_text(f"t{delimiter}kWh\n" + "".join(rows))
    found = understand(path)
    assert "decimal" not in keys_of(found.form)
    assert [d for d in found.doubts if "'1.200' is read as 1.2; if it is 1200" in d]
