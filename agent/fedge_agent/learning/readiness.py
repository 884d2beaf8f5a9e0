# SPDX-License-Identifier: Apache-2.0
"""Whether stored samples are fit to train on, before a training or a round is wasted on them. Pure.

What keeps the gateway from training is a *lack*. What lets it train, but badly, is a remark: on a machine, in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.messages.idle import WORDS, Idle
from fedge_models.system.text import counted
from fedge_models.system.times import DAY_NS
from fedge_models.training import objective
from numpy.typing import NDArray

from ..samples.store import Rows
from ..windows.summary import Summary

LEAST = 20  # samples of a machine, below which nothing is said of them but their number
REPEATED = 0.1  # share of the samples that equal an earlier one, from which it is said


class Readiness(NamedTuple):
    """What was found. lack: why there is no training, with its words; remarks: of each machine."""

    lack: Idle | None = None
    text: str = ""
    remarks: Mapping[str, tuple[str, ...]] = {}  # never changed


def look(
    card: Card, shape: tuple[int, ...], rows: Rows, trained_on: int, least: int, assets: Sequence[str]
) -> Readiness:
    """Judge the stored samples; trained_on: how many of them a training would use, least: how many it needs; assets:
    the machines of the model."""
    labelled = objective.known(card.task, rows.y) if card.task != "anomaly" else rows.y >= 0
    summary, remarks = Summary(card, shape), dict[str, tuple[str, ...]]()
    for asset in assets:
        own = np.flatnonzero(rows.assets == asset)
        if said := tuple(_remarks(card, summary, rows, own, labelled)):
            remarks[asset] = said
    lack = _lack(card, rows, labelled, trained_on, least)
    return Readiness(lack, "" if lack is None else _text(lack, len(rows.x), trained_on, least), remarks)


def _lack(card: Card, rows: Rows, labelled: NDArray[np.bool_], trained_on: int, least: int) -> Idle | None:
    if trained_on >= least:
        return None
    if not len(rows.x):
        return Idle.NO_SAMPLES
    return Idle.NO_LABELS if card.task != "anomaly" and not labelled.any() else Idle.FEW_SAMPLES


def _text(lack: Idle, stored: int, trained_on: int, least: int) -> str:
    if lack is Idle.NO_LABELS:
        return f"{counted(stored, 'sample')}, but none with a label"
    return WORDS[lack] if lack is Idle.NO_SAMPLES else f"{trained_on:,} of {least:,} samples that it may learn from"


def of_arrays(card: Card, shape: tuple[int, ...], x: NDArray[Any], y: NDArray[Any]) -> list[str]:
    """What is doubtful about recorded samples x (n, *shape) with labels y, which have no times."""
    none = np.zeros(len(x), np.int64)
    rows = Rows(x, y, np.zeros(len(x), np.str_), none, none)
    labelled = objective.known(card.task, y) if card.task != "anomaly" else y >= 0
    return list(_remarks(card, Summary(card, shape), rows, np.arange(len(x)), labelled))


def _remarks(
    card: Card, summary: Summary, rows: Rows, own: NDArray[np.intp], labelled: NDArray[np.bool_]
) -> Iterator[str]:
    """What is doubtful about the samples of one machine; own: which they are."""
    count = len(own)
    if not count:
        yield WORDS[Idle.NO_SAMPLES]
    if count < LEAST:
        return
    yield from _of_labels(card, rows.y[own], rows.times[own], labelled[own])
    if names := _constant(summary, rows, own):
        yield f"constant: {names}"
    if (share := 1 - len({hash(rows.x[i].tobytes()) for i in own}) / count) >= REPEATED:
        yield f"{share:.0%} of the samples repeat an earlier one"


def _of_labels(card: Card, y: NDArray[Any], times: NDArray[np.int64], labelled: NDArray[np.bool_]) -> Iterator[str]:
    if card.task == "anomaly" and not labelled.any():
        return  # none is needed
    if not labelled.any():
        yield "no labels"
        return
    if card.task in ("classify", "multilabel") and (name := _only_label(card, y[labelled])):
        yield f"only label {name}"
    days, all_days = (np.unique(some // DAY_NS) for some in (times[labelled], times))
    if labelled.sum() >= LEAST and len(days) == 1 < len(all_days):
        yield "all labels are of one day"


def _only_label(card: Card, values: NDArray[Any]) -> str:
    """The one label that all samples have; "": there are others."""
    if card.task == "classify":
        found = Counter(values.tolist())
        return card.labels[int(next(iter(found)))] if len(found) == 1 else ""
    held = np.atleast_2d(values).any(axis=0)
    return "normal" if not held.any() else ""


def _constant(summary: Summary, rows: Rows, own: NDArray[np.intp]) -> str:
    """Columns that were the same in all samples, in words."""
    where, spread = summary.of(rows.x, own)
    still = np.ptp(where, axis=0) == 0
    if spread is not None:
        still &= spread.max(axis=0) <= 1e-9 * np.abs(where[0])
    names = [str(column) for column, is_still in zip(summary.columns, still, strict=True) if is_still]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
