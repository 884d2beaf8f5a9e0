# SPDX-License-Identifier: Apache-2.0
"""Any order of events on the real store: no update that was acknowledged is lost or counted twice."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from fedge_aggregator.federation.release_chain import ReleaseChain
from fedge_aggregator.store.releases import Pin
from fedge_models.errors import ConfigError, IdentityError, RefusedError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.examples import examples
from support.federation_bench import ASYNCHRONOUS, FederationBench

# Thousands of transactions, none of which has to survive a power cut: a disk would take minutes over them.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class LifeOfAFederation(RuleBasedStateMachine):
    """Updates late and repeated, restarts, revocations, renewals, rollbacks, pins and clock jumps: every update that
    was acknowledged is in exactly one release, or open, or was dropped by an operator's act that the log tells of."""

    keys = "quorum = 2\nlifetime = '100d'\n"

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=MEMORY)
        self.bench = FederationBench(Path(self.folder.name), self.keys)
        self.bodies: list[tuple[str, bytes]] = []
        self.versions = [1]

    def teardown(self) -> None:
        self.bench.close()
        self.folder.cleanup()

    @rule(name=st.sampled_from("abcd"), code=st.integers(-100, 100))
    def train(self, name: str, code: int) -> None:
        self.bodies.append((name, self.bench.update(name, code)))

    @precondition(lambda self: self.bodies)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        name, body = data.draw(st.sampled_from(self.bodies[-6:]))
        with suppress(RefusedError, IdentityError):
            self.bench.send(name, body)

    @rule(active=st.sampled_from(["abcd", "ab", "c"]), days=st.sampled_from([0.0, 0.01, 60.0, -3.0]))
    def time_passes(self, active: str, days: float) -> None:
        before = self.bench.federation.current
        after = self.bench.step(active, days * 86400)
        if after > before.header.version and self.bench.store.releases.listed("f")[-1].kind == "renewal":
            assert self.bench.federation.current.weights.tobytes() == before.weights.tobytes()

    @rule()
    def restart(self) -> None:
        self.bench.open()

    @rule(name=st.sampled_from("cd"))
    def revoke(self, name: str) -> None:
        self.bench.store.revoke(name, self.bench.now)

    @rule(back=st.integers(1, 3))
    def roll_back(self, back: int) -> None:
        made = self.bench
        chain = ReleaseChain(made.store.models()[0], made.config.federation["f"], made.store, made.authority)
        with suppress(ConfigError):
            chain.rollback(chain.current.header.version - back, "me", made.now)

    @rule(on=st.booleans())
    def pin(self, on: bool) -> None:
        releases = self.bench.store.releases
        if on:
            releases.set_pin("f", Pin(self.bench.now, "me", ""))
        else:
            releases.clear_pin("f", self.bench.now, "me")

    @invariant()
    def every_acknowledged_update_is_somewhere_once(self) -> None:
        store = self.bench.store
        events = store.audit.read(federation="f")
        revoked = {n.name for n in store.nodes() if n.revoked is not None}
        taken = Counter(row.node for row in events if row.what == "update")
        there: Counter[str | None] = Counter(row.node for row in store.updates.listed("f"))
        there += Counter(row.node for row in events if row.what == "refusal" and "is dropped" in row.detail)
        for release in store.releases.listed("f"):
            there += Counter(release.details.get("nodes", {}).keys())
        for name in "abcd":
            lost = taken[name] - there[name]
            assert lost == 0 or (name in revoked and lost == 1), (name, taken, there)

    @invariant()
    def versions_rise_by_one_and_nothing_comes_of_a_round_while_pinned(self) -> None:
        rows = self.bench.store.releases.listed("f")
        assert [r.version for r in rows] == list(range(1, len(rows) + 1))
        if self.bench.store.releases.pin("f") is not None:
            assert all(r.kind != "round" for r in rows[len(self.versions) :])
        self.versions = [r.version for r in rows]


class AsynchronousLife(LifeOfAFederation):
    keys = ASYNCHRONOUS + "lifetime = '100d'\n"


HOW = settings(derandomize=True, deadline=None, max_examples=examples(12), stateful_step_count=40)


class TestLife(LifeOfAFederation.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes it on access
    settings = HOW


class TestAsynchronousLife(AsynchronousLife.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes it on access
    settings = HOW
