# SPDX-License-Identifier: Apache-2.0
"""Which machine wants a tag, and for what: each batch of a source is divided once, and each consumer gets its own part.

Pure; built from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from ..config.schema import AssetConfig
from ..types import Batch, Reading


class Use(IntEnum):
    """What an asset does with a tag."""

    WINDOWS = 0  # a channel, label, target or speed: part of windows and of what they are labelled with
    CONTEXT = 1  # what is being made
    INSPECTION = 2  # verdicts on what was made


class Routed(NamedTuple):
    """An asset's parts of a batch. All carry the batch's source and times, also when they have no reading."""

    asset: str
    windows: Batch
    context: Batch | None  # None: the asset has no tag of that use at this source
    inspection: Batch | None


class Routes:
    """Every tag of every source, with the assets that want it."""

    def __init__(self, sources: Mapping[str, object], assets: Mapping[str, AssetConfig]) -> None:
        self._wanted: dict[str, dict[str, list[tuple[str, Use]]]] = {source: {} for source in sources}
        self._uses: dict[str, dict[str, set[Use]]] = {source: {} for source in sources}  # source -> asset -> uses
        self._users: dict[str, dict[str, list[str]]] = {source: {} for source in sources}  # source -> tag -> users
        for name, asset in assets.items():
            for key, tag in asset.tags().items():
                use = _use(key)
                wanted = self._wanted[tag.source].setdefault(tag.tag, [])
                if (name, use) not in wanted:
                    wanted.append((name, use))
                self._uses[tag.source].setdefault(name, set()).add(use)
                self._users[tag.source].setdefault(tag.tag, []).append(f"{name}.{key.removeprefix('channels.')}")

    def __contains__(self, source: str) -> bool:
        """Whether the source is configured; an inbox may hold readings of one that was removed."""
        return source in self._wanted

    def tags(self, source: str) -> list[str]:
        """Every tag that an asset wants of a source, once."""
        return list(self._wanted[source])

    def users(self, source: str) -> dict[str, list[str]]:
        """Who reads each tag of a source: "asset.channel", for people."""
        return self._users[source]

    def assets(self, source: str) -> list[str]:
        """The assets that want a tag of the source."""
        return list(self._uses[source])

    def window_sources(self, asset: str) -> frozenset[str]:
        """The sources of what the asset's windows are made of."""
        return frozenset(source for source, uses in self._uses.items() if Use.WINDOWS in uses.get(asset, ()))

    def divide(self, batch: Batch) -> Iterator[Routed]:
        """The part of each asset of the source; one without a reading still learns that the source is alive."""
        wanted, uses = self._wanted[batch.source], self._uses[batch.source]
        parts: dict[str, tuple[list[Reading], list[Reading], list[Reading]]] = {name: ([], [], []) for name in uses}
        for reading in batch.readings:
            for name, use in wanted.get(reading.tag, ()):
                parts[name][use].append(reading)
        for name, (windows, context, inspection) in parts.items():
            yield Routed(
                name,
                batch._replace(readings=windows),
                batch._replace(readings=context) if Use.CONTEXT in uses[name] else None,
                batch._replace(readings=inspection) if Use.INSPECTION in uses[name] else None,
            )


def _use(key: str) -> Use:
    """The use of a tag, by its key in ``[asset.X]``."""
    return {"context": Use.CONTEXT, "inspection": Use.INSPECTION}.get(key.partition(".")[0], Use.WINDOWS)
