# SPDX-License-Identifier: Apache-2.0
"""Text from outside is shown without what a terminal obeys."""

from __future__ import annotations

import pytest
from fedge_models.system.text import counted, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Prüfstand 3 µm °C 温度", "Prüfstand 3 µm °C 温度"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("one\ntwo\r\0", r"one\ntwo\r\x00"),
        ("\x9b31mred\x7f", r"\x9b31mred\x7f"),
        ("abc\u202egpj.exe", r"abc\u202egpj.exe"),  # would be shown as abcexe.jpg
        ("\ud800", r"\ud800"),
        ("\u2028", r"\u2028"),
        ("", ""),
    ],
)
def test_control_characters_and_marks_of_direction_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("count", "what", "shown"),
    [
        (0, "sample", "0 samples"),
        (1, "window undecided", "1 window undecided"),
        (2000, "window undecided", "2,000 windows undecided"),
    ],
)
def test_one_of_a_kind_has_no_plural(count: int, what: str, shown: str) -> None:
    assert counted(count, what) == shown
