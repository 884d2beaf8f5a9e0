# SPDX-License-Identifier: Apache-2.0
"""Follow namespaces whose index changed: a server numbers them anew at each start, and only their URIs stay.

A tag with ``ns=2;`` means the namespace that had this index when the tag was first read. After that its URI is looked
for, wherever it is now: at the old index there may be another node of the same name. Indexes 0 and 1 are fixed by the
standard (Part 3, 8.2.2: OPC UA itself, and the server). Pure, but for the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from fedge_models.errors import StorageError
from fedge_models.system import files
from fedge_models.system.structs import known

from .tags import Tag, parse

FIXED = 2  # indexes below mean the same at each start
MOST_BYTES = 1 << 24
_INDEX = re.compile(r"ns=(\d+);")


class Placed(NamedTuple):
    """Tags with the indexes that their namespaces have now."""

    tags: list[Tag]
    lost: dict[str, str]  # tag -> why it is not read
    moved: dict[str, list[str]]  # what moved, in words -> its tags


@known
class Stored(msgspec.Struct):
    """What is remembered of one server."""

    url: str = ""
    uris: dict[str, dict[int, str]] = {}  # tag -> index in it -> URI


class Namespaces:
    """The URI of each index that a tag of the server at `url` names; `path`: where it is stored, None: nowhere."""

    def __init__(self, url: str, path: Path | None = None) -> None:
        self._url, self._path, stored = url, path, _load(path)
        self._uris = stored.uris if stored.url == url else {}

    def place(self, tags: Sequence[Tag], spaces: Sequence[str], remember: bool = True) -> Placed:
        """Give tags the indexes that their namespaces have in the server's array `spaces`.

        remember: the URIs of tags that are new.
        """
        placed, before = Placed([], {}, {}), len(self._uris)
        for tag in (parse(tag.text) for tag in tags):
            used = indexes(tag)
            if not used or not spaces:
                placed.tags.append(tag)
                continue
            if remember and tag.text not in self._uris and all(i < len(spaces) for i in used):
                self._uris[tag.text] = {i: spaces[i] for i in used}
            self._put(tag, self._uris.get(tag.text, {}), spaces, placed)
        if len(self._uris) != before:
            self._save()
        return placed

    def _put(self, tag: Tag, uris: Mapping[int, str], spaces: Sequence[str], placed: Placed) -> None:
        gone = next(((i, uri) for i, uri in uris.items() if uri not in spaces), None)
        if gone is not None:
            placed.lost[tag.text] = (
                f"tag {tag.text}: the server has no namespace {gone[1]!r} any more, which ns={gone[0]} was when it was "
                f"first read; it has: {', '.join(spaces)}. If it has another name now: stop the agent, and delete "
                f"{self._path}"
            )
            return
        moves = {i: spaces.index(uri) for i, uri in uris.items() if i >= len(spaces) or spaces[i] != uri}
        placed.tags.append(_with(tag, moves) if moves else tag)
        for i, to in moves.items():
            placed.moved.setdefault(f"{uris[i]!r} was ns={i} and is ns={to} now", []).append(tag.text)

    def _save(self) -> None:
        if self._path is not None:
            with suppress(StorageError):  # it is remembered until the next start
                files.write_with_folder(self._path, msgspec.json.encode(Stored(self._url, self._uris)))


def _load(path: Path | None) -> Stored:
    """What was stored; nothing where that cannot be read: the indexes are then believed once more."""
    try:
        data = path.read_bytes() if path is not None and path.stat().st_size <= MOST_BYTES else b"{}"
        return msgspec.json.decode(data, type=Stored)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Stored()


def indexes(tag: Tag) -> list[int]:
    """The indexes that a tag names, but for the fixed ones."""
    match = _INDEX.match(tag.node)
    named = [int(match[1])] if match else [e.space for e in tag.path if e.space is not None]
    return sorted({i for i in named if i >= FIXED})


def _with(tag: Tag, moves: Mapping[int, int]) -> Tag:
    """The tag with other indexes; its text stays, by which it is known."""
    node = _INDEX.sub(lambda m: f"ns={moves.get(int(m[1]), int(m[1]))};", tag.node, count=1)
    path = tuple(e._replace(space=moves.get(e.space, e.space)) if e.space is not None else e for e in tag.path)
    return tag._replace(node=node, path=path)
