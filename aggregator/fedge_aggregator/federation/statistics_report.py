# SPDX-License-Identifier: Apache-2.0
"""Report the statistics of sites to the operator: each channel over sites, and the sites that stand out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fedge_models.messages.statistics import SiteStatistics
from fedge_models.statistics.columns import Column
from fedge_models.statistics.comparison import Difference, Own, compare
from fedge_models.statistics.histogram import Histogram
from fedge_models.statistics.over_sites import HIGH, LOW, MIDDLE, Summary, summarise


def channels(names: Sequence[Column], found: Mapping[str, SiteStatistics]) -> list[dict[str, Any]]:
    """A table for each column, those with sites that stand out first."""
    over = [summarise([h for s in found.values() if (h := s.channels[i])]) for i in range(len(names))]
    own = {node: [own_of(h) for h in s.channels] for node, s in found.items()}
    compared = {node: _by_name(names, values, over) for node, values in own.items()}
    made = []
    for i, column in enumerate(names):
        differences = {node: of[column.name] for node, of in compared.items() if of[column.name].own is not None}
        made.append(_channel(column, over[i], differences))
    return sorted(made, key=lambda table: not table["stand_out"])


def own_of(histogram: Histogram | None) -> Own | None:
    """A site's own channel as it is compared."""
    if histogram is None:
        return None
    low, middle, high = (histogram.quantile(q) for q in (LOW, MIDDLE, HIGH))
    return Own(low, middle, high, histogram.is_constant)


def _by_name(
    names: Sequence[Column], own: Sequence[Own | None], over: Sequence[Summary | None]
) -> dict[str, Difference]:
    return {d.channel: d for d in compare([n.name for n in names], [n.unit for n in names], own, over)}


def _channel(column: Column, over: Summary | None, differences: Mapping[str, Difference]) -> dict[str, Any]:
    """A column: quantiles over sites (None where `summarise` gives none), their joint histogram, and each site."""
    ordered = sorted(differences.items(), key=lambda item: (not item[1].stands_out, -item[1].distance))
    return {
        "channel": column.name,
        "unit": column.unit,
        "sites": len(differences),
        "usual": None if over is None else over.usual,
        "histogram": None if over is None else _histogram(over.joint),
        "stand_out": [node for node, d in ordered if d.stands_out],
        "of_sites": {node: msgspec.to_builtins(d) for node, d in ordered},
    }


def _histogram(joint: Histogram) -> dict[str, Any]:
    """Lower edge of the first bin, width of a bin, share of each; the first and the last are open."""
    shares = [round(float(s), 4) for s in joint.shares]
    return {"from": joint.first * joint.width, "width": joint.width, "shares": shares}
