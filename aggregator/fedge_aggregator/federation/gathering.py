# SPDX-License-Identifier: Apache-2.0
"""Gather the open updates of a round: verified again and on the newest grid, as rows for the average.

Only what is stored counts. Bytes with the SHA-256 of an update verified since the last round are not verified again;
after a restart there are none, and the result is the same. Updates are decoded one at a time. Few rows stay in memory,
more go into a scratch file, so that a round takes the memory of some column blocks and not that of all updates. An
update that the disk has damaged is left out and reported.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedge_models.errors import RefusedError, StaleError
from fedge_models.messages.quantize import Codes, Floats, expand
from fedge_models.messages.release import Header
from fedge_models.messages.update import Update, decode_update
from fedge_models.training.personal import Mask

from ..rounds import start_value
from ..rounds.contribution import Contribution, regrid
from ..rounds.engine.update_rows import MemoryRows, Rows, RowsWriter
from ..store.store import Model, Store
from ..store.updates import UpdateRow

MEMORY_BYTES = 64 << 20  # of codes: with more the rows go into a file
SCRATCH = "round-{}.rows"


@dataclass
class Gathered:
    """The updates to average, in the order of nodes' names."""

    updates: list[Contribution] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)  # node -> why its update is left out


class VerifiedUpdates:
    """Decoded updates by the SHA-256 of their bytes, as many as there is room for. Thread-safe."""

    def __init__(self, room: int = MEMORY_BYTES) -> None:
        self._updates: dict[bytes, Update] = {}
        self._room = self._left = room  # bytes of codes
        self._lock = threading.Lock()

    def add(self, digest: bytes, update: Update) -> None:
        """Remember a verified update until the end of the round."""
        with self._lock:
            if update.codes.nbytes <= self._left:
                self._updates[digest] = update
                self._left -= update.codes.nbytes

    def take_all(self) -> dict[bytes, Update]:
        """Return all of them and forget them."""
        with self._lock:
            updates, self._updates, self._left = self._updates, {}, self._room
        return updates


class StaleOffers:
    """Move what stale updates say of local tensors from their base to the newest release, in one round."""

    def __init__(self, mask: Mask, weights: Callable[[int], Floats | None], newest: int) -> None:
        self.mask, self._weights, self._newest = mask, weights, newest
        self._values: dict[int, Floats | None] = {}  # version -> its local tensors: a release is read once a round

    def move(self, codes: Codes, version: int, grid: Floats, newest_grid: Floats) -> Codes | None:
        """The codes (p,) of local tensors as from the newest release; None when the base's weights are gone.

        codes: (P,) of an update on `version`, on its grid (P,).
        """
        base, newest, mask = self._of(version), self._of(self._newest), self.mask
        if base is None or newest is None:
            return None
        return start_value.moved(codes[mask], grid[mask], base, newest, newest_grid[mask])

    def _of(self, version: int) -> Floats | None:
        if version not in self._values:
            weights = self._weights(version)
            self._values[version] = None if weights is None else weights[self.mask]
        return self._values[version]


class _Round(NamedTuple):
    """What the updates of a round are read with."""

    store: Store
    model: Model
    header: Header
    max_samples: int
    verified: Mapping[bytes, Update]
    offers: StaleOffers | None


@contextmanager
def gather(
    store: Store,
    model: Model,
    header: Header,
    max_samples: int,
    folder: Path,
    verified: Mapping[bytes, Update],
    offers: StaleOffers | None = None,
) -> Iterator[tuple[Gathered, Rows | None]]:
    """Gather the open updates against `header` and earlier releases, and their codes; None if there are none.

    offers: for a card whose local tensors have a shared start value. The rows are valid inside the `with`. Raises
    StorageError.
    """
    how = _Round(store, model, header, max_samples, verified, offers)
    waiting, gathered = store.updates.listed(model.federation), Gathered()
    d = int(model.sizes.sum())
    if len(waiting) * d <= MEMORY_BYTES:
        codes = list(_codes(how, waiting, gathered))
        yield gathered, MemoryRows(codes) if codes else None
        return
    with RowsWriter(folder / SCRATCH.format(model.federation), d, len(waiting)) as writer:
        for row in _codes(how, waiting, gathered):
            writer.append(row)
        yield gathered, writer.rows() if gathered.updates else None


def _codes(how: _Round, waiting: Sequence[UpdateRow], gathered: Gathered) -> Iterator[Codes]:
    """Yield the codes of one update after the other, and add the rest of it to `gathered`."""
    for row in waiting:
        try:
            update, codes = _read(how, row)
        except RefusedError as e:
            gathered.damaged[row.node] = f"the stored update is left out: {e}"
            continue
        gathered.updates.append(update)
        yield codes


def _read(how: _Round, row: UpdateRow) -> tuple[Contribution, Codes]:
    """Read one stored update. Raises RefusedError if it is damaged, or its node or base is gone."""
    store, model, header = how.store, how.model, how.header
    node, base = store.node(row.node), store.releases.base(model.federation, row.base)
    if node is None or base is None:
        raise StaleError(f"node {row.node} or base release {row.base} is no longer known")
    body = store.updates.body(model.federation, row.node)
    update = how.verified.get(hashlib.sha256(body).digest())
    if update is None:
        update = decode_update(body, Ed25519PublicKey.from_public_bytes(node.key), model.sizes)
    staleness, samples = header.version - row.base, min(update.samples, how.max_samples)
    made = Contribution(row.node, update.spread, samples, staleness, update.metrics)
    codes = regrid(update.codes, base.steps, header.steps, model.sizes)
    if how.offers is None or not staleness:
        return made, codes
    grids = expand(base.steps, model.sizes), expand(header.steps, model.sizes)
    if (offer := how.offers.move(update.codes, row.base, *grids)) is None:
        return made, codes
    codes = codes.copy()  # where the grids are equal, it is the update's own
    codes[how.offers.mask] = offer
    return made._replace(moved=True), codes
