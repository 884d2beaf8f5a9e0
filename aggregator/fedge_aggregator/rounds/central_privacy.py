# SPDX-License-Identifier: Apache-2.0
"""DP-FedAvg: bound what releases reveal about any one site to those who see only releases.

McMahan et al. 2018, "Learning differentially private recurrent language models". Each update is clipped to an L2 norm
here, whatever its sender did. A secret coin decides whether it counts in this round; all that count weigh the same.
Noise is added to the sum, and the sum is divided by how many updates were expected, not by how many came. So adding or
removing one site moves the sum by at most the clip norm, which is what `fedge_models.privacy.accounting` counts. What
the aggregator itself sees is not protected: for that a site adds noise to its own updates.

Pure except for the random bits. The caller stores `Spent` in the transaction that publishes the release, so that no
noise is drawn twice for one round. It takes the next grid from `spread`, publishes `figures` instead of what nodes
reported, and derives no weight or selection from the updates. A round of which no update counts is published too: that
nobody was chosen is as secret as who was. Server optimisers come after the noise and cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from fedge_models.errors import BudgetError, ConfigError
from fedge_models.messages.quantize import Floats, dequantize
from fedge_models.privacy import mechanism
from fedge_models.privacy.accounting import ORDERS, Divergences, sampled
from fedge_models.privacy.accounting import epsilon as epsilon_of
from fedge_models.privacy.discrete_gaussian import Bits, below, sample, system_bits
from fedge_models.privacy.mechanism import Clip, Delta, Epsilon, NoiseMultiplier
from fedge_models.system.structs import known
from fedge_models.training.personal import Mask
from msgspec import Meta
from numpy.typing import NDArray

from .engine.update_rows import Rows

ROUNDS = 1 << 40  # more rounds than will ever be counted
HEADROOM = 8.0  # times the clip norm spread evenly over all parameters: the range of a node's 127 steps
COIN_BITS = 53  # precision of a probability in float64
LINEAR = "fedavg"  # the only rule whose weights do not depend on the updates


@known
class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[federation.X] privacy``: noise on every release, and a budget for all of them together."""

    clip: Clip  # longer updates (L2, in parameter units) are scaled down to this
    noise_multiplier: NoiseMultiplier  # standard deviation of the noise on the sum of updates, in clip norms
    epsilon: Epsilon  # the budget: once it is spent there are no more rounds
    delta: Delta  # probability with which epsilon may not hold; choose well below 1 / number of sites
    sampling_rate: Annotated[float, Meta(gt=0, le=1)] = 1.0  # probability with which an update that came counts


@known
class CountedRounds(msgspec.Struct, frozen=True):
    """A number of rounds with the same noise and sampling rate."""

    noise_multiplier: float
    sampling_rate: float
    count: int


@known
class Spent(msgspec.Struct, frozen=True):
    """The cost of all rounds that a federation ever had; changed settings do not reset it."""

    rounds: tuple[CountedRounds, ...] = ()


def check(privacy: Privacy, rule: Mapping[str, Any], mixing: object, where: str) -> None:
    """Raise ConfigError for a rule, mixing or budget that allows no promise. where: file and key."""
    if rule.get("name") != LINEAR:
        raise ConfigError(
            f"{where}: needs rule = {{ name = {LINEAR!r} }}, got {rule.get('name')!r}: any other rule lets one update "
            "change what the others weigh, and noise of this size does not hide that; remove privacy, or the rule"
        )
    if mixing is not None:
        raise ConfigError(f"{where}: does not work with mixing: one update would count in several rows; remove mixing")
    if not rounds_left(Spent(), privacy):
        cost = epsilon(_after(Spent(), privacy), privacy.delta)
        raise ConfigError(
            f"{where}: one round with noise_multiplier {privacy.noise_multiplier:g} and sampling_rate "
            f"{privacy.sampling_rate:g} costs epsilon {cost:.3g}, the budget is {privacy.epsilon:g} at delta "
            f"{privacy.delta:g}: choose a larger noise_multiplier"
        )


def epsilon(spent: Spent, delta: float) -> float:
    """The epsilon spent so far, at delta."""
    return epsilon_of(_divergences(spent), delta)


def rounds_left(spent: Spent, privacy: Privacy) -> int:
    """The number of rounds that the budget still allows."""
    before, one = _divergences(spent), sampled(privacy.noise_multiplier, privacy.sampling_rate)
    low, high = 0, 1
    while high < ROUNDS and epsilon_of(before + high * one, privacy.delta) <= privacy.epsilon:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = epsilon_of(before + middle * one, privacy.delta) <= privacy.epsilon
        low, high = (middle, high) if fits else (low, middle)
    return low


def spend(spent: Spent, privacy: Privacy, name: str) -> Spent:
    """Count one more round. Raises BudgetError, in words for the operator, if the budget does not allow it."""
    if why := why_stopped(spent, privacy, name):
        raise BudgetError(why)
    return _after(spent, privacy)


def why_stopped(spent: Spent, privacy: Privacy, name: str) -> str | None:
    """Why there are no more rounds, in words for the operator; None while the budget allows one."""
    after = epsilon(_after(spent, privacy), privacy.delta)
    if after <= privacy.epsilon:
        return None
    return (
        f"privacy budget spent: {epsilon(spent, privacy.delta):.3g} of {privacy.epsilon:.3g} (delta "
        f"{privacy.delta:g}), another round would make it {after:.3g}; federation {name} keeps its newest release and "
        f"averages no more. A larger epsilon in [federation.{name}.privacy] allows more rounds and protects less"
    )


def status(spent: Spent, privacy: Privacy, name: str) -> dict[str, Any]:
    """Figures for the operator's status page."""
    return {
        **figures(spent, privacy),
        "budget": privacy.epsilon,
        "rounds": sum(r.count for r in spent.rounds),
        "left": rounds_left(spent, privacy),
        "stopped": why_stopped(spent, privacy, name),
    }


def figures(spent: Spent, privacy: Privacy) -> dict[str, float]:
    """What a release may report of its round: the noise does not cover nodes' counts and figures."""
    return {"epsilon": round(epsilon(spent, privacy.delta), 4), "delta": privacy.delta}


def spread(privacy: Privacy, sizes: NDArray[np.int64]) -> Floats:
    """The range (T,) of 127 steps of each tensor in the next round, from public numbers instead of reported spreads.

    Longer updates are clipped in any case; single parameters beyond the range saturate into the node's error feedback.
    """
    return np.full(len(sizes), HEADROOM * privacy.clip / math.sqrt(float(sizes.sum())), np.float32)


def aggregate(
    rows: Rows,
    steps: Floats,
    members: int,
    privacy: Privacy,
    local: Mask | None = None,
    bits: Bits = system_bits,
) -> Floats:
    """The mean (P,) with noise, in grid units, of rows on steps (P,), block by block.

    members: how many sites belong to the federation, each expected with probability `sampling_rate`;
    local: what stays at the sites (P,), and gets neither their codes nor noise.
    """
    heads = np.flatnonzero(coins(rows.n, privacy.sampling_rate, bits))
    seen = steps if local is None else np.where(local, np.float32(0), steps)
    lengths = _lengths(rows, heads, seen)
    out = np.empty(rows.d, np.float32)
    for start, stop in _spans(rows):
        total = sample(stop - start, bits)
        for row, length in zip(rows.block(start, stop)[heads], lengths, strict=True):
            values = dequantize(row, seen[start:stop])
            total += mechanism.to_lattice(values, length, privacy.clip, privacy.noise_multiplier)
        if local is not None:
            total[local[start:stop]] = 0
        noised = mechanism.from_lattice(total, privacy.clip, privacy.noise_multiplier)
        out[start:stop] = noised / np.float32(privacy.sampling_rate * members) / steps[start:stop]
    return out


def _lengths(rows: Rows, chosen: NDArray[np.int64], steps: Floats) -> list[float]:
    """Euclidean lengths of the chosen rows in parameter units."""
    squares = [
        [mechanism.norm(dequantize(row, steps[start:stop])) ** 2 for row in rows.block(start, stop)[chosen]]
        for start, stop in _spans(rows)
    ]
    return [math.sqrt(math.fsum(parts)) for parts in zip(*squares, strict=True)]


def _spans(rows: Rows) -> Iterator[tuple[int, int]]:
    """Spans of columns, one for each block."""
    for start in range(0, rows.d, rows.width):
        yield start, min(start + rows.width, rows.d)


def coins(count: int, rate: float, bits: Bits = system_bits) -> NDArray[np.bool_]:
    """Independent tosses (count,) that come up True with probability `rate`."""
    return below(1 << COIN_BITS, count, bits) < int(rate * (1 << COIN_BITS))


def _after(spent: Spent, privacy: Privacy) -> Spent:
    """The cost with one more round."""
    *before, last = spent.rounds or (CountedRounds(privacy.noise_multiplier, privacy.sampling_rate, 0),)
    if (last.noise_multiplier, last.sampling_rate) == (privacy.noise_multiplier, privacy.sampling_rate):
        return Spent((*before, CountedRounds(last.noise_multiplier, last.sampling_rate, last.count + 1)))
    return Spent((*spent.rounds, CountedRounds(privacy.noise_multiplier, privacy.sampling_rate, 1)))


def _divergences(spent: Spent) -> Divergences:
    """The Rényi divergences (ORDERS,) of all rounds together."""
    total = np.zeros(len(ORDERS))
    for rounds in spent.rounds:
        total += rounds.count * sampled(rounds.noise_multiplier, rounds.sampling_rate)
    return total
