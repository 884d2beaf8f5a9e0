# SPDX-License-Identifier: Apache-2.0
"""What a gateway's assets take from a source, and which column of a recording stands for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fedge_agent.config.schema import Config

MAY_BE_ABSENT = ("label", "targets", "context", "shaft_rpm", "inspection")  # a channel may not


class Use(NamedTuple):
    """One tag of one asset."""

    asset: str
    key: tuple[str, ...]  # of the tag's table in the asset's: ("channels", "current_A"), ("label",)
    tag: str
    row: int | None = None  # of a waveform with several
    waveform_hz: float | None = None

    @property
    def short(self) -> str:
        """The name that an asset gives to the value: its channel, "label", "job"."""
        return self.key[-1]

    @property
    def full(self) -> str:
        """The same with the asset's name."""
        return f"{self.asset}.{self.short}"


class Matched(NamedTuple):
    """Columns found for uses, uses that are not recorded, and what is missing in words."""

    columns: dict[Use, str]
    left_out: list[Use]
    missing: list[str]


def of_source(config: Config, source: str) -> list[Use]:
    """Every use of a source."""
    return [
        Use(name, tuple(key.split(".", 1)), tag.tag, tag.index, tag.waveform_hz)
        for name, asset in config.asset.items()
        for key, tag in asset.tags().items()
        if tag.source == source
    ]


def match(uses: Sequence[Use], names: Iterable[str], given: Mapping[str, str]) -> Matched:
    """Find the column of each use among `names`; `given`: columns that the user names, by channel or tag."""
    there, made = set(names), Matched({}, [], [])
    for use in uses:
        chosen = next((given[key] for key in (use.full, use.short, use.tag) if key in given), None)
        if chosen == "" and use.key[0] in MAY_BE_ABSENT:
            made.left_out.append(use)
            continue
        wanted = candidates(use, uses) if chosen is None else [chosen]
        found = next((name for name in wanted if name in there), None)
        if found is None:
            made.missing.append(f"{use.full} (tag {use.tag!r}): no column {' or '.join(map(repr, wanted))}")
        else:
            made.columns[use] = found
    return made


def candidates(use: Use, uses: Sequence[Use]) -> list[str]:
    """Names of columns that stand for a use, the surest first.

    A name that two uses of different tags would share stands for neither.
    """
    others = [u for u in uses if (u.tag, u.row) != (use.tag, use.row)]
    exact = [use.tag] if use.row is None else []
    return [*exact, use.full, *([use.short] if use.short not in {u.short for u in others} else [])]


def unknown(given: Mapping[str, str], uses: Sequence[Use]) -> list[str]:
    """Names of channels and tags that the user gives a column for, and that nothing uses."""
    known = {name for use in uses for name in (use.full, use.short, use.tag)}
    return [name for name in given if name not in known]
