# SPDX-License-Identifier: Apache-2.0
"""The store: nodes, members and models, and the parts that hold the rest.

The command line works on the same file while the server runs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from .audit import Audit, operator, record
from .database import Database
from .group_commit import GroupCommit
from .releases import Bodies, ReleaseRow, Releases, insert_release
from .round_state import RoundStates
from .statistics import Statistics
from .updates import Updates


class Node(NamedTuple):
    """An enrolled gateway."""

    name: str
    key: bytes  # Ed25519 public key, 32 bytes
    joined: float
    revoked: float | None
    seen: float | None


class Model(NamedTuple):
    """A federation's model file, without its bytes, and the layout of its trainable tensors."""

    federation: str
    graph: bytes  # SHA-256 of the file
    sizes: NDArray[np.int64]  # (T,)
    names: tuple[str, ...]


class Store:
    """All state except private keys. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder)
        self.releases = Releases(self._database)
        self.updates = Updates(self._database)
        self.audit = Audit(self._database)
        self.round_states = RoundStates(self._database)
        self.statistics = Statistics(self._database)
        self.close = self._database.close
        self.transaction = self._database.transaction
        self.reading = self._database.reading
        self._all = self._database.all

    def group_commit(self, gate: AbstractContextManager[Any]) -> GroupCommit:
        """Transactions that threads share, each inside `gate`."""
        return GroupCommit(self._database, gate)

    # nodes

    def nodes(self) -> list[Node]:
        """All enrolled nodes."""
        return [Node(*row) for row in self._all("SELECT name, key, joined, revoked, seen FROM nodes ORDER BY name")]

    def node(self, name: str) -> Node | None:
        """One node; None if it is not enrolled."""
        rows = self._all("SELECT name, key, joined, revoked, seen FROM nodes WHERE name = ?", name)
        return Node(*rows[0]) if rows else None

    def is_revoked(self, name: str) -> bool:
        """Whether the node is revoked."""
        return bool(self._all("SELECT 1 FROM nodes WHERE name = ? AND revoked IS NOT NULL", name))

    def members(self, federation: str) -> list[str]:
        """Nodes of a federation, without revoked ones."""
        sql = (
            "SELECT node FROM members JOIN nodes ON name = node WHERE federation = ? AND revoked IS NULL ORDER BY node"
        )
        return [row[0] for row in self._all(sql, federation)]

    def federations_of(self, node: str) -> list[str]:
        """The federations that a node is a member of."""
        return [r[0] for r in self._all("SELECT federation FROM members WHERE node = ? ORDER BY federation", node)]

    def revoke(self, name: str, now: float) -> bool:
        """Revoke a node; False if it is not enrolled."""
        with self.transaction() as db:
            changed = db.execute("UPDATE nodes SET revoked = coalesce(revoked, ?) WHERE name = ?", (now, name)).rowcount
            record(db, now, "revoke", f"by {operator()}", None, name)
        return changed > 0

    def note_seen(self, seen: dict[str, float]) -> None:
        """Store when nodes were last heard from, Unix time, s."""
        with self.transaction() as db:
            db.executemany("UPDATE nodes SET seen = ? WHERE name = ?", [(t, n) for n, t in seen.items()])

    # models

    def add_model(self, model: Model, file: bytes, release: ReleaseRow, bodies: Bodies) -> bool:
        """Store a model with its first release; False if the federation already has one."""
        with self.transaction() as db:
            if db.execute("SELECT 1 FROM models WHERE federation = ?", (model.federation,)).fetchone():
                return False
            names = msgspec.json.encode(model.names).decode()
            sizes = model.sizes.astype("<i8").tobytes()
            values = (model.federation, model.graph, file, sizes, names, release.created)
            db.execute("INSERT INTO models VALUES (?, ?, ?, ?, ?, ?)", values)
            insert_release(db, model.federation, release, bodies)
            detail = f"by {operator()}: file with SHA-256 {model.graph.hex()}"
            record(db, release.created, "model", detail, model.federation, None, release.version)
        return True

    def models(self) -> list[Model]:
        """The models of all federations."""
        rows = self._all("SELECT federation, graph, sizes, names FROM models ORDER BY federation")
        return [
            Model(f, g, np.frombuffer(s, "<i8").astype(np.int64), tuple(msgspec.json.decode(n))) for f, g, s, n in rows
        ]

    def model_file(self, federation: str) -> bytes:
        """The bytes of the ONNX file."""
        return bytes(self._all("SELECT file FROM models WHERE federation = ?", federation)[0][0])
