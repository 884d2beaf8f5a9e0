# SPDX-License-Identifier: Apache-2.0
"""Measure what each update does to the model on rows that the operator holds back. Agreement cannot fake this evidence.

After Zeno (Xie, Koyejo & Gupta 2019), which asks how far each update alone brings down the loss on a few samples of the
server, and FLTrust (Cao et al. 2021), where such a set of rows anchors trust. An honest site's update alone may well
make the model forget what the site has no data of. So each update is measured by the mean of all without it.

The file holds rows as every array does (`fedge_models.Model`): in the channels' units, with labels as the card's task
has them. They are standardised here by their own statistics, those of each `site` by itself; with `standardised` they
are taken as they are. They detect colluders who hide among the honest, above all those who swap labels. They must cover
all that the federation is for: a site that alone knows some class looks useless to a set of rows without that class.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from fedge_models.errors import ConfigError, ModelError
from fedge_models.graph.array_labels import check_numbers, check_targets, labels
from fedge_models.graph.array_rows import input_rows, yes_or_no
from fedge_models.graph.card import Card
from fedge_models.graph.card_scale import rows_in_card_scale
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.system.floats import rounded, wide
from fedge_models.training import standardise
from fedge_models.training.evaluation import row_losses
from fedge_models.training.objective import check_labels, known
from numpy.typing import NDArray

from .suspicion import Finding

MAX_BYTES = 256 * 1024 * 1024
FEWEST_ROWS, FEWEST_NODES = 20, 4
CERTAIN = 3.0  # standard errors of the paired differences, and robust deviations from the other nodes


@dataclass(frozen=True)
class HeldBack:
    """The operator's held-back rows."""

    x: Floats  # (m, *input_shape), standardised
    y: NDArray[Any] | None  # (m,) or (m, targets); None for the task anomaly


def load(path: Path, graph: TrainableGraph) -> HeldBack:
    """Read an ``.npz`` file with `x` and, except for anomaly, `y`; optional `site` (m,), `measured` and
    `standardised` (one bool each).

    Raises ConfigError with what was expected.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: has more than {MAX_BYTES} bytes; a few hundred rows are enough")
        with ZipFile(path), np.load(path, allow_pickle=False) as file:
            x = file["x"]
            check_numbers(x, "x")
            y = None if graph.card.task == "anomaly" else np.asarray(file["y"])
            site = np.asarray(file["site"]) if "site" in file.files else np.zeros(len(x), np.int64)
            ready = "standardised" in file.files and yes_or_no(file["standardised"], "standardised")
            measured = yes_or_no(file["measured"], "measured") if "measured" in file.files else None
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, BadZipFile, zlib.error) as e:
        raise ConfigError(f"{path}: cannot be read as held-back rows (.npz with x and y): {e}") from e
    try:
        x = input_rows(wide(x), graph.card, graph.input_shape, measured)
        y = None if y is None else _labels(y, len(x), graph)
    except (ValueError, ModelError) as e:
        raise ConfigError(f"{path}: {e}") from e
    if len(x) < FEWEST_ROWS:
        raise ConfigError(f"{path}: x is {x.shape}; expected at least {FEWEST_ROWS} rows of {graph.input_shape}")
    if not np.isfinite(x).all():
        raise ConfigError(f"{path}: x has values that are not finite")
    if site.shape != (len(x),):
        raise ConfigError(f"{path}: site is {site.shape}, expected ({len(x)},): the site of each row")
    return HeldBack(rounded(x) if ready else _standardised(x, site, graph.card), y)


def _labels(y: NDArray[Any], rows: int, graph: TrainableGraph) -> NDArray[Any]:
    """The label of each row. Raises ValueError where one is not known, or the model has none like it."""
    found, card = labels(y, rows, graph.card), graph.card
    check_targets(found, card, graph.output_shape)
    if card.task == "multilabel":
        check_labels(card, found)
    if not (whole := known(card.task, found)).all():
        raise ValueError(f"array 'y', row {int(whole.argmin())}: the label is not known; leave out such rows")
    return found


def _standardised(x: NDArray[Any], site: NDArray[Any], card: Card) -> Floats:
    """Rows as a gateway standardises them, by the statistics of the rows of their own site."""
    rows = rows_in_card_scale(x, card)
    made = np.empty(x.shape, np.float32)
    for name in np.unique(site):
        own = rows[site == name]
        made[site == name] = standardise.fit(own, card)(own)
    return made


def losses(
    graph: TrainableGraph, weights: Floats, updates: Sequence[Floats], shares: NDArray[np.float64], held: HeldBack
) -> tuple[Floats, Floats]:
    """Losses of the held-back rows after the mean of all updates (m,), and after the mean without each of them (n, m).

    weights: the base release (P,); updates: n of (P,), in the weights' unit; shares: their weights (n,), some above 0.
    The parameters of `graph` are overwritten.
    """
    shares = shares / shares.sum()
    mean = sum((np.float32(s) * u for s, u in zip(shares, updates, strict=True)), np.zeros_like(weights))

    def after(step: Floats) -> Floats:
        graph.set_params(weights + step)
        return row_losses(graph, held.x, held.y)

    return after(mean), np.stack([after(step) for step in _without(mean, updates, shares)])


def _without(mean: Floats, updates: Sequence[Floats], shares: NDArray[np.float64]) -> Iterator[Floats]:
    """The means without each update; of one without weight, subtract what an equal share of it would have moved."""
    for update, share in zip(updates, shares, strict=True):
        part = share if share > 0 else 1 / len(updates)
        yield mean - np.float32(part / max(1 - part, 1e-6)) * (update - mean)


def find(names: Sequence[str], everyone: Floats, without: Floats) -> Mapping[str, Finding]:
    """Find nodes whose updates make the model clearly worse: losses (m,) with everyone and (n, m) without each.

    Clearly: by more than chance over the rows, and by far more than the updates of the other nodes.
    """
    if len(names) < FEWEST_NODES:
        return {}
    rise = everyone[None, :].astype(np.float64) - without
    mean = rise.mean(axis=1)
    error = np.maximum(rise.std(axis=1) / rise.shape[1] ** 0.5, 1e-12)
    middle = float(np.median(mean))
    spread = max(1.4826 * float(np.median(np.abs(mean - middle))), 1e-12)
    harmful = (mean > 0) & (mean / error > CERTAIN) & ((mean - middle) / spread > CERTAIN)
    return {n: Finding(0.5, "harm") for i, n in enumerate(names) if harmful[i]}
