# SPDX-License-Identifier: Apache-2.0
"""Tensors that stay at the sites: kept out of the average, and what a release makes of the sites' offers of them.

Honest sites differ in these tensors on purpose. So no rule, trust, norm or distance sees their columns: a round reads
zeros there, whatever an update holds. Where the card says `local_start = "shared"`, the release's values follow the
coordinate-wise median over the sites that offer theirs, each alike. A site that lacks a class or has privacy offers
nothing, a hostile one always does. So the values move only if the offers are more than twice the updates that
may be hostile, of all in the round: then it is between what two honest sites have. Nothing of a median of fewer than
`LEAST_SITES` sites is published, as it would show one of them to another. A stale update says how far its site was from
an older release: it counts once it is moved to the newest one (`moved`), for which the older one's weights must be
stored.

Pure, and apart from what a round leaves to the next: no momentum, no error feedback. A site's next offer begins with
the release as it then is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.messages.quantize import LIMIT, Codes, Floats, dequantize, quantize
from fedge_models.statistics.over_sites import LEAST_SITES
from fedge_models.training.personal import Mask, mask_of
from fedge_models.training.start_value import of_tensors, offers
from numpy.typing import NDArray

from .engine.update_rows import Rows


class Local(NamedTuple):
    """The tensors of a federation that stay at its sites."""

    mask: Mask  # (P,)
    tensors: NDArray[np.bool_]  # (T,)
    shared: bool  # whether a release's values of them follow those of the sites


class Start(NamedTuple):
    """How the release's values of these tensors move in a round."""

    step: Floats  # (mask.sum(),) in steps of the grid
    offers: int  # sites whose offers count
    needed: int  # offers without which the values stay

    @property
    def sites(self) -> int:
        """Whose offers it is the median of; 0: the values stay."""
        return self.offers if self.offers >= self.needed else 0


def local_of(card: Card, names: Sequence[str], sizes: NDArray[np.int64]) -> Local | None:
    """What stays at the sites, of tensors by name and size (T,); None where the card names nothing."""
    if not card.local:
        return None
    mask = mask_of(card.local, names, sizes)
    return Local(mask, of_tensors(mask, sizes), card.local_start == "shared")


@dataclass(frozen=True)
class AveragedRows:
    """Rows as rules and trust see them: zero in the columns of tensors that stay at the sites (d,)."""

    rows: Rows
    local: Mask

    @property
    def n(self) -> int:
        """How many rows."""
        return self.rows.n

    @property
    def d(self) -> int:
        """Codes in each."""
        return self.rows.d

    @property
    def width(self) -> int:
        """As of the rows."""
        return self.rows.width

    def narrow(self, start: int, stop: int) -> AveragedRows:
        """The same rows with fewer columns."""
        return AveragedRows(self.rows.narrow(start, stop), self.local[start:stop])

    def block(self, start: int, stop: int, out: Codes | None = None) -> Codes:
        """Those columns of all rows."""
        block = self.rows.block(start, stop, out)
        block[:, self.local[start:stop]] = 0
        return block


def follow(local: Local, rows: Rows, spreads: Sequence[Floats], counts: Sequence[bool], hostile: int) -> Start:
    """How the release's values follow the sites'.

    rows: codes as they came, on the newest grid; spreads: (T,) of each; counts: which updates are trusted, and fresh or
    moved; hostile: how many of all these updates may be so.
    """
    counted = [i for i, spread in enumerate(spreads) if counts[i] and offers(spread, local.tensors)]
    chosen = counted if local.shared else []
    needed = least_offers(hostile)
    if len(chosen) < needed:
        return Start(np.zeros(int(local.mask.sum()), np.float32), len(chosen), needed)
    return Start(_medians(rows, chosen, local.mask), len(chosen), needed)


def least_offers(hostile: int) -> int:
    """Offers without which the values stay, in a round that may have so many hostile updates."""
    return max(LEAST_SITES, 2 * hostile + 1)


def moved(codes: Codes, grid: Floats, base: Floats, newest: Floats, newest_grid: Floats) -> Codes:
    """An offer (p,) from the values of an older release as one from the newest, all of local tensors only.

    base: values (p,) that codes on `grid` are differences from; newest: those of the newest release, with its grid. The
    site's own are the same to half a step of that, or as near as 127 steps go. A code at the end of its grid says only
    that the site's are beyond: where the newest release is there too by now, nothing is known, and 0 pulls nowhere.
    """
    away = base + dequantize(codes, grid) - newest
    passed = (np.abs(codes) == LIMIT) & (away * codes < 0)
    return quantize(np.where(passed, np.float32(0), away), newest_grid)


def grid_spreads(local: Local | None, spreads: Sequence[Floats], steps: Floats) -> list[Floats]:
    """The spreads (T,) that the next grid follows: a site that offers nothing wants no other grid for what stays there.

    steps: of the grid that the updates are on.
    """
    if local is None or not local.shared:
        return list(spreads)
    return [
        spread if offers(spread, local.tensors) else np.where(local.tensors, LIMIT * steps, spread)
        for spread in spreads
    ]


def _medians(rows: Rows, chosen: Sequence[int], mask: Mask) -> Floats:
    """The median (mask.sum(),) over the chosen rows of each column of the mask, block by block."""
    found = []
    for start in range(0, rows.d, rows.width):
        here = mask[start : start + rows.width]
        if here.any():
            block = rows.block(start, start + len(here))
            found.append(np.median(block[chosen][:, here], axis=0))
    return np.concatenate(found).astype(np.float32)
