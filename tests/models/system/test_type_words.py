# SPDX-License-Identifier: Apache-2.0
"""A wrong value of a configuration is answered in words, not in the type names of a library."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from fedge_models.errors import ConfigError
from fedge_models.system import settings
from msgspec import Meta


class Table(msgspec.Struct):
    """A key of each kind."""

    count: int | None = None
    some: Annotated[tuple[int, ...], Meta(min_length=1)] = (1,)
    pair: tuple[float, float] | None = None
    least: Annotated[int, Meta(ge=1)] = 1
    part: Annotated[float, Meta(ge=0, lt=1)] = 0
    text: str = ""
    numbers: dict[str, int] = {}
    on: bool = True
    form: Annotated[str, Meta(pattern="^a$")] = "a"
    limit: float | Literal["threshold"] = 1.0
    short: Annotated[str, Meta(max_length=3)] = "a"
    mixed: dict[str, float | str] = {}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("count", "x", "expected a whole number or nothing, got 'x'"),
        ("some", [], "expected a list with at least 1 entries, got []"),
        ("pair", [1], "expected a list with exactly 2 entries, got [1]"),
        ("pair", [1, "x"], "expected a number, got [1, 'x']"),
        ("least", 0, "expected a whole number, at least 1, got 0"),
        ("least", 1.5, "expected a whole number, got 1.5"),
        ("part", 1.0, "expected a number, less than 1, got 1.0"),
        ("text", 1, "expected text, got 1"),
        ("numbers", [1], "expected a table, got [1]"),
        ("numbers", {"a": "b"}, "expected a whole number, got 'b'"),
        ("on", "yes", "expected true or false, got 'yes'"),
        ("form", "b", "expected text of the form '^a$', got 'b'"),
        ("limit", "foo", "expected a number or 'threshold', got 'foo'"),
        ("limit", True, "expected a number or text, got true"),
        ("short", "x" * 100, f"expected text with at most 3 characters, got '{'x' * 59}…"),
        ("mixed", {"a": [1]}, "expected a number or text, got [1]"),
    ],
)
def test_what_was_expected_is_said_in_words(key: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.convert({key: value}, Table, "a.toml")
    assert words in str(caught.value) and "`" not in str(caught.value)
