"""What the rounds of a federation leave to the next: standings of nodes, vectors, the privacy that was spent.

Written in the transaction that publishes the round's release; the command line may let a node out in between, so the
server reads it anew for each round.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import numpy as np

from ..rounds.average import Carried
from ..rounds.central_privacy import Spent
from ..rounds.trust.outside_evidence import Seen
from ..rounds.trust.reputation import Standing
from .audit import record
from .database import Database


class CarriedStore:
    """That of all federations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, federation: str) -> Carried:
        """What the last round left; at first, nothing."""
        all_ = self._database.all
        vectors = {
            name: np.frombuffer(data, "<f4").astype(np.float32)
            for name, data in all_("SELECT name, data FROM vectors WHERE federation = ? ORDER BY name", federation)
        }
        spent = all_("SELECT data FROM spent WHERE federation = ?", federation)
        seen = all_("SELECT data FROM seen WHERE federation = ?", federation)
        moved, went = vectors.pop("moved", None), vectors.pop("went", None)
        return Carried(
            self.standings(federation),
            msgspec.json.decode(spent[0][0], type=Spent) if spent else Spent(),
            msgspec.json.decode(seen[0][0], type=Seen) if seen else Seen(),
            moved,
            tuple(vectors.values()),
            went,
        )

    def standings(self, federation: str) -> dict[str, Standing]:
        """What is remembered of each node."""
        sql = "SELECT node, data FROM standings WHERE federation = ? ORDER BY node"
        return {n: msgspec.json.decode(data, type=Standing) for n, data in self._database.all(sql, federation)}

    def keep(self, federation: str, carried: Carried, changes: Collection[str], now: float, release: int) -> None:
        """Keep what a round leaves; `changes` go into the log."""
        vectors = {f"state{i}": v for i, v in enumerate(carried.state)}
        kept = {"moved": carried.moved, "went": carried.went}
        vectors |= {name: v for name, v in kept.items() if v is not None}
        with self._database.transaction() as db:
            db.execute("DELETE FROM vectors WHERE federation = ?", (federation,))
            rows = [(federation, name, v.astype("<f4").tobytes()) for name, v in vectors.items()]
            db.executemany("INSERT INTO vectors VALUES (?, ?, ?)", rows)
            spent = msgspec.json.encode(carried.spent).decode()
            db.execute("INSERT OR REPLACE INTO spent VALUES (?, ?)", (federation, spent))
            seen = msgspec.json.encode(carried.seen).decode()
            db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (federation, seen))
            for node, standing in carried.standings.items():
                self.set_standing(federation, node, standing)
            for change in changes:
                record(db, now, "trust", change, federation, None, release)

    def set_standing(self, federation: str, node: str, standing: Standing) -> None:
        """Keep what is remembered of a node."""
        with self._database.transaction() as db:
            data = msgspec.json.encode(standing).decode()
            db.execute("INSERT OR REPLACE INTO standings VALUES (?, ?, ?)", (federation, node, data))
