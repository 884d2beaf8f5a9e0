# SPDX-License-Identifier: Apache-2.0
"""What was learnt of the inputs of one model's machines: a reference each, made of the samples that may be learnt from.

It grows with the samples that come (`reference`), so that samples which were deleted since still count. It is stored
beside the release that serves, and begins again with another model file or another way of making samples.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import cbor2
import numpy as np
from fedge_models.errors import StorageError, WireError
from fedge_models.graph.card import Card
from fedge_models.messages.cbor import decode_cbor
from numpy.typing import NDArray

from ..durable.releases import ChainStore
from ..samples.baseline import Plan
from ..windows.summary import Figures, Summary
from .reference import Reference, learn

logger = logging.getLogger(__name__)

GROWTH = 1.05  # of the samples: then the references are made again
SETTLING = 20  # samples, at least


class Inputs(NamedTuple):
    """Samples that may be learnt from, before standardisation."""

    x: NDArray[Any]  # (all, *shape)
    rows: NDArray[np.intp]  # (n,) which of them
    assets: NDArray[np.str_]  # (n,)
    times: NDArray[np.int64]  # (n,) ns


class InputReferences:
    """The references of a model with this card and input shape; recipe: how its samples are made."""

    def __init__(
        self, card: Card, shape: tuple[int, ...], recipe: bytes, chain: ChainStore, plans: Mapping[str, Plan]
    ) -> None:
        self._summary, self._chain, self._plans = Summary(card, shape), chain, plans
        self._recipe = recipe + repr([str(column) for column in self._summary.columns]).encode()
        self._learnt_on = 0  # samples
        self.of: Mapping[str, Reference] = decode(chain.load_inputs(), self._recipe, len(self._summary.columns))

    def is_due(self, total: int) -> bool:
        """Whether there are enough new samples; total: of all that were ever collected."""
        return total >= max(self._learnt_on + SETTLING, GROWTH * self._learnt_on)

    def learn(self, total: int, inputs: Inputs) -> None:
        """Add the samples that came since."""
        self._learnt_on, found = total, dict(self.of)
        for asset, plan in self._plans.items():
            own = np.flatnonzero(inputs.assets == asset)
            own = own[np.argsort(inputs.times[own], kind="stable")]
            known = found.get(asset)
            if known is not None and known.block_ns >= plan.drift_block_ns:
                own = own[inputs.times[own] > known.until_ns]
            made = self._learnt(known, inputs, own, plan) if len(own) else known
            if made is not None:
                found[asset] = made
        if any(found[asset] is not self.of.get(asset) for asset in found):
            self.of = found
            with suppress(StorageError):  # they are compared with nevertheless
                self._chain.save_inputs(encode(found, self._recipe))

    def _learnt(self, known: Reference | None, inputs: Inputs, own: NDArray[np.intp], plan: Plan) -> Reference | None:
        where, spread = self._summary.of(inputs.x, inputs.rows[own])
        finite = np.isfinite(where).all(axis=1)
        where, spread = where[finite], None if spread is None else spread[finite]
        return learn(known, inputs.times[own][finite], where, spread, plan.drift_block_ns, plan.drift_baseline_ns)


ROWS: tuple[str, ...] = ("scale", "low", "high", "window_low", "window_high", "anchor_low", "anchor_high")


def encode(references: Mapping[str, Reference], recipe: bytes) -> bytes:
    """The bytes to store."""
    rows = {asset: _row(found) for asset, found in references.items()}
    return cbor2.dumps([recipe, rows])


def _row(found: Reference) -> list[Any]:
    figures = [np.asarray(getattr(found, name), "<f8").tobytes() for name in ROWS]
    return [*figures, found.constant.tobytes(), found.covered_ns, found.until_ns, found.blocks, found.block_ns]


def decode(data: bytes | None, recipe: bytes, columns: int) -> dict[str, Reference]:
    """The stored references; none when they are of other columns, or cannot be read."""
    try:
        stored, rows = decode_cbor(data or b"\x80", "inputs.cbor")
        return {str(asset): _reference(row, columns) for asset, row in rows.items()} if stored == recipe else {}
    except (WireError, ValueError, TypeError, AttributeError):
        return {}


def _reference(row: list[Any], columns: int) -> Reference:
    *figures, constant, covered_ns, until_ns, blocks, block_ns = row
    made = {name: _figures(data, columns) for name, data in zip(ROWS, figures, strict=True)}
    still = np.frombuffer(constant, np.bool_)
    if still.shape != (columns,):
        raise ValueError("another number of columns")
    made["scale"] = made["scale"].ravel()
    ends = {"covered_ns": int(covered_ns), "until_ns": int(until_ns), "blocks": int(blocks), "block_ns": int(block_ns)}
    return Reference(**made, constant=still, **ends)  # type: ignore[arg-type]


def _figures(data: bytes, columns: int) -> Figures:
    found: Figures = np.frombuffer(data, "<f8").reshape(-1, columns)
    if not np.isfinite(found).all():
        raise ValueError("a figure that is not finite")
    return found
