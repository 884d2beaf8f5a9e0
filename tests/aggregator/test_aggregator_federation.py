"""A federation on its real store: what is admitted is durable and counted, what is refused is written down, a crash
changes no bit, an operator can go back and stand still."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from federations import ASYNCHRONOUS, GRAPH, Bench, P, T
from fedge_aggregator import aggregation, averaging
from fedge_aggregator import config as configs
from fedge_aggregator.chain import Chain
from fedge_aggregator.store import Store
from fedge_aggregator.store.releases import Pin
from fedge_models.errors import ConfigError, IdentityError, RefusedError, StaleError, StorageError
from fedge_models.quantize import LIMIT
from fedge_models.release import decode_release
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Make]:
    yield lambda keys="", **more: Bench(tmp_path, keys, **more)


# --- asynchronous ---------------------------------------------------------------------------------------------------


def test_gateway_that_comes_late_counts_with_fedbuffs_weight_on_the_newest_grid(bench: Make) -> None:
    made = bench(ASYNCHRONOUS)
    late = made.update("d", code=40, spread=np.full(T, 0.1, np.float32))
    first = made.federation.current.header.steps
    for _ in range(3):  # three releases whose nodes want a finer grid
        made.send("a", spread=np.full(T, 0.05, np.float32))
        made.send("b", spread=np.full(T, 0.05, np.float32))
        made.step()
    before = made.federation.current
    assert before.header.version == 4 and before.header.steps[0] == pytest.approx(first[0] / 2)
    made.send("d", late)
    made.send("c", code=10)
    assert made.step() == 5
    # FedBuff: (1 * 10 + 1/2 * 80) / 2 steps of the newest grid; 40 steps of the old one are 80 of it
    moved = made.federation.current.weights - before.weights
    np.testing.assert_allclose(moved, (10 + 80 / 2) / 2 * before.header.steps[0] + before.residual, rtol=0.01)
    details = made.store.releases.listed("f")[-1].details
    assert {n: v["staleness"] for n, v in details["nodes"].items()} == {"c": 0, "d": 3}
    assert made.federation.current.header.figures["staleness"] == 1.5


def test_update_older_than_the_maximum_staleness_is_refused_and_written_down(bench: Make) -> None:
    made = bench(ASYNCHRONOUS)
    late = made.update("d")
    for _ in range(4):
        made.round("a", "b")
    with pytest.raises(StaleError, match="base release 1 of node d is not open: releases 2 to 5 are"):
        made.send("d", late)
    assert made.audit("refusal") == [
        ("d", "base release 1 of node d is not open: releases 2 to 5 are; fetch and retrain")
    ]


def test_update_that_arrives_while_a_buffer_is_averaged_is_in_the_next_release(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(ASYNCHRONOUS)
    body, plain = made.update("c"), averaging.average

    def meanwhile(*arguments: Any) -> Any:
        sender = threading.Thread(target=made.send, args=("c", body))
        sender.start()
        sender.join(10)
        assert not sender.is_alive()
        return plain(*arguments)

    monkeypatch.setattr(averaging, "average", meanwhile)
    made.send("a")
    made.send("b")
    assert made.step() == 2
    monkeypatch.setattr(averaging, "average", plain)
    assert list(made.store.updates.arrivals("f")) == ["c"]
    made.send("a")
    assert made.step() == 3
    assert set(made.store.releases.listed("f")[-1].details["nodes"]) == {"a", "c"}


def test_update_that_arrives_while_a_synchronous_round_is_averaged_waits_and_is_told_to_retrain(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("quorum = 2")
    body, plain, said = made.update("c"), averaging.average, list[str]()

    def try_it() -> None:
        try:
            made.send("c", body)
        except StaleError as e:
            said.append(str(e))

    sender = threading.Thread(target=try_it)

    def meanwhile(*arguments: Any) -> Any:
        sender.start()
        sender.join(0.2)
        assert sender.is_alive()  # neither acknowledged nor refused yet
        return plain(*arguments)

    monkeypatch.setattr(averaging, "average", meanwhile)
    made.round("a", "b")
    sender.join(10)
    assert "base release 1 of node c is not open" in said[0]


codes = hnp.arrays(np.int8, 20, elements=st.integers(-LIMIT, LIMIT))
steps = hnp.arrays(np.float32, 2, elements=st.floats(2**-10, 1, width=32))
SIZES = np.array([15, 5])


@given(codes, codes, steps, steps)
def test_regrid_is_nearest_within_the_grid_and_never_pushes_updates_apart(
    one: Any, two: Any, old: Any, new: Any
) -> None:
    wide_old, wide_new = np.repeat(old, SIZES).astype(np.float64), np.repeat(new, SIZES).astype(np.float64)
    got = aggregation.regrid(one, old, new, SIZES)
    wanted = np.clip(one * wide_old, -LIMIT * wide_new, LIMIT * wide_new)
    assert (np.abs(got * wide_new - wanted) <= 0.5001 * wide_new).all()
    apart = np.abs((got - aggregation.regrid(two, old, new, SIZES).astype(np.int64)) * wide_new)
    assert (apart <= np.abs((one.astype(np.int64) - two) * wide_old) + 1.0001 * wide_new).all()
    np.testing.assert_array_equal(aggregation.regrid(one, old, old.copy(), SIZES), one)


# --- crashes and clocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["quorum = 2\n", ASYNCHRONOUS])
def test_round_that_is_cut_off_anywhere_ends_with_the_same_bits(
    bench: Make, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(keys)
    rng = np.random.default_rng(0)
    for name in "abc":
        made.send(name, codes=rng.integers(-LIMIT, LIMIT, P).astype(np.int8), samples=int(rng.integers(1, 500)))
    for moment in ("average", "publish", "keep"):  # as if killed there: nothing after it happened
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            owner: Any = {"average": averaging, "publish": made.store.releases, "keep": made.store.carried}[moment]
            patch.setattr(owner, moment, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            made.step("abc", 600)
        assert made.federation.current.header.version == 1  # also in the process that goes on
        made.open()
        assert made.federation.current.header.version == 1 and list(made.store.updates.arrivals("f")) == ["a", "b", "c"]
    shutil.copytree(made.folder / "state", made.folder / "copy")
    assert made.step("abc") == 2
    shutil.rmtree(made.folder / "state")
    (made.folder / "copy").rename(made.folder / "state")
    first = made.federation.current
    made.open()
    assert made.step("abc") == 2
    assert made.federation.current.weights.tobytes() == first.weights.tobytes()
    assert made.federation.current.residual.tobytes() == first.residual.tobytes()


def test_clock_that_was_a_year_ahead_does_not_hold_the_round(bench: Make) -> None:
    made = bench("quorum = 2\n")
    made.now += 365 * 86400
    made.send("a")
    made.send("b")
    made.now -= 365 * 86400
    assert made.step("abc") == 1
    made.open()  # what was dated anew stays so
    assert made.step("abc", 599) == 1
    assert made.step("abc", 1) == 2


def test_release_is_renewed_while_a_round_waits_and_the_round_goes_on(bench: Make) -> None:
    made = bench("quorum = 3\nlifetime = '10d'\n")
    made.send("a")
    made.send("b")
    before = made.federation.current
    assert made.step("abcd", 6 * 86400) == 2
    renewed = made.federation.current
    assert renewed.weights.tobytes() == before.weights.tobytes() and renewed.header.expires > before.header.expires
    made.send("c")
    assert made.step("abcd", 600) == 3
    assert made.federation.current.header.figures["nodes"] == 3


def test_update_of_a_node_that_is_revoked_since_is_not_in_the_release_nor_counted_before(bench: Make) -> None:
    made = bench("quorum = 2\n")
    made.send("a")
    made.send("b")
    made.store.revoke("b", made.now)
    assert made.step("ac", 1e6) == 1
    assert "1 of at least 2" in made.federation.status(made.now, "ac")["waiting"]
    made.send("c")
    assert made.step("ac") == 2 and set(made.store.releases.listed("f")[-1].details["nodes"]) == {"a", "c"}


def test_update_that_the_disk_has_damaged_is_taken_out_and_the_round_waits_for_another(bench: Make) -> None:
    made = bench("quorum = 2\n")
    made.send("a")
    made.send("b")
    with made.store.transaction() as db:
        db.execute("UPDATE updates SET body = x'00' WHERE node = 'b'")
    assert made.step("ab") == 1
    assert [node for node, _ in made.audit("damaged")] == ["b"]
    assert list(made.store.updates.arrivals("f")) == ["a"]


# --- refusals -------------------------------------------------------------------------------------------------------


def test_rule_that_cannot_hold_waits_and_the_log_says_what_it_needs(bench: Make) -> None:
    made = bench(rule='{ name = "krum", byzantine = 1 }')
    made.round("a", "b", "c", "d")
    assert made.federation.current.header.version == 1
    words = "rule krum protects from 5 updates on and only 4 nodes take part: waits for 1 more"
    assert words in made.federation.status(made.now, "abcd")["waiting"]
    [(_, said)] = made.audit("waits")
    assert words in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"codes": np.zeros(P + 1, np.int8)}, f"vector does not hold exactly {P} bytes"),
        ({"codes": np.full(P, -128, np.int8)}, "code -128 is outside the grid"),
        ({"spread": np.full(T, np.nan, np.float32)}, "spread: expected finite values"),
        ({"spread": np.ones(T + 1, np.float32)}, f"expected {4 * T} \\({T} tensors\\)"),
        ({"metrics": {"base_loss": np.inf}}, "a metric is not finite"),
        ({"samples": 0}, "samples|>= 1"),
        ({"samples": 2**31 + 1}, "<= 2147483648"),
        ({"base_version": 2}, "base release 2 of node a is not open: release 1 is"),
        ({"base_hash": bytes(32)}, "base release 1 of node a is not the one published here"),
        ({"federation": "g"}, "for g, but came from a for f"),
        ({"node": "b"}, "update says it is of b"),
    ],
)
def test_bad_update_is_refused_and_its_reason_is_kept(bench: Make, changes: dict[str, Any], said: str) -> None:
    made = bench()
    with pytest.raises(RefusedError, match=said):
        made.send("a", **changes)
    assert made.store.updates.arrivals("f") == {}
    [(node, kept)] = made.audit("refusal")
    assert node == "a" and re.search(said, kept)


def test_saturated_update_is_refused_with_the_share_and_the_key(bench: Make) -> None:
    made = bench("max_saturated = 0.5\n")
    with pytest.raises(RefusedError, match=r"100\.0% of its values .* at most 50\.0%.*max_saturated"):
        made.send("a", code=LIMIT)
    half = np.where(np.arange(P) < P // 2, -LIMIT, 3).astype(np.int8)
    assert made.send("a", codes=half)
    assert len(made.audit("refusal")) == 1


def test_claim_of_many_samples_is_capped_and_said(bench: Make) -> None:
    made = bench("quorum = 2\nmax_samples = 1000\n")
    made.send("a", code=10, samples=2**31)
    made.send("b", code=0, samples=1000)
    assert made.audit("update")[0] == ("a", f"{2**31} samples, counted as 1000, staleness 0")
    before = made.federation.current
    made.step("ab")
    moved = made.federation.current.weights - before.weights
    np.testing.assert_allclose(moved, 5 * before.header.steps[0], rtol=0.01)


def test_flood_of_refusals_by_one_node_is_folded_and_counted(bench: Make) -> None:
    made = bench()
    for _ in range(50):
        with pytest.raises(StaleError):
            made.send("a", base_hash=bytes(32))
    with pytest.raises(StaleError):
        made.send("b", base_hash=bytes(32))
    assert [n for n, _ in made.audit("refusal")] == ["a"] * 20 + ["b"]
    made.now += 60
    with pytest.raises(StaleError):
        made.send("a", base_hash=bytes(32))
    assert "and 30 more refusals that are not listed" in made.audit("refusal")[-1][1]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('rule = { name = "krum", byzantine = 2 }\nquorum = 6', "quorum': 6, but rule krum .* from 7 updates on"),
        ('mode = "asynchronous"\nquorum = 5\nbuffer = 4', "buffer': 4 updates are fewer than the quorum; expected 5"),
        ('mode = "asynchronous"\nshare = 0.5', "share': 0.5 is for synchronous rounds"),
        ("share = 0.0", "share'"),
    ],
)
def test_numbers_with_which_no_round_could_hold_are_refused_with_those_needed(
    tmp_path: Path, keys: str, said: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'[aggregator]\nstate = "s"\naddresses = ["x"]\n[federation.f]\n{keys}\n')
    with pytest.raises(ConfigError, match=said):
        configs.load(path)


# --- what nodes report ----------------------------------------------------------------------------------------------


def test_figures_show_mean_spread_and_worst_site_and_no_node_can_break_them(bench: Make) -> None:
    made = bench("quorum = 3\n")
    good = {"base_loss": 1.0, "base_accuracy": 0.9, "base_rmse_load": 2.0}
    made.send("a", metrics=good, samples=300)
    made.send("b", metrics={"base_loss": 3.0, "base_accuracy": 0.5, "base_rmse_load": 1.0, "nodes": 99.0}, samples=100)
    made.send(
        "c", metrics={f"a{i:02d}": 1.7e308 for i in range(29)} | {"nodes": 99.0} | {"\x1b[2J": 1.0}, samples=2**31
    )
    made.step("abc")
    evaluation = made.store.releases.listed("f")[-1].details["evaluation"]
    assert evaluation["base_loss"] == {"mean": 1.5, "spread": 1.0, "worst": 3.0, "worst_node": "b", "nodes": 2}
    assert evaluation["base_accuracy"]["worst_node"] == "b" and evaluation["base_rmse_load"]["worst_node"] == "a"
    assert len(evaluation) == 20 and "\x1b[2J" not in evaluation
    release = decode_release(made.federation.current.full, made.authority.release_key.public_key(), GRAPH.sizes)
    assert release.header.figures["nodes"] == 3
    assert release.header.figures["base_loss"] == 1.5 and "b" not in str(release.header.figures.values())
    assert made.federation.status(made.now, "abc")["evaluation"] == evaluation
    assert "base_loss 1.5 ± 1 over 2 sites, worst 3 at b" in made.cli("rounds")
    shown = made.cli("release", "show", "f", "--json")
    assert shown["evaluation"] == evaluation and shown["nodes"]["b"]["samples"] == 100
    assert "worst_node" in made.cli("release", "show", "f", "2")


# --- model life -----------------------------------------------------------------------------------------------------


def test_rollback_is_a_new_release_with_the_old_bits_and_closes_what_lies_between(bench: Make) -> None:
    made = bench(ASYNCHRONOUS)
    made.round("a", "b")
    wanted = made.federation.current
    made.round("a", "b", code=60)
    late = made.update("c")
    made.send("d")
    assert "release 4 carries the weights of release 2" in made.cli("release", "rollback", "f", "2")
    body = made.federation.body_for(3)  # the running server notices by itself
    assert body is not None and made.federation.current.header.version == 4
    release = decode_release(body, made.authority.release_key.public_key(), GRAPH.sizes)
    assert release.weights is not None and release.weights.tobytes() == wanted.weights.tobytes()
    assert release.header.steps.tobytes() == wanted.header.steps.tobytes()
    assert [node for node, said in made.audit("refusal") if "is dropped" in said] == ["d"]
    with pytest.raises(StaleError, match="release 4 is"):
        made.send("c", late)
    made.round("a", "c")
    assert [r.kind for r in made.store.releases.listed("f")] == ["first", "round", "round", "rollback", "round"]


def test_rollback_to_what_is_not_kept_says_how_far_back_it_goes(bench: Make) -> None:
    made = bench("quorum = 2\nhistory = 2\n")
    for _ in range(4):
        made.round("a", "b")
    chain = Chain(made.store.models()[0], made.config.federation["f"], made.store, made.authority)
    with pytest.raises(ConfigError, match=r"release 2 are not kept any more \(key history\); the oldest that are: 3"):
        chain.rollback(2, "me", made.now)
    with pytest.raises(ConfigError, match="expected an older release than 5, got 5"):
        chain.rollback(5, "me", made.now)
    assert [r["kept"] for r in made.cli("release", "list", "f", "--json")] == [False, False, True, True, True]
    assert chain.rollback(3, "me", made.now).version == 6


def test_pinned_federation_collects_and_stands_still_until_unpinned(bench: Make) -> None:
    made = bench("quorum = 2\n")
    made.cli("release", "pin", "f", "--reason", "acceptance test")
    made.round("a", "b")
    assert made.federation.current.header.version == 1
    status = made.federation.status(made.now, "ab")
    assert status["waiting"].startswith("pinned by ") and status["pinned"]["reason"] == "acceptance test"
    made.open()
    assert list(made.store.updates.arrivals("f")) == ["a", "b"]
    made.cli("release", "unpin", "f")
    assert made.step("ab") == 2
    assert "acceptance test" in made.audit("pin")[0][1] and len(made.audit("unpin")) == 1


def test_pin_between_averaging_and_publishing_wins(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made, plain = bench("quorum = 2\n"), averaging.average

    def meanwhile(*arguments: Any) -> Any:
        made.store.releases.set_pin("f", Pin(made.now, "me", ""))
        return plain(*arguments)

    monkeypatch.setattr(averaging, "average", meanwhile)
    with pytest.raises(StorageError, match="was pinned in between"):
        made.round("a", "b")
    assert list(made.store.updates.arrivals("f")) == ["a", "b"]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET detail = ''",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit VALUES (1, 0, 'x', NULL, NULL, NULL, '')",
    ],
)
def test_audit_log_is_append_only_for_whoever_opens_the_file(bench: Make, sql: str) -> None:
    made = bench()
    with (
        sqlite3.connect(made.folder / "state/aggregator.sqlite") as db,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        db.execute(sql)
    db.close()
    assert len(made.audit("join")) == 4


def test_audit_tells_the_whole_story_and_since_cuts_it(bench: Make) -> None:
    made = bench("quorum = 2\n")
    made.round("a", "b")
    told = made.cli("audit", "--json")
    kinds = [row["what"] for row in told]
    assert kinds == ["model", *["invite", "join"] * 4, "update", "update", "release"]
    assert told[-1]["release"] == 2 and told[-1]["federation"] == "f" and "2 updates: a, b" in told[-1]["detail"]
    assert made.cli("audit", "--json", "--since", "1h") == []  # the test's clock is in 1970
    assert len(made.cli("audit", "--json", "--what", "join")) == 4
    assert "a to" not in made.cli("audit", "--what", "release")


def test_state_of_an_earlier_fedge_is_refused_in_words(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "aggregator.sqlite") as db:
        db.execute("CREATE TABLE releases (federation TEXT, version INTEGER)")
    db.close()
    with pytest.raises(ConfigError, match="made by an earlier fedge"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT max(version) FROM releases WHERE federation = 'f' AND kind = 'rollback'", "rollbacks"),
        ("UPDATE releases SET full = NULL WHERE federation = 'f' AND version < 9 AND full NOT NULL", "with_weights"),
        ("UPDATE releases SET steps = NULL WHERE federation = 'f' AND version < 9 AND steps NOT NULL", "with_steps"),
    ],
)
def test_what_each_update_and_release_asks_for_does_not_read_every_release(bench: Make, sql: str, index: str) -> None:
    with bench().store.transaction() as db:
        plan = " ".join(str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}"))
    assert f"SEARCH releases USING INDEX {index}" in plan


# --- any order of events, on the real store ---------------------------------------------------------------------------


class LifeOfAFederation(RuleBasedStateMachine):
    """Updates late and repeated, restarts, revocations, renewals, rollbacks, pins and clock jumps: every update that
    was acknowledged is in exactly one release, or open, or was dropped by an operator's act that the log tells of."""

    keys = "quorum = 2\nlifetime = '100d'\n"

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.bench = Bench(Path(self.folder.name), self.keys)
        self.bodies: list[tuple[str, bytes]] = []
        self.versions = [1]

    def teardown(self) -> None:
        self.bench.store.close()
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
        self.bench.store.close()
        self.bench.open()

    @rule(name=st.sampled_from("cd"))
    def revoke(self, name: str) -> None:
        self.bench.store.revoke(name, self.bench.now)

    @rule(back=st.integers(1, 3))
    def roll_back(self, back: int) -> None:
        made = self.bench
        chain = Chain(made.store.models()[0], made.config.federation["f"], made.store, made.authority)
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
        told = store.audit.read(federation="f")
        revoked = {n.name for n in store.nodes() if n.revoked is not None}
        taken = Counter(row.node for row in told if row.what == "update")
        there = Counter(row.node for row in store.updates.open("f"))
        there += Counter(row.node for row in told if row.what == "refusal" and "is dropped" in row.detail)
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


TestLife = LifeOfAFederation.TestCase
TestAsynchronousLife = AsynchronousLife.TestCase
for _case in (TestLife, TestAsynchronousLife):
    _case.settings = settings(derandomize=True, deadline=None, max_examples=12, stateful_step_count=40)
