# SPDX-License-Identifier: Apache-2.0
"""Tensors that each site keeps for itself: normalisation (FedBN: Li et al. 2021) or a head (Arivazhagan et al. 2019).

The card's `local` names them. A new site starts from a release's values of them, then trains its own and decides with
them. It sends zeros for them, or what a new site is to start from (`start_value`). Pure; the caller stores them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..graph.trainable import TrainableGraph
from ..messages.quantize import Floats
from ..system.choices import hint

Mask = NDArray[np.bool_]


def local_mask(graph: TrainableGraph) -> Mask:
    """Return which parameters (P,) stay at the site.

    Raises ModelError when a glob of the card matches no tensor of the file, for what it was meant for would be sent;
    and when the globs match no trainable tensor, or all.
    """
    if not graph.card.local:
        return np.zeros(graph.params.size, np.bool_)
    _check_each(graph, _globs(graph.card.local))
    mask = mask_of(graph.card.local, [t.name for t in graph.layout], graph.sizes)
    if mask.all() or not mask.any():
        which = "every" if mask.all() else "no"
        raise ModelError(f"card: local {graph.card.local!r} matches {which} trainable tensor; {_listed(graph)}")
    return mask


def mask_of(local: str, names: Sequence[str], sizes: NDArray[np.int64]) -> Mask:
    """Return which parameters (P,) the globs of a card's `local` match, of trainable tensors by name and size (T,)."""
    matched = [any(fnmatchcase(name, glob) for glob in _globs(local)) for name in names]
    return np.repeat(np.array(matched, np.bool_), sizes)


def local_tensors(graph: TrainableGraph) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that stay at the site, by name. Raises ModelError as `local_mask`."""
    mask = local_mask(graph)
    return {t.name: t.shape for t in graph.layout if mask[t.start : t.stop].any()}


def check_local(graph: TrainableGraph, where: str) -> None:
    """Raise ModelError, beginning with `where`, for what the card's `local` cannot mean."""
    try:
        local_mask(graph)
    except ModelError as e:
        raise ModelError(f"{where}: {e}") from e


def _globs(local: str) -> list[str]:
    return [g.strip() for g in local.split(",") if g.strip()]


def _check_each(graph: TrainableGraph, globs: list[str]) -> None:
    """Refuse a glob that matches nothing. One of a frozen tensor is right: that is not sent either."""
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in graph.stored):
            near = hint(glob, (t.name for t in graph.layout))
            raise ModelError(
                f"card: local lists {glob!r}, which matches no tensor of the file, so what was meant would be sent to "
                f"the aggregator; {near}"
            )


def _listed(graph: TrainableGraph) -> str:
    return f"they are: {', '.join(t.name for t in graph.layout)}"


def compose(shared: Floats, own: Floats | None, mask: Mask) -> Floats:
    """Return the weights (P,) of a site: those of a release, with its own tensors where the mask says so.

    own: the site's own tensors (mask.sum(),) as `extract` returned them; None: it has none yet.
    """
    if own is None or not mask.any():
        return shared
    made = shared.copy()
    made[mask] = own
    return made


def extract(params: Floats, mask: Mask) -> Floats:
    """Return the site's own tensors (mask.sum(),), one after the other."""
    return params[mask]
