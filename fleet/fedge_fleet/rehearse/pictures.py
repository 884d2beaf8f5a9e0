# SPDX-License-Identifier: Apache-2.0
"""Recorded pictures: which files of a folder are replayed, and when each was taken. Reads names and file times only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fedge_agent.sources.image_names import Times
from fedge_agent.sources.images import MAX_FILES
from fedge_models.errors import ConfigError

USUAL_S = 1.0  # between pictures of which nothing says when they were taken
SOONEST_NS = 1_000_000  # file times closer than this, on average, are those of a copy


class Picture(NamedTuple):
    """One file, and when it was taken."""

    time_ns: int
    path: Path


class Pictures(NamedTuple):
    """Those of a folder in the order of time; `assumed_s`: the interval that was assumed, or None."""

    found: list[Picture]
    assumed_s: float | None
    named: bool = False  # the gateway reads the times from the names

    @property
    def span(self) -> tuple[int, int]:
        """Times of the first and the last."""
        return self.found[0].time_ns, self.found[-1].time_ns

    @property
    def is_timed(self) -> bool:
        """Whether the times are those at which the pictures were taken."""
        return self.named or self.assumed_s is None

    def beginning(self, begin_ns: int) -> Pictures:
        """The same, with the first at this time."""
        by = begin_ns - self.found[0].time_ns
        return self._replace(found=[p._replace(time_ns=p.time_ns + by) for p in self.found])


def of_folder(
    path: Path, tags: Sequence[str], ignore: Sequence[str], times: Times, named: bool, interval_s: float | None
) -> Pictures:
    """Find the pictures that a source with these tags and keys would read. Raises ConfigError when there are none.

    named: whether the times are in the names, and not those of the files, which a copy may have lost.
    """
    with os.scandir(path) as entries:
        there = sorted((e.name, e.stat().st_mtime_ns) for e in entries if e.is_file(follow_symlinks=False))
    if len(there) > MAX_FILES:
        raise ConfigError(f"{path}: has {len(there):,} files; a gateway takes at most {MAX_FILES:,}")
    wanted = [(n, at) for n, at in there if not _matches(n, ignore) and _matches(n, tags)]
    timed = [Picture(at, path / name) for name, mtime in wanted if (at := times.of(name, mtime)) is not None]
    if not timed:
        raise ConfigError(f"{path}: no picture fits {' or '.join(map(repr, tags))}, which the gateway's assets read")
    timed.sort(key=lambda p: (p.time_ns, p.path.name))
    assumed = interval_s or (USUAL_S if not named and _at_once(timed) else None)
    if assumed is None:
        return Pictures(timed, None, named)
    by_name = sorted(timed, key=lambda p: p.path.name) if interval_s is None else timed
    first = timed[0].time_ns
    return Pictures(
        [p._replace(time_ns=first + round(i * assumed * 1e9)) for i, p in enumerate(by_name)], assumed, named
    )


def _at_once(pictures: Sequence[Picture]) -> bool:
    """Whether the times are those of a copy: all within a moment."""
    steps = [b.time_ns - a.time_ns for a, b in pairwise(pictures)]
    return bool(steps) and sum(steps) < SOONEST_NS * len(steps)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
