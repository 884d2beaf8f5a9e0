# SPDX-License-Identifier: Apache-2.0
"""A gateway's state folder that commit ed800e3 wrote (tests/vectors/gateway-ed800e3) is read, and nothing is lost.

The databases are SQL dumps, so that a reader sees what is in them; the other files are as that commit wrote them.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.durable.inbox import Inbox, Progress
from fedge_agent.durable.releases import ChainStore
from fedge_agent.durable.spool import Spool
from fedge_agent.machines.checkpoint import Checkpoint
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Quality, Reading
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from support.databases import rows
from support.paths import ROOT

EARLIER = ROOT / "tests/vectors/gateway-ed800e3"
S = 10**9
T0 = 1_700_000_000 * S
ALERT = AlertState(1, True, 2.5, T0, 1, T0, 3, 0, T0 - 10 * S)
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1.0, 10, 5), ("mean", "std"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder as that commit left it."""
    for name in ("spool", "inbox", "samples"):
        with closing(sqlite3.connect(tmp_path / f"{name}.sqlite")) as db:
            db.executescript((EARLIER / f"{name}.sql").read_text())
    for path in EARLIER.iterdir():
        if path.suffix != ".sql":
            shutil.copy(path, tmp_path)
    return tmp_path


def test_the_spool_keeps_events_alerts_numbers_and_the_budget(state: Path) -> None:
    with closing(Spool(state / "spool.sqlite")) as spool:
        entry = spool.next_event("mes")
        assert entry is not None and (entry.event.key, entry.event.state) == ("gw:m:pump:1", "opened")
        decision = entry.event.decision
        assert (decision.asset, decision.release, decision.context) == ("pump", 3, {"job": "J1"})
        assert (entry.event.worst, entry.event.severity, decision.values) == (2.5, "medium", {"life": 12.5})
        assert spool.next_event("log") is None and spool.counts("log") == {"pending": 0, "refused": 1}
        assert spool.alert_state("pump") == ALERT
        spent, update = spool.privacy_spent("m"), spool.update("m")
        assert (spent.rho, spent.updates, spent.unprotected, spent.lost) == (0.5, 1, 1, None)
        assert update is not None and (update.base, update.body) == (4, b"signed again")
        assert spool.reserve_sequence("m") > update.sequence and spool.residual("m", b"graph") == b"residual 2"
        spool.delivered(entry)
        assert spool.next_event("mes") is None


def test_the_inbox_is_replayed_and_goes_on(state: Path) -> None:
    with closing(Inbox(state / "inbox.sqlite", 1 << 20, 1e12)) as inbox:
        flow, job, rest = inbox.replay()
        assert (flow.readings, flow.decided) == ([Reading("flow", 1000, 1.5)], True)
        assert job.readings == [Reading("job", 1000, "J1")]
        wave, newer = rest.readings
        np.testing.assert_array_equal(wave.value, np.arange(4, dtype=np.float32))
        assert newer == Reading("flow", 2000, 2.5, Quality.UNCERTAIN) and not rest.decided
        assert inbox.receipts("plc") == [b"r1", b"r2", b"r3"]
        checkpoint = msgspec.json.decode(inbox.checkpoint("pump") or b"", type=Checkpoint)
        assert checkpoint == Checkpoint(500.0, ALERT, {"job": "J1"})
        row = inbox.store("plc", [Reading("flow", 3000, 3.0)])
        inbox.record(Progress({"plc": row}, {"pump": b"new"}, {"plc": 2500}))
        assert sorted(stored.readings[-1].time_ns for stored in inbox.replay()) == [1000, 2000, 3000]


def test_samples_keep_their_labels_and_later_ones_are_matched(state: Path) -> None:
    store = SampleStore(state / "samples.sqlite", {"m": 100})
    book = LabelBook(state / "samples.sqlite", {"pump": Subject("m", lambda: CARD)}, store.count_as_new)
    x, y, *_ = store.rows("m", (2,), None)
    np.testing.assert_array_equal(x[:, 0], np.arange(10))
    assert y.tolist() == [0, 0, 0, 1, -1, -1, -1, -1, -1, -1] and store.scale("m", (2,)) is not None
    book.match_new()  # the last label was stored, and not matched yet
    assert store.rows("m", (2,), None).y.tolist() == [0, 0, 0, 1, -1, -1, -1, -1, -1, 1]
    assert book.status()["pump"]["labels"] == 3
    book.stop()
    store.stop()
    assert rows(state / "samples.sqlite", "SELECT count(*) FROM samples WHERE held = 1") == [(2,)]


def test_the_release_that_served_serves_again(state: Path) -> None:
    chain = ChainStore(state)
    graph = TrainableGraph.load(chain.graph_bytes() or b"")
    for name in ("head", "serving"):
        release = chain.load(name, graph)
        assert release is not None and (release.header.version, release.header.rule) == (7, "fedavg")
        assert release.hash.hex() == "ee91f02eca1f83c7182b2c4cef91d5b56c602fd74d001327dbb9cc7ebbc1857a"
        tuned = chain.load_tuned(release.hash, 12)
        assert tuned is not None and np.array_equal(tuned, 2 * release.weights)
