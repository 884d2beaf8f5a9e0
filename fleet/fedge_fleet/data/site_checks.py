# SPDX-License-Identifier: Apache-2.0
"""What only shows when the sites' data are seen together: too few sites or rows, other units, copies. Pure.

Faults that make a comparison meaningless are a DataError; what a person must know beside the figures is a note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from fedge_agent.config.schema import Training
from fedge_models.errors import DataError
from fedge_models.graph.card import Card
from fedge_models.system.text import counted
from fedge_models.training import objective
from fedge_models.training.outliers import finite_rows
from numpy.typing import NDArray

from .site_rows import SiteRows

LEAST = 15  # samples with a label: fewer cannot be trained on, held back and judged by
SHOWN = 8  # names in a message
OFF = 1.5  # factor between two times that are not the same any more
FAR = 30.0  # factor between the spreads of a channel from which another unit is likely


def check(sites: Mapping[str, SiteRows], card: Card) -> None:
    """Raise a DataError for data of which no federation can be simulated."""
    if len(sites) < 2:
        only = f" ({next(iter(sites))})" if sites else ""
        raise DataError(
            f"--data gives {counted(len(sites), 'site')}{only}: a federation has two or more. A file or a folder is a "
            "site: give a pattern that matches several ('plant*.csv'), or --data more than once"
        )
    for name, site in sites.items():
        if (known := int(_known(site, card).sum())) < LEAST:
            raise DataError(
                f"site {name!r}: {counted(known, 'sample')} with a label of {len(site.x)}, expected {LEAST} or more: "
                f"too few to train on, hold back and judge by{_why_few(card)}"
            )
        _check_marks(name, site, card)
    _check_steps(sites, card)


def _check_marks(name: str, site: SiteRows, card: Card) -> None:
    """What the data themselves mark for the test must leave something to train on, and something to judge by."""
    if site.marked is None:
        return
    known = _known(site, card)
    train, test = int((known & ~site.marked).sum()), int((known & site.marked).sum())
    if not test:
        raise DataError(f"site {name!r}: no sample with a label has test = 1; expected some to judge by, or no 'test'")
    if train < LEAST:
        raise DataError(
            f"site {name!r}: {counted(train, 'sample')} with a label and test = 0, expected {LEAST} or more"
        )


def notes(sites: Mapping[str, SiteRows], card: Card) -> list[str]:
    """What must be said of the sites' data beside the figures."""
    return [*_single_class(sites, card), *_waiting(sites, card), *_other_units(sites, card), *_copies(sites)]


def _known(site: SiteRows, card: Card) -> NDArray[np.bool_]:
    usable = finite_rows(site.x)
    found: NDArray[np.bool_] = usable if card.task == "anomaly" else usable & objective.known(card.task, site.y)
    return found


def _why_few(card: Card) -> str:
    if card.window.length == 1 or card.image is not None:
        return ""
    return f". A sample is a window of {card.window.length} rows, every {card.window.hop} rows"


def _check_steps(sites: Mapping[str, SiteRows], card: Card) -> None:
    """Rows of windows must be as far apart in time at every site: a window is so many rows."""
    steps = {name: site.step_s for name, site in sites.items() if site.step_s is not None}
    if card.window.length == 1 or len(steps) < 2 or max(steps.values()) < OFF * min(steps.values()):
        return
    wanted = 1 / card.window.rate_hz
    off = {n: s for n, s in steps.items() if not wanted / OFF < s < wanted * OFF} or steps
    listed = ", ".join(f"{n} every {seconds(s)}" for n, s in list(off.items())[:6])
    raise DataError(
        f"the sites' rows are not equally far apart in time: {listed}; the card's rate_hz = {card.window.rate_hz:g} "
        f"means a row every {seconds(wanted)}. Write the tables at that rate, or check the unit of the time column"
    )


def seconds(value: float) -> str:
    """A time between rows in words."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _single_class(sites: Mapping[str, SiteRows], card: Card) -> list[str]:
    if card.task not in ("classify", "anomaly"):
        return []
    names = card.labels if card.task == "classify" else ("normal", "anomaly")
    found: dict[str, list[str]] = {}
    for name, site in sites.items():
        has = np.unique(np.maximum(site.y, 0) if card.task == "anomaly" else site.y[site.y >= 0])
        if len(has) == 1:
            found.setdefault(names[int(has[0])], []).append(name)
    unknown = "so how well a model tells classes apart is not known there"
    return [f"{_listed(at)}: all samples are {label!r}, {unknown}" for label, at in found.items()]


def _waiting(sites: Mapping[str, SiteRows], card: Card) -> list[str]:
    least = Training().min_samples
    few = [f"{n} ({k})" for n, s in sites.items() if (k := int(_known(s, card).sum())) < least]
    return [f"a gateway waits for {least} samples (min_samples) before it trains: {_listed(few)}"] if few else []


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _other_units(sites: Mapping[str, SiteRows], card: Card) -> list[str]:
    """A channel that spreads far more, or less, at one site than at the others."""
    names = [c.name for c in card.input_channels]
    if card.image is not None or card.features or len(sites) < 3:
        return []
    spreads = {n: _spreads(s, len(names)) for n, s in sites.items()}
    found = []
    for k, channel in enumerate(names):
        for site, spread in spreads.items():
            usual = median(float(other[k]) for n, other in spreads.items() if n != site)
            if usual > 0 and spread[k] > 0 and not 1 / FAR < (ratio := float(spread[k]) / usual) < FAR:
                size = f"{ratio:,.0f} times as much" if ratio > 1 else f"1/{1 / ratio:,.0f} of what it does"
                found.append(f"{site}: {channel} varies {size} as at the other sites: is it in another unit?")
    return found


def _spreads(site: SiteRows, channels: int) -> NDArray[np.float64]:
    rows = site.x.reshape(len(site.x), channels, -1).astype(np.float64)
    found: NDArray[np.float64] = np.nanstd(rows, axis=(0, 2))
    return found


def _copies(sites: Mapping[str, SiteRows]) -> list[str]:
    seen: dict[str, str] = {}
    found = []
    for name, site in sites.items():
        first = seen.setdefault(hashlib.sha256(np.ascontiguousarray(site.x).tobytes()).hexdigest(), name)
        if first != name:
            found.append(f"{name}: holds the same samples as {first}; a copy is no second site")
    return found
