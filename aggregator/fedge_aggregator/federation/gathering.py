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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedge_models.errors import RefusedError, StaleError
from fedge_models.messages.quantize import Codes
from fedge_models.messages.release import Header
from fedge_models.messages.update import Update, decode_update

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


@contextmanager
def gather(
    store: Store, model: Model, header: Header, max_samples: int, folder: Path, verified: Mapping[bytes, Update]
) -> Iterator[tuple[Gathered, Rows | None]]:
    """Gather the open updates against `header` and earlier releases, and their codes; None if there are none.

    The rows are valid inside the `with`. Raises StorageError.
    """
    waiting, gathered = store.updates.listed(model.federation), Gathered()
    d = int(model.sizes.sum())
    if len(waiting) * d <= MEMORY_BYTES:
        codes = list(_codes(store, model, header, max_samples, waiting, verified, gathered))
        yield gathered, MemoryRows(codes) if codes else None
        return
    with RowsWriter(folder / SCRATCH.format(model.federation), d, len(waiting)) as writer:
        for row in _codes(store, model, header, max_samples, waiting, verified, gathered):
            writer.append(row)
        yield gathered, writer.rows() if gathered.updates else None


def _codes(
    store: Store,
    model: Model,
    header: Header,
    max_samples: int,
    waiting: Sequence[UpdateRow],
    verified: Mapping[bytes, Update],
    gathered: Gathered,
) -> Iterator[Codes]:
    """Yield the codes of one update after the other, and add the rest of it to `gathered`."""
    for row in waiting:
        try:
            update, codes = _read(store, model, header, max_samples, row, verified)
        except RefusedError as e:
            gathered.damaged[row.node] = f"the stored update is left out: {e}"
            continue
        gathered.updates.append(update)
        yield codes


def _read(
    store: Store, model: Model, header: Header, max_samples: int, row: UpdateRow, verified: Mapping[bytes, Update]
) -> tuple[Contribution, Codes]:
    """Read one stored update. Raises RefusedError if it is damaged, or its node or base is gone."""
    node, base = store.node(row.node), store.releases.base(model.federation, row.base)
    if node is None or base is None:
        raise StaleError(f"node {row.node} or base release {row.base} is no longer known")
    body = store.updates.body(model.federation, row.node)
    update = verified.get(hashlib.sha256(body).digest())
    if update is None:
        update = decode_update(body, Ed25519PublicKey.from_public_bytes(node.key), model.sizes)
    staleness, samples = header.version - row.base, min(update.samples, max_samples)
    made = Contribution(row.node, update.spread, samples, staleness, update.metrics)
    return made, regrid(update.codes, base.steps, header.steps, model.sizes)
