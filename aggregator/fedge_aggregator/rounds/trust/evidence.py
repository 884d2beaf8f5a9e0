# SPDX-License-Identifier: Apache-2.0
"""Compare the updates of one round with each other: agreement, length, near-copies. Pure, from n x n numbers.

Each update is compared, in grid units, with the mean of the *other* updates. In that mean every update is cut to the
usual length and weighted by the trust in its node, and near-copies count once. A node and its near-copies are left out
of the mean that they are compared with, so that no node can support itself. A second figure is the weighted median of
the cosines with each of the others (`support`): a minority cannot move it far, however long its updates are.

Nodes are taken in the order of their names, so that the order of arrival does not change a bit of the results.
`suspicion.py` decides what the figures mean, `reputation.py` remembers them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COPY_ANGLE = 0.2  # share of the usual distance between a direction and its nearest other: closer ones are near-copies
LONGEST = 1.0  # usual lengths: longer updates are cut to this in the mean of the others


@dataclass(frozen=True)
class Evidence:
    """One node's update of one round, compared with the others."""

    cosine: float  # with the mean of the others, -1 to 1; 0 for an update of zeros
    support: float  # weighted median of its cosines with each of the others
    length: float  # in usual lengths (the median over the nodes that have a vote)
    distance: float  # from the mean of the others, in usual distances
    copies: tuple[str, ...]  # other nodes whose updates point in almost exactly the same direction
    residual: Floats  # (WIDTH,) sketch of its part that the others do not share, in usual lengths


@dataclass(frozen=True)
class RoundEvidence:
    """Evidence on all updates of one round."""

    evidence: dict[str, Evidence]
    groups: tuple[tuple[str, ...], ...]  # near-copies, two or more nodes each; a group has one vote

    def share(self, node: str) -> float:
        """The node's share of one vote: 1, or an equal part of the vote of its near-copies."""
        return 1.0 / (1 + len(self.evidence[node].copies))


def collect(
    names: Sequence[str],
    gram: Floats,
    sketches: Floats,
    votes: Mapping[str, float],
) -> RoundEvidence:
    """Collect the evidence on each update of a round.

    names: the nodes (n,), no two alike; gram: inner products (n, n) of their rows, not centred;
    sketches: (n, WIDTH) of the rows (`sketches.sketch`); votes: the trust in each node before this round, 0 for those
    in quarantine (missing: 0).
    Raises ValueError when the shapes do not fit or no node has a vote.
    """
    order = sorted(range(len(names)), key=lambda i: names[i])
    named = [names[i] for i in order]
    vote = np.array([votes.get(n, 0.0) for n in named])
    if gram.shape != (len(names),) * 2 or len(sketches) != len(names) or len(set(named)) != len(named):
        raise ValueError(f"{len(names)} names, Gram matrix {gram.shape}, {len(sketches)} sketches: they do not fit")
    if vote.min(initial=1.0) < 0 or not vote.any():
        raise ValueError("no node has a vote, or one has a negative vote: there is nothing to compare with")
    return _collect(named, np.asarray(gram, np.float64)[np.ix_(order, order)], np.asarray(sketches)[order], vote)


def _collect(names: list[str], gram: Floats, sketches: Floats, vote: Floats) -> RoundEvidence:
    lengths = np.sqrt(np.maximum(np.diag(gram), 0.0))
    counted = lengths[(vote > 0) & (lengths > 0)]
    usual = float(np.median(counted)) if len(counted) else 1.0
    cosines = _cosines(gram, lengths)
    alike = _alike(cosines, lengths, vote)
    cut = np.minimum(1.0, LONGEST * usual / np.maximum(lengths, 1e-12))
    weights = vote / alike.sum(axis=1)
    weights = weights / weights.sum()
    cosine, distance = _against_others(gram, lengths, cut, weights, alike)
    support = _support(cosines, weights, alike)
    residual = _residual(gram, cut, weights, sketches) / usual
    usually = float(np.median(distance[vote > 0])) or 1.0
    copies = [tuple(names[j] for j in np.flatnonzero(row) if j != i) for i, row in enumerate(alike)]
    found = {
        n: Evidence(
            float(cosine[i]),
            float(support[i]),
            float(lengths[i] / usual),
            float(distance[i] / usually),
            copies[i],
            residual[i],
        )
        for i, n in enumerate(names)
    }
    groups = {tuple(names[j] for j in np.flatnonzero(row)) for row in alike if row.sum() > 1}
    return RoundEvidence(found, tuple(sorted(groups)))


def _cosines(gram: Floats, lengths: Floats) -> Floats:
    safe = np.where(lengths > 0, lengths, np.inf)
    cosines: Floats = np.clip(gram / safe[:, None] / safe[None, :], -1.0, 1.0)
    return cosines


def _alike(cosines: Floats, lengths: Floats, vote: Floats) -> NDArray[np.bool_]:
    """Which updates (n, n) are near-copies of each other; each is a near-copy of itself.

    Near is relative to the usual distance between a direction and its nearest other. So sites with similar data are not
    near-copies as long as all sites are about as similar, and neither are sites that know one class each.
    """
    n = len(lengths)
    apart = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0))
    apart[lengths == 0], apart[:, lengths == 0] = np.inf, np.inf
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(axis=1, initial=np.inf)
    known = nearest[(vote > 0) & np.isfinite(nearest)]
    near = apart < COPY_ANGLE * float(np.median(known)) if len(known) else np.zeros((n, n), np.bool_)
    np.fill_diagonal(near, True)
    return _closed(near)


def _closed(near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Groups (n, n) of the updates that are connected through near-copies."""
    label = np.arange(len(near))
    while True:
        lowest = np.where(near, label[None, :], len(near)).min(axis=1)
        if (lowest == label).all():
            return label[:, None] == label[None, :]
        label = lowest


def _against_others(
    gram: Floats, lengths: Floats, cut: Floats, weights: Floats, alike: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Cosine of each (cut) update with the mean of those that are not its near-copies, and its distance from it."""
    share, inner = weights * cut, gram * alike
    rest = np.maximum(1.0 - alike @ weights, 1e-12)  # share of all weight that the others have
    product = (gram @ share - inner @ share) / rest
    whole = gram @ share
    square = share @ whole - 2 * (alike @ (share * whole)) + alike @ (share * (inner @ share))
    square = np.maximum(square, 0.0) / rest**2
    alone = rest <= 1e-9  # all the others are its near-copies or have no vote
    cosine = product / np.maximum(lengths * np.sqrt(square), 1e-12)
    distance = np.sqrt(np.maximum(lengths**2 - 2 * product + square, 0.0))
    return np.where(alone, 1.0, np.clip(cosine, -1.0, 1.0)), np.where(alone, 0.0, distance)


def _residual(gram: Floats, cut: Floats, weights: Floats, sketches: Floats) -> Floats:
    """Sketches (n, WIDTH) of each (cut) update without the mean of all: the part that it does not share.

    The mean is subtracted as often as the update contains it, at most once. So an update that has less of the mean
    leaves no residual (a site with nothing left to learn sends such updates), one that has more of it does.
    """
    share = weights * cut
    along = np.clip(cut * (gram @ share) / max(float(share @ gram @ share), 1e-12), 0.0, 1.0)
    return cut[:, None] * sketches - along[:, None] * (share @ sketches)


def _support(cosines: Floats, weights: Floats, alike: NDArray[np.bool_]) -> Floats:
    """Weighted medians (n,) of the cosines of each update with the others."""
    found = np.ones(len(weights))
    for i, row in enumerate(cosines):
        others = np.flatnonzero(~alike[i] & (weights > 0))
        if len(others):
            order = others[np.argsort(row[others], kind="stable")]
            below = np.cumsum(weights[order])
            found[i] = row[order[np.searchsorted(below, below[-1] / 2)]]
    return found
