# SPDX-License-Identifier: Apache-2.0
"""How the site's own model and the release decide together, kept for as long as both and the standardisation stay.

Samples may be lost or unreadable, also before a restart. What decides must stay as it was then, with the limits that
were made for it, and no release may come to decide alone because nothing is left to compare it with.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import cbor2
import numpy as np
from fedge_models.errors import StorageError, WireError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.cbor import decode_cbor
from fedge_models.messages.quantize import Floats
from fedge_models.training.standardise import Scale
from numpy.typing import NDArray

from ..durable.releases import ChainStore
from .champion import choose
from .mixture import Blend
from .stored_limits import made_for
from .training import Data


class Kept(NamedTuple):
    """A choice, with a digest of the models and standardisation it was made for.

    share: None if the release decides alone.
    """

    made_for: bytes
    share: float | None
    known: NDArray[np.bool_] | None
    counts: NDArray[np.float32] | None = None  # see `Mixing`


class KeptChoice:
    """The choice for one model file."""

    def __init__(self, graph: TrainableGraph, chain: ChainStore) -> None:
        self._graph, self._chain = graph, chain

    def blend(
        self,
        release: Floats,
        own: Floats | None,
        scale: Scale,
        recipe: bytes,
        data: Data,
        held: Data,
        units: int | None = None,
    ) -> Blend:
        """Return the choice that is kept for these models and standardisation; else choose by samples (`choose`).

        units: where the release is a trained file, and so guarded, how many whole units are held back; None: it is not.
        """
        if own is None:
            return Blend(self._graph, release)
        made, kept = made_for([release, own], scale, recipe), self._kept()
        if kept is not None and kept.made_for == made:
            return (
                Blend(self._graph, release)
                if kept.share is None
                else Blend(self._graph, release, own, kept.share, kept.known, kept.counts)
            )
        if units is None and kept is not None and kept.share is not None and not (len(data.x) or len(held.x)):
            return Blend(self._graph, release, own, 1 / 2, kept.known, kept.counts)
        if units == 0:
            return Blend(self._graph, release)
        found = choose(self._graph, release, own, data, held, guarded=units is not None)
        if len(held.x):
            self._keep(Kept(made, None if found.own is None else found.share, found.known, found.counts))
        return found

    def _keep(self, choice: Kept) -> None:
        with suppress(StorageError):  # it decides nevertheless
            self._chain.save_choice(encode(choice))

    def _kept(self) -> Kept | None:
        found = decode(self._chain.load_choice())
        if found is None or found.known is None:
            return found
        labels = len(self._graph.card.labels)
        fits = len(found.known) == labels and (found.counts is None or found.counts.shape == (labels,))
        return found if fits else None


def encode(choice: Kept) -> bytes:
    """The bytes to store."""
    known, counts = (None if array is None else array.tolist() for array in (choice.known, choice.counts))
    return cbor2.dumps([choice.made_for, choice.share, known, counts])


def decode(data: bytes | None) -> Kept | None:
    """Read a stored choice; None when there is none or it cannot be read."""
    try:
        made, share, known, counts = decode_cbor(data or b"\x80", "share.cbor")
        found = None if share is None else float(share)
        classes = None if known is None else np.array(known, np.bool_)
        factors = None if counts is None else np.array(counts, np.float32)
    except (WireError, ValueError, TypeError):
        return None
    if factors is not None and (classes is None or not ((factors >= 0) & (factors <= 1)).all()):
        return None
    return Kept(bytes(made), found, classes, factors) if found is None or 0 <= found <= 1 else None
