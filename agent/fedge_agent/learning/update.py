# SPDX-License-Identifier: Apache-2.0
"""From a local training to the signed update: noise where the site wants it, int8 codes, error feedback."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from fedge_models.messages.quantize import LIMIT, Codes, Floats, dequantize, expand, quantize, spread
from fedge_models.messages.release import Release
from fedge_models.messages.update import Update, encode_update
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.privacy.discrete_gaussian import Bits, system_bits
from fedge_models.privacy.mechanism import noised
from fedge_models.training import personal, start_value
from numpy.typing import NDArray

from .training import Trained

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SPREAD_QUANTILE = 0.999  # of |delta| in each tensor: what 127 steps should span; the few above saturate into feedback
LONGEST_NAME = 32  # of a figure in a message
MOSTLY = 0.9  # of the codes at the ends of the grid: an update that says little more than signs


def protected(
    trained: Trained, privacy: SitePrivacy, mask: personal.Mask, least_rows: int, bits: Bits = system_bits
) -> Trained:
    """Return what may leave the site of a training with privacy: no figures, and a clipped and noised difference.

    The difference is zero for the tensors that stay here. Instead of the number of rows, the smallest number is stated
    with which a site trains at all.
    Error feedback is added to the noised difference and taken from it, so coding only ever sees what is already
    protected. The correction of drift comes before the clip, from this site's own movement and public releases: the
    clip bounds it, whatever it was.
    """
    assert trained.delta is not None
    delta = np.zeros_like(trained.delta)
    delta[~mask] = noised(trained.delta[~mask], privacy.clip, privacy.noise_multiplier, bits)
    report = replace(trained.report, rows=max(1, least_rows))
    return replace(trained, report=report, delta=delta, before={}, after={})


def update_body(
    base: Release,
    trained: Trained,
    residual: Floats,
    sizes: NDArray[np.int64],
    node: str,
    sequence: int,
    key: Ed25519PrivateKey,
    shorten: bool = False,
    offered: personal.Mask | None = None,
) -> tuple[bytes, Floats]:
    """Return the signed update, and the residual (P,) that it leaves for the next one. shorten: as in `code`.

    offered: which tensors stay here (P,), and are offered as a start for new sites; None: nothing is.
    """
    assert trained.delta is not None
    wanted, steps = trained.delta + residual, base.header.steps
    codes, wish = code(wanted, steps, sizes, shorten)
    left = wanted - dequantize(codes, expand(steps, sizes))
    if offered is not None and trained.own is not None:
        codes, wish = start_value.offered(codes, wish, trained.own, base.weights, steps, sizes, offered)
    parts = (("base", trained.before), ("local", trained.after))
    metrics = {f"{part}_{k}"[:LONGEST_NAME]: v for part, figures in parts for k, v in figures.items()}
    update = Update(
        federation=base.header.federation,
        node=node,
        base_version=base.header.version,
        base_hash=base.hash,
        sequence=sequence,
        samples=trained.report.rows,
        metrics={k: v for k, v in metrics.items() if np.isfinite(v)},
        codes=codes,
        spread=wish,
    )
    return encode_update(update, key), left


def code(wanted: Floats, steps: Floats, sizes: NDArray[np.int64], shorten: bool = False) -> tuple[Codes, Floats]:
    """Code what is wanted (P,) on steps (T,); return codes (P,) and the spread (T,) that 127 steps should have had.

    With `shorten`, or where nearly all values would be cut off, each tensor that is wider than its grid is scaled down
    until it fits; the rest goes into the residual. Noise, and a first training with large steps, can be a hundred times
    wider than the first grid. Saturated, little more than signs would arrive, and an aggregator refuses an update of
    nothing but ends of the grid. A grid that follows the spreads has room for it after a few rounds.
    """
    least = np.float32(start_value.LEAST_SPREAD)
    wish, grid = np.maximum(spread(wanted, sizes, SPREAD_QUANTILE), least), expand(steps, sizes)
    if not shorten:
        codes = quantize(wanted, grid)
        if np.count_nonzero(np.abs(codes) == LIMIT) <= MOSTLY * codes.size:
            return codes, wish
    part = np.where(wish > LIMIT * steps, (LIMIT - 1) * steps / wish, 1).astype(np.float32)
    return quantize(wanted * expand(part, sizes), grid), wish
