# SPDX-License-Identifier: Apache-2.0
"""The state that rounds of a federation leave to the next: reputations, vectors, reported losses, the privacy spent.

Written in the transaction that publishes the round's release. The command line may end a quarantine at any time, so the
server reads it again for each round. Names of tables and vectors are those of earlier state folders.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import numpy as np

from ..rounds.average import RoundState
from ..rounds.central_privacy import Spent
from ..rounds.trust.outside_evidence import LossReports
from ..rounds.trust.reputation import Reputation
from .audit import record
from .database import Database

LAST_AGGREGATE, LAST_STEP, OPTIMIZER = "moved", "went", "state"  # names of vectors; the optimiser's have a number too


class RoundStates:
    """The round states of all federations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, federation: str) -> RoundState:
        """The state that the last round left; an empty one before the first."""
        all_ = self._database.all
        vectors = {
            name: np.frombuffer(data, "<f4").astype(np.float32)
            for name, data in all_("SELECT name, data FROM vectors WHERE federation = ? ORDER BY name", federation)
        }
        spent = all_("SELECT data FROM spent WHERE federation = ?", federation)
        losses = all_("SELECT data FROM seen WHERE federation = ?", federation)
        return RoundState(
            reputations=self.reputations(federation),
            spent=msgspec.json.decode(spent[0][0], type=Spent) if spent else Spent(),
            losses=msgspec.json.decode(losses[0][0], type=LossReports) if losses else LossReports(),
            last_aggregate=vectors.pop(LAST_AGGREGATE, None),
            last_step=vectors.pop(LAST_STEP, None),
            optimizer=tuple(vectors.values()),
        )

    def reputations(self, federation: str) -> dict[str, Reputation]:
        """The reputation of each node that is known."""
        sql = "SELECT node, data FROM standings WHERE federation = ? ORDER BY node"
        return {n: msgspec.json.decode(data, type=Reputation) for n, data in self._database.all(sql, federation)}

    def save(self, federation: str, state: RoundState, changes: Collection[str], now: float, release: int) -> None:
        """Store the state after a round; `changes` of quarantine go into the audit log."""
        vectors = {f"{OPTIMIZER}{i}": v for i, v in enumerate(state.optimizer)}
        last = {LAST_AGGREGATE: state.last_aggregate, LAST_STEP: state.last_step}
        vectors |= {name: v for name, v in last.items() if v is not None}
        with self._database.transaction() as db:
            db.execute("DELETE FROM vectors WHERE federation = ?", (federation,))
            rows = [(federation, name, v.astype("<f4").tobytes()) for name, v in vectors.items()]
            db.executemany("INSERT INTO vectors VALUES (?, ?, ?)", rows)
            spent = msgspec.json.encode(state.spent).decode()
            db.execute("INSERT OR REPLACE INTO spent VALUES (?, ?)", (federation, spent))
            losses = msgspec.json.encode(state.losses).decode()
            db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (federation, losses))
            for node, reputation in state.reputations.items():
                self.set_reputation(federation, node, reputation)
            for change in changes:
                record(db, now, "trust", change, federation, None, release)

    def set_reputation(self, federation: str, node: str, reputation: Reputation) -> None:
        """Store the reputation of a node."""
        with self._database.transaction() as db:
            data = msgspec.json.encode(reputation).decode()
            db.execute("INSERT OR REPLACE INTO standings VALUES (?, ?, ?)", (federation, node, data))
