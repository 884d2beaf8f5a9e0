"""The open updates of a round, verified again and laid on the newest grid, as rows for the average.

What is stored counts. Bytes that have the SHA-256 of those verified a moment ago need no second look; there are none
after a restart, and the result is the same. One at a time is unpacked. Rows stay in memory while they are few; more go
into a scratch file, so that a round takes the memory of some column blocks and not that of all updates. What the disk
has damaged is left out and said.
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

MEMORY_BYTES = 64 << 20  # of codes
SCRATCH = "round-{}.rows"


@dataclass
class Opened:
    """What there is to average, in the order of nodes' names."""

    updates: list[Contribution] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)  # node -> why its update is left out


class Verified:
    """Updates as they were verified when they came, by the SHA-256 of their bytes; as many as there is room for."""

    def __init__(self, room: int = MEMORY_BYTES) -> None:
        self._updates: dict[bytes, Update] = {}
        self._room = self._left = room  # bytes of codes
        self._lock = threading.Lock()

    def keep(self, digest: bytes, update: Update) -> None:
        """Remember it for the round's end."""
        with self._lock:
            if update.codes.nbytes <= self._left:
                self._updates[digest] = update
                self._left -= update.codes.nbytes

    def hand_over(self) -> dict[bytes, Update]:
        """All of them; none is remembered any more."""
        with self._lock:
            updates, self._updates, self._left = self._updates, {}, self._room
        return updates


@contextmanager
def rows_of(
    store: Store, model: Model, header: Header, max_samples: int, folder: Path, verified: Mapping[bytes, Update]
) -> Iterator[tuple[Opened, Rows | None]]:
    """The open updates against `header` and before, and their codes; None: there is none. Raises StorageError."""
    waiting, opened = store.updates.open(model.federation), Opened()
    d = int(model.sizes.sum())
    if len(waiting) * d <= MEMORY_BYTES:
        codes = list(_codes(store, model, header, max_samples, waiting, verified, opened))
        yield opened, MemoryRows(codes) if codes else None
        return
    with RowsWriter(folder / SCRATCH.format(model.federation), d, len(waiting)) as writer:
        for row in _codes(store, model, header, max_samples, waiting, verified, opened):
            writer.append(row)
        yield opened, writer.rows() if opened.updates else None


def _codes(
    store: Store,
    model: Model,
    header: Header,
    max_samples: int,
    waiting: Sequence[UpdateRow],
    verified: Mapping[bytes, Update],
    opened: Opened,
) -> Iterator[Codes]:
    """Codes of one update after the other; what else is known of it goes to `opened`."""
    for row in waiting:
        try:
            update, codes = _reopen(store, model, header, max_samples, row, verified)
        except RefusedError as e:
            opened.damaged[row.node] = f"stored update is left out: {e}"
            continue
        opened.updates.append(update)
        yield codes


def _reopen(
    store: Store, model: Model, header: Header, max_samples: int, row: UpdateRow, verified: Mapping[bytes, Update]
) -> tuple[Contribution, Codes]:
    node, base = store.node(row.node), store.releases.base(model.federation, row.base)
    if node is None or base is None:
        raise StaleError(f"node {row.node} or base release {row.base} is not known any more")
    body = store.updates.body(model.federation, row.node)
    update = verified.get(hashlib.sha256(body).digest())
    if update is None:
        update = decode_update(body, Ed25519PublicKey.from_public_bytes(node.key), model.sizes)
    staleness, samples = header.version - row.base, min(update.samples, max_samples)
    made = Contribution(row.node, update.spread, samples, staleness, update.metrics)
    return made, regrid(update.codes, base.steps, header.steps, model.sizes)
