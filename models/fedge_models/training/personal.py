# SPDX-License-Identifier: Apache-2.0
"""Tensors that each site keeps for itself: normalisation (FedBN: Li et al. 2021) or a head (Arivazhagan et al. 2019).

The card's `local` names them. A new site starts from a release's values of them, then trains its own, decides with them
and sends zeros for them. Pure; the caller stores them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..graph.trainable import TrainableGraph
from ..messages.quantize import Floats

Mask = NDArray[np.bool_]


def local_mask(graph: TrainableGraph) -> Mask:
    """Return which parameters (P,) stay at the site. Raises ModelError when the card's globs match none, or all."""
    globs = [g.strip() for g in graph.card.local.split(",") if g.strip()]
    mask = np.zeros(graph.params.size, np.bool_)
    for tensor in graph.layout:
        mask[tensor.start : tensor.stop] = any(fnmatchcase(tensor.name, glob) for glob in globs)
    if globs and (mask.all() or not mask.any()):
        names = ", ".join(t.name for t in graph.layout)
        which = "every" if mask.all() else "no"
        raise ModelError(f"card: local {graph.card.local!r} matches {which} trainable tensor; they are: {names}")
    return mask


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
