"""The aggregator's memory: one SQLite file. Whatever a method returned from is durable.

WAL with ``synchronous=EXTRA``: a commit survives a power cut, and an update is one commit (its signed bytes are in the
row), so a `202` needs one fsync and nothing can be half there. The command line works on the same file while the
server runs.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models import files
from fedge_models.errors import StaleError, StorageError
from numpy.typing import NDArray

_SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes (
    name TEXT PRIMARY KEY, key BLOB NOT NULL, certificate BLOB NOT NULL, joined REAL NOT NULL, revoked REAL, seen REAL);
CREATE TABLE IF NOT EXISTS members (
    federation TEXT, node TEXT REFERENCES nodes, PRIMARY KEY (federation, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invitations (
    secret BLOB PRIMARY KEY, node TEXT NOT NULL, federations TEXT NOT NULL, expires REAL NOT NULL, spent_by BLOB);
CREATE TABLE IF NOT EXISTS models (
    federation TEXT PRIMARY KEY, graph BLOB NOT NULL, file BLOB NOT NULL, sizes BLOB NOT NULL, names TEXT NOT NULL,
    added REAL NOT NULL);
CREATE TABLE IF NOT EXISTS releases (
    federation TEXT, version INTEGER, hash BLOB NOT NULL, created REAL NOT NULL, rule TEXT NOT NULL,
    figures TEXT NOT NULL, full BLOB, difference BLOB, residual BLOB, PRIMARY KEY (federation, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS updates (
    federation TEXT, node TEXT, base INTEGER, sequence INTEGER NOT NULL, accepted REAL NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (federation, node, base));
CREATE TABLE IF NOT EXISTS sequences (
    federation TEXT, node TEXT, sequence INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (federation, node));
CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, time REAL NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL);
"""


class Node(NamedTuple):
    """An enrolled gateway."""

    name: str
    key: bytes  # Ed25519 public key, 32 bytes
    joined: float
    revoked: float | None
    seen: float | None


class Model(NamedTuple):
    """A federation's model file and the layout of its trainable tensors."""

    federation: str
    graph: bytes  # SHA-256 of the file
    sizes: NDArray[np.int64]  # (T,)
    names: tuple[str, ...]


class ReleaseRow(NamedTuple):
    """A release as listed."""

    version: int
    hash: bytes
    created: float
    rule: str
    figures: dict[str, float]


class UpdateRow(NamedTuple):
    """An accepted update of an open round."""

    node: str
    sequence: int
    accepted: float
    body: bytes


class Store:
    """All state that is not a private key. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.RLock()
        self._db = files.open_database(folder / "aggregator.sqlite", _SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable on return. Raises StorageError when the disk is full or failing."""
        with self._lock, files.transaction(self._db, "the aggregator's database") as db:
            yield db

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.OperationalError as e:
                raise StorageError(f"the aggregator's database cannot be read: {e}") from e

    # nodes

    def nodes(self) -> list[Node]:
        """Every enrolled node."""
        return [Node(*row) for row in self._all("SELECT name, key, joined, revoked, seen FROM nodes ORDER BY name")]

    def node(self, name: str) -> Node | None:
        """One node."""
        rows = self._all("SELECT name, key, joined, revoked, seen FROM nodes WHERE name = ?", name)
        return Node(*rows[0]) if rows else None

    def members(self, federation: str) -> list[str]:
        """Nodes of a federation that are not revoked."""
        sql = (
            "SELECT node FROM members JOIN nodes ON name = node WHERE federation = ? AND revoked IS NULL ORDER BY node"
        )
        return [row[0] for row in self._all(sql, federation)]

    def federations_of(self, node: str) -> list[str]:
        """What a node takes part in."""
        return [r[0] for r in self._all("SELECT federation FROM members WHERE node = ? ORDER BY federation", node)]

    def revoke(self, name: str, now: float) -> bool:
        """Take a node's right away; False when there is no such node."""
        with self.transaction() as db:
            changed = db.execute("UPDATE nodes SET revoked = coalesce(revoked, ?) WHERE name = ?", (now, name)).rowcount
            record(db, now, "revoke", name)
        return changed > 0

    def saw(self, seen: dict[str, float]) -> None:
        """Note when nodes were last heard from."""
        with self.transaction() as db:
            db.executemany("UPDATE nodes SET seen = ? WHERE name = ?", [(t, n) for n, t in seen.items()])

    # models and releases

    def add_model(self, model: Model, file: bytes, release: ReleaseRow, full: bytes, residual: bytes) -> bool:
        """Store a model with its first release; False when the federation already has one."""
        with self.transaction() as db:
            if db.execute("SELECT 1 FROM models WHERE federation = ?", (model.federation,)).fetchone():
                return False
            names = msgspec.json.encode(model.names).decode()
            sizes = model.sizes.astype("<i8").tobytes()
            values = (model.federation, model.graph, file, sizes, names, release.created)
            db.execute("INSERT INTO models VALUES (?, ?, ?, ?, ?, ?)", values)
            _insert_release(db, model.federation, release, (full, None, residual))
            record(db, release.created, "model", f"{model.federation} {model.graph.hex()}")
        return True

    def models(self) -> list[Model]:
        """Every federation's model."""
        rows = self._all("SELECT federation, graph, sizes, names FROM models ORDER BY federation")
        return [
            Model(f, g, np.frombuffer(s, "<i8").astype(np.int64), tuple(msgspec.json.decode(n))) for f, g, s, n in rows
        ]

    def model_file(self, federation: str) -> bytes:
        """The ONNX file."""
        return bytes(self._all("SELECT file FROM models WHERE federation = ?", federation)[0][0])

    def releases(self, federation: str) -> list[ReleaseRow]:
        """All releases, oldest first."""
        sql = "SELECT version, hash, created, rule, figures FROM releases WHERE federation = ? ORDER BY version"
        return [_release(*row) for row in self._all(sql, federation)]

    def newest(self, federation: str) -> tuple[ReleaseRow, bytes, bytes | None, bytes]:
        """The newest release with its full body, its difference and the residual."""
        sql = """SELECT version, hash, created, rule, figures, full, difference, residual FROM releases
                 WHERE federation = ? ORDER BY version DESC LIMIT 1"""
        row = self._all(sql, federation)[0]
        return _release(*row[:5]), row[5], row[6], row[7]

    def publish(self, federation: str, release: ReleaseRow, bodies: tuple[bytes, bytes | None, bytes]) -> None:
        """Make a release the newest and end the round that led to it; bodies: full, difference, residual."""
        with self.transaction() as db:
            _insert_release(db, federation, release, bodies)
            sql = """UPDATE releases SET full = NULL, difference = NULL, residual = NULL
                     WHERE federation = ? AND version < ?"""
            db.execute(sql, (federation, release.version))
            db.execute("DELETE FROM updates WHERE federation = ? AND base < ?", (federation, release.version))
            record(db, release.created, "release", f"{federation} {release.version} {release.hash.hex()}")

    # updates

    def accept(
        self, federation: str, node: str, sequence: int, base: tuple[int, bytes], body: bytes, now: float
    ) -> bool:
        """Take an update into the open round, durably. True: new; False: an exact repeat of the node's last.

        Raises StaleError for a replayed sequence, a base that is not the newest release, or a second update.
        """
        digest = hashlib.sha256(body).digest()
        with self.transaction() as db:
            sql = "SELECT sequence, digest FROM sequences WHERE federation = ? AND node = ?"
            last, known = db.execute(sql, (federation, node)).fetchone() or (-1, b"")
            if known == digest:
                return False
            if sequence <= last:
                raise StaleError(f"sequence {sequence} of node {node} is not above its last, {last}: a replay")
            sql = "SELECT version, hash FROM releases WHERE federation = ? ORDER BY version DESC LIMIT 1"
            newest = db.execute(sql, (federation,)).fetchone()
            if newest != base:
                raise StaleError(
                    f"base release {base[0]} of node {node} is not the open one, {newest[0]}: fetch and retrain"
                )
            try:
                values = (federation, node, base[0], sequence, now, body)
                db.execute("INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?)", values)
            except sqlite3.IntegrityError as e:
                raise StaleError(f"node {node} already has an update against release {base[0]}; one a round") from e
            db.execute("INSERT OR REPLACE INTO sequences VALUES (?, ?, ?, ?)", (federation, node, sequence, digest))
        return True

    def arrivals(self, federation: str, base: int) -> dict[str, float]:
        """Who has an update in the round against `base`, and since when."""
        sql = "SELECT node, accepted FROM updates WHERE federation = ? AND base = ? ORDER BY accepted"
        return dict(self._all(sql, federation, base))

    def updates(self, federation: str, base: int) -> list[UpdateRow]:
        """The round's updates in the order of their nodes' names, so that averaging again gives the same bits."""
        sql = "SELECT node, sequence, accepted, body FROM updates WHERE federation = ? AND base = ? ORDER BY node"
        return [UpdateRow(*row) for row in self._all(sql, federation, base)]

    def audit(self, limit: int) -> Sequence[tuple[float, str, str]]:
        """The newest entries of the audit log, newest first."""
        return self._all("SELECT time, what, detail FROM audit ORDER BY id DESC LIMIT ?", limit)


def _release(version: int, digest: bytes, created: float, rule: str, figures: str) -> ReleaseRow:
    return ReleaseRow(version, digest, created, rule, msgspec.json.decode(figures))


def _insert_release(
    db: sqlite3.Connection, federation: str, release: ReleaseRow, bodies: tuple[bytes, bytes | None, bytes]
) -> None:
    figures = msgspec.json.encode(release.figures).decode()
    values = (federation, release.version, release.hash, release.created, release.rule, figures, *bodies)
    db.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def record(db: sqlite3.Connection, now: float, what: str, detail: str) -> None:
    """Add a line to the audit log, inside the transaction of what it tells of."""
    db.execute("INSERT INTO audit (time, what, detail) VALUES (?, ?, ?)", (now, what, detail))
