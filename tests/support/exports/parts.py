# SPDX-License-Identifier: Apache-2.0
"""The page of exported networks: its parts, each about versions of the tools, and the tables in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from fedge_models.errors import ModelError

from support.paths import ROOT

PAGE = ROOT / "docs/reference/exports.md"
TRAINS, REFUSED, WRONG, NOT_EXPORTED = "trains", "refused", "wrong", "not exported"
Row = Sequence[object]


class Found(NamedTuple):
    """What came of one file."""

    verdict: str
    why: str = ""


def found(attempt: Callable[[], object]) -> Found:
    """What comes of an attempt that asserts what has to hold."""
    try:
        attempt()
    except ModelError as e:
        return Found(REFUSED, line(e))
    except AssertionError as e:
        return Found(WRONG, line(e))
    return Found(TRAINS)


def line(e: Exception) -> str:
    """The first line of an error, without the file's name."""
    text = re.sub(r"\x1b\[[0-9;]*m|(?<!\S)\S*\.onnx: ", "", str(e))
    lines = [each.strip() for each in text.splitlines() if each.strip()]
    return (lines[0] if lines else type(e).__name__)[:300]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A table in Markdown."""
    lines = [[str(c).replace("|", "\\|") for c in row] for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def written(text: str, part: str, versions: Mapping[str, str], made: str, day: str) -> str:
    """Return a page's text with that part anew: versions, day and tables."""
    said = ", ".join(f"{tool} {version}" for tool, version in versions.items())
    lead = f"Tried on {day} with {said}."
    begin, end = f"<!-- {part}: {said} of {day} -->", f"<!-- end of {part} -->"
    return _part(part).sub(lambda _: f"{begin}\n\n{lead}\n\n{made}\n\n{end}", text)


def versions(text: str, part: str) -> dict[str, str]:
    """The tools that a part is about, and their versions."""
    match = _part(part).search(text)
    assert match is not None, f"the page has no part {part}"
    return dict(each.rsplit(" ", 1) for each in match[1].split(", "))


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without the tables' heads."""
    section = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.M)[0]
    lines = [each for each in section.splitlines() if each.startswith("| ") and not each.startswith("| ---")]
    return [[c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", each)[1:-1]] for each in lines][1:]


def _part(part: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- {part}: (.*?) of \S+ -->\n.*<!-- end of {part} -->", re.S)
