# SPDX-License-Identifier: Apache-2.0
"""Every conformance id of Sparkplug 3.0 for hosts and edge nodes is held by a test that exists, or says why not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/developers/sparkplug-conformance.md"
ROW = re.compile(r"^\| `([\w-]+)` \| (host|edge|both) \| (.+) \|$", re.M)
HELD, ABSENT = re.compile(r"`(test_\w+)`"), re.compile(r"not applicable, because \S.{9,}")
IDS = {1: 14, 4: 67, 5: 99, 6: 108}  # of the chapters (1: 1 to 3 and 10), but for those of MQTT servers


def sections() -> dict[int, list[tuple[str, str]]]:
    """Chapter -> (id, what holds it)."""
    parts = re.split(r"^## (\d)", PAGE.read_text("utf-8"), flags=re.M)[1:]
    return {
        int(chapter): [(i, held) for i, _, held in ROW.findall(text)]
        for chapter, text in zip(parts[::2], parts[1::2], strict=True)
    }


def written() -> set[str]:
    """The names of all tests about Sparkplug."""
    files = (ROOT / "tests/agent").rglob("test_sparkplug*.py")
    trees = [ast.parse(path.read_text("utf-8")) for path in files]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_id_is_missing_or_twice() -> None:
    found = sections()
    assert {chapter: len(rows) for chapter, rows in found.items()} == IDS
    ids = [i for rows in found.values() for i, _ in rows]
    assert len(set(ids)) == len(ids)


def test_each_id_is_held_by_a_test_that_exists_or_says_why_it_does_not_apply() -> None:
    known, wrong = written(), []
    for rows in sections().values():
        for id_, held in rows:
            names = HELD.findall(held)
            if not (set(names) <= known if names else ABSENT.fullmatch(held)):
                wrong.append(f"{id_}: {held}")
    assert not wrong


def test_most_ids_are_held_by_a_test() -> None:
    """What does not apply: templates, datasets, properties, device commands, NDATA and DDEATH of our own."""
    rows = [row for some in sections().values() for row in some]
    assert sum(bool(HELD.search(held)) for _, held in rows) >= 180
