"""What the updates of one round say about each other: agreement, size, likeness. Pure, from n x n numbers.

Everything is measured in grid units against a reference that nobody makes alone: the mean of the *other* updates, each
cut to the usual length, weighted by the trust its node has, near-copies counted once. A node and its near-copies
have no part in the reference that they are held against: nobody can vouch for itself. Beside it stands a figure that
a minority cannot move however it shouts, the weighted median of the cosines with each of the others (`support`).

Results do not depend, by a bit, on the order of nodes: they are worked out in the order of their names. Judging is
left to `suspicion.py`, memory to `trust.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TWIN_ANGLE = 0.2  # of the usual distance between an update's direction and the nearest other: closer are near-copies
LONGEST = 1.0  # usual lengths that an update has in the reference at most


@dataclass(frozen=True)
class Evidence:
    """One node's update of one round, beside the others'."""

    cosine: float  # with the mean of the others, -1 to 1; 0 for an update of nothing
    support: float  # weighted median of its cosines with each of the others
    length: float  # in usual lengths (the median over the nodes that count)
    distance: float  # from the mean of the others, in usual distances
    twins: tuple[str, ...]  # whose updates point almost exactly the same way, without itself
    residual: Floats  # (WIDTH,) sketch of where it went by itself, in usual lengths


@dataclass(frozen=True)
class Round:
    """What one round's updates come to."""

    evidence: dict[str, Evidence]
    groups: tuple[tuple[str, ...], ...]  # near-copies, two or more each; they are one vote

    def share(self, node: str) -> float:
        """Of one vote: 1, or an equal part of the vote of its near-copies."""
        return 1.0 / (1 + len(self.evidence[node].twins))


def collect(
    names: Sequence[str],
    gram: Floats,
    sketches: Floats,
    votes: Mapping[str, float],
) -> Round:
    """Evidence on each update of a round.

    names: of the nodes (n,), no two alike; gram: inner products (n, n) of their rows, not centred;
    sketches: (n, WIDTH) of the rows (`sketches.sketch`); votes: the trust in each node before this round, 0 for those
    in quarantine (missing: 0).
    Raises ValueError when the shapes do not fit or nobody has a vote.
    """
    order = sorted(range(len(names)), key=lambda i: names[i])
    named = [names[i] for i in order]
    vote = np.array([votes.get(n, 0.0) for n in named])
    if gram.shape != (len(names),) * 2 or len(sketches) != len(names) or len(set(named)) != len(named):
        raise ValueError(f"{len(names)} names, Gram matrix {gram.shape}, {len(sketches)} sketches: they do not fit")
    if vote.min(initial=1.0) < 0 or not vote.any():
        raise ValueError("no node has a vote, or one has a negative vote: there is nothing to compare with")
    return _collect(named, np.asarray(gram, np.float64)[np.ix_(order, order)], np.asarray(sketches)[order], vote)


def _collect(names: list[str], gram: Floats, sketches: Floats, vote: Floats) -> Round:
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
    twins = [tuple(names[j] for j in np.flatnonzero(row) if j != i) for i, row in enumerate(alike)]
    found = {
        n: Evidence(
            float(cosine[i]),
            float(support[i]),
            float(lengths[i] / usual),
            float(distance[i] / usually),
            twins[i],
            residual[i],
        )
        for i, n in enumerate(names)
    }
    groups = {tuple(names[j] for j in np.flatnonzero(row)) for row in alike if row.sum() > 1}
    return Round(found, tuple(sorted(groups)))


def _cosines(gram: Floats, lengths: Floats) -> Floats:
    safe = np.where(lengths > 0, lengths, np.inf)
    cosines: Floats = np.clip(gram / safe[:, None] / safe[None, :], -1.0, 1.0)
    return cosines


def _alike(cosines: Floats, lengths: Floats, vote: Floats) -> NDArray[np.bool_]:
    """Which updates (n, n) are near-copies of each other, each of itself too.

    Near is relative: to the distance at which a direction usually finds its nearest other. So sites whose data are much
    alike are no copies as long as all are as much alike, and one class a site is no conspiracy.
    """
    n = len(lengths)
    apart = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0))
    apart[lengths == 0], apart[:, lengths == 0] = np.inf, np.inf
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(axis=1, initial=np.inf)
    known = nearest[(vote > 0) & np.isfinite(nearest)]
    near = apart < TWIN_ANGLE * float(np.median(known)) if len(known) else np.zeros((n, n), np.bool_)
    np.fill_diagonal(near, True)
    return _closed(near)


def _closed(near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Groups (n, n): who can be reached from whom over near-copies."""
    label = np.arange(len(near))
    while True:
        lowest = np.where(near, label[None, :], len(near)).min(axis=1)
        if (lowest == label).all():
            return label[:, None] == label[None, :]
        label = lowest


def _against_others(
    gram: Floats, lengths: Floats, cut: Floats, weights: Floats, alike: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Cosine of each (cut) update with the mean of those that are not its copies, and its distance from that mean."""
    share, inner = weights * cut, gram * alike
    rest = np.maximum(1.0 - alike @ weights, 1e-12)  # of all weight
    product = (gram @ share - inner @ share) / rest
    whole = gram @ share
    square = share @ whole - 2 * (alike @ (share * whole)) + alike @ (share * (inner @ share))
    square = np.maximum(square, 0.0) / rest**2
    alone = rest <= 1e-9  # everyone else is its copy or has no vote
    cosine = product / np.maximum(lengths * np.sqrt(square), 1e-12)
    distance = np.sqrt(np.maximum(lengths**2 - 2 * product + square, 0.0))
    return np.where(alone, 1.0, np.clip(cosine, -1.0, 1.0)), np.where(alone, 0.0, distance)


def _residual(gram: Floats, cut: Floats, weights: Floats, sketches: Floats) -> Floats:
    """Sketches (n, WIDTH) of each (cut) update without the mean of all: where it goes by itself.

    Of the mean is taken away what the update has of it, and 1 at most: to say little of what all say is no push of
    one's own (a site with nothing left to learn does), to say more of it is.
    """
    share = weights * cut
    along = np.clip(cut * (gram @ share) / max(float(share @ gram @ share), 1e-12), 0.0, 1.0)
    return cut[:, None] * sketches - along[:, None] * (share @ sketches)


def _support(cosines: Floats, weights: Floats, alike: NDArray[np.bool_]) -> Floats:
    """The weighted median over the others of the cosine with each."""
    found = np.ones(len(weights))
    for i, row in enumerate(cosines):
        others = np.flatnonzero(~alike[i] & (weights > 0))
        if len(others):
            order = others[np.argsort(row[others], kind="stable")]
            below = np.cumsum(weights[order])
            found[i] = row[order[np.searchsorted(below, below[-1] / 2)]]
    return found
