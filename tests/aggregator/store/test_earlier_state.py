# SPDX-License-Identifier: Apache-2.0
"""A database that commit ed800e3 wrote (tests/vectors/aggregator-ed800e3.sql) is read, and its round goes on.

Four rounds of nodes a to d with centred clipping and server momentum; d sends the opposite of the others and is in
quarantine. The open round has updates of a and d. Federation p has spent privacy in three rounds.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_aggregator.rounds.central_privacy import CountedRounds, Spent
from support.federation_bench import FederationBench, MakeBench, P
from support.paths import ROOT

KEYS = (
    'server_optimizer = { name = "fedavgm", momentum = 0.5 }\ntrust = { limit = 1.5 }\n'
    "[federation.p]\nprivacy = { clip = 1.0, noise_multiplier = 2.0, epsilon = 8.0, delta = 1e-5 }\n"
)
NEXT = "47e7f9250b348885f5291b8f40b88ad02b2a515fba334f83ed1a917c31776e70"  # weights of release 6 by commit ed800e3
PEM = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


@pytest.fixture
def earlier(tmp_path: Path, make_bench: MakeBench) -> FederationBench:
    authority = tmp_path / "state/authority"
    authority.mkdir(parents=True, mode=0o700)
    (authority / "release.key").write_bytes(Ed25519PrivateKey.from_private_bytes(b"r" * 32).private_bytes(*PEM))
    with closing(sqlite3.connect(tmp_path / "state/aggregator.sqlite")) as db:
        db.executescript((ROOT / "tests/vectors/aggregator-ed800e3.sql").read_text())
    made = make_bench(KEYS, rule='{ name = "centred_clipping" }')
    made.now, made.sequence = 1_002_800.0, 18
    return made


def codes(node: str) -> np.ndarray:
    common = np.random.default_rng(3).normal(size=P) * 20
    own = np.random.default_rng([ord(node), 4]).normal(size=P) * 8
    return np.clip(np.rint(common + own), -120, 120).astype(np.int8)


def test_reputations_and_the_state_of_rounds_are_read(earlier: FederationBench) -> None:
    state = earlier.store.round_states.load("f")
    d = state.reputations["d"]
    assert d.quarantined and d.quarantines == 1 and d.quarantined_since == 1_001_400.0 and len(d.recent) == 4
    assert d.quarantined_until == 1_001_400.0 + 7 * 86400 and d.recent[0].kind == "against" and d.pushed
    assert "2 of its last 2 updates pointed against" in d.reason
    assert state.losses.participants == ("a", "b", "c") and set(state.losses.losses) == set("abcd")
    assert state.last_aggregate is not None and state.last_step is not None and len(state.optimizer) == 1
    assert earlier.store.round_states.load("p").spent == Spent((CountedRounds(2.0, 1.0, 3),))
    assert "d: in quarantine, no weight" in earlier.cli("nodes", "list")


def test_open_round_ends_with_the_bits_of_the_earlier_program(earlier: FederationBench) -> None:
    assert set(earlier.store.updates.arrivals("f")) == {"a", "d"}
    for node in "bc":
        earlier.send(node, codes=codes(node))
    assert earlier.step("abcd", 700) == 6
    assert earlier.federation.current.header.weights.hex() == NEXT


def test_releases_and_the_log_are_read(earlier: FederationBench) -> None:
    assert [r.version for r in earlier.store.releases.listed("f")] == [1, 2, 3, 4, 5]
    assert len(earlier.cli("audit", "--json")) == 32
    assert "release 6 carries the weights of release 2" in earlier.cli("release", "rollback", "f", "2")
