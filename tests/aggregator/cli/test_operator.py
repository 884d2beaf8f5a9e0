# SPDX-License-Identifier: Apache-2.0
"""An operator goes back, stands still and reads in the log what happened."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from fedge_aggregator.cli.watch import _holds
from fedge_aggregator.federation.release_chain import ReleaseChain
from fedge_aggregator.rounds import average
from fedge_aggregator.rounds.trust.reputation import Reputation
from fedge_aggregator.store.releases import Pin
from fedge_models.errors import ConfigError, StaleError, StorageError
from fedge_models.messages.idle import Idle
from fedge_models.messages.release import decode_release
from support.federation_bench import ASYNCHRONOUS, GRAPH, MakeBench
from support.sqlite_work import counted


def test_rollback_is_a_new_release_with_the_old_bits_and_closes_what_lies_between(make_bench: MakeBench) -> None:
    made = make_bench(ASYNCHRONOUS)
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
    assert [node for node, detail in made.audit("refusal") if "is dropped" in detail] == ["d"]
    with pytest.raises(StaleError, match="release 4 is"):
        made.send("c", late)
    made.round("a", "c")
    assert [r.kind for r in made.store.releases.listed("f")] == ["first", "round", "round", "rollback", "round"]


def test_rollback_to_what_is_not_stored_says_how_far_back_it_goes(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\nhistory = 2\n")
    for _ in range(4):
        made.round("a", "b")
    chain = ReleaseChain(made.store.models()[0], made.config.federation["f"], made.store, made.authority)
    with pytest.raises(ConfigError, match=r"no longer stored \(key history\); the oldest release to roll back to is 3"):
        chain.rollback(2, "me", made.now)
    with pytest.raises(ConfigError, match="expected an older release than 5, got 5"):
        chain.rollback(5, "me", made.now)
    assert [r["kept"] for r in made.cli("release", "list", "f", "--json")] == [False, False, True, True, True]
    assert chain.rollback(3, "me", made.now).version == 6


def test_pinned_federation_collects_and_stands_still_until_unpinned(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n")
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


def test_pin_between_averaging_and_publishing_wins(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    made, plain = make_bench("quorum = 2\n"), average.average

    def meanwhile(*arguments: Any) -> Any:
        made.store.releases.set_pin("f", Pin(made.now, "me", ""))
        return plain(*arguments)

    monkeypatch.setattr(average, "average", meanwhile)
    with pytest.raises(StorageError, match="was pinned meanwhile"):
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
def test_audit_log_is_append_only_for_whoever_opens_the_file(make_bench: MakeBench, sql: str) -> None:
    made = make_bench()
    with (
        closing(sqlite3.connect(made.folder / "state/aggregator.sqlite")) as db,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        db.execute(sql)
    assert len(made.audit("join")) == 4


def test_audit_tells_the_whole_story_and_since_cuts_it(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n")
    made.round("a", "b")
    events = made.cli("audit", "--json")
    kinds = [row["what"] for row in events]
    assert kinds == ["model", *["invite", "join"] * 4, "update", "update", "release"]
    assert events[-1]["release"] == 2 and events[-1]["federation"] == "f" and "2 updates: a, b" in events[-1]["detail"]
    assert made.cli("audit", "--json", "--since", "1h") == []  # the test's clock is in 1970
    assert len(made.cli("audit", "--json", "--what", "join")) == 4
    assert "a to" not in made.cli("audit", "--what", "release")


def test_a_round_does_not_read_every_release(make_bench: MakeBench) -> None:
    made, work = make_bench(), []
    for olds in (range(-20, 0), range(-2000, -20)):  # releases whose weights were deleted long ago
        with made.store.transaction() as db:
            rows = [(version,) for version in olds]
            db.executemany("INSERT INTO releases VALUES ('f', ?, 'round', x'', 0, '', '{}', '{}', NULL, NULL)", rows)
        made.round("a", "b")
        database = made.store._database
        with counted(database._db, database._reader) as counts:
            made.round("a", "b")
        work.append(counts.instructions)
    assert work[1] < 1.2 * work[0]


def test_status_says_how_many_of_the_active_gateways_may_be_hostile(make_bench: MakeBench) -> None:
    made = make_bench(rule='{ name = "trimmed_mean", byzantine = 0.3 }')
    assert [made.federation.status(made.now, "abcdefghij"[:n])["holds"] for n in (1, 3, 6, 7, 10)] == [0, 0, 0, 2, 3]


@pytest.mark.parametrize(
    ("keys", "active", "words"),
    [
        ("", "abcdefg", "of 7 active gateways 2 may be hostile"),
        ("", "abcde", "of 5 active gateways none may be hostile: no rule is robust among 5 updates, fewer than 7"),
        ("share = 0.5", "abcdefghij", "of 10 active gateways none may be hostile: no rule is robust among 5 updates"),
        (
            'mode = "asynchronous"\nbuffer = 4',
            "abcdefgh",
            "of 8 active gateways none may be hostile: no rule is robust",
        ),
        ('mode = "asynchronous"\nbuffer = 20', "abcdefgh", "of 8 active gateways 2 may be hostile"),
    ],
)
def test_status_says_that_no_rule_is_robust_among_few_updates(
    make_bench: MakeBench, keys: str, active: str, words: str
) -> None:
    made = make_bench(keys + "\n", rule='{ name = "trimmed_mean", byzantine = 0.3 }')
    entry = made.federation.status(made.now, active)
    assert words in _holds(entry)


def test_status_names_the_round_that_a_deadline_ends_where_the_rule_holds_against_fewer(make_bench: MakeBench) -> None:
    made = make_bench(rule='{ name = "trimmed_mean", byzantine = 0.3 }')
    entry = made.federation.status(made.now, "abcdefgh")
    assert (entry["holds"], entry["in_a_round"], entry["holds_least"], entry["least_in_a_round"]) == (2, 8, 0, 2)
    said = "of 8 active gateways 2 may be hostile when a round has 8 updates; its deadline may end it with 2 updates"
    assert _holds(entry) == f"{said}, and then none may be"


def test_status_counts_no_gateway_that_says_it_sends_no_update(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 8\n", rule='{ name = "trimmed_mean", byzantine = 1 }')
    assert _holds(made.federation.status(made.now, "abcd")) == "of 4 active gateways 1 may be hostile"
    for name in "abcd":
        made.federation.note_idle(name, Idle.FEW_SAMPLES)
    entry = made.federation.status(made.now, "abcd")
    assert entry["in_a_round"] == 0 and _holds(entry) == "4 gateways active, and none sends updates"


def test_status_counts_no_gateway_in_quarantine(make_bench: MakeBench) -> None:
    """The rule does not see its updates: with it, a round seemed to hold against one hostile site more."""
    made = make_bench("quorum = 7\n", rule='{ name = "trimmed_mean", byzantine = 0.3 }')
    for name in "ij":
        quarantined = Reputation(quarantined_since=made.now, quarantined_until=made.now + 86400)
        made.store.round_states.set_reputation("f", name, quarantined)
    entry = made.federation.status(made.now, "abcdefghij")
    assert (entry["holds"], entry["in_a_round"], entry["holds_least"], entry["least_in_a_round"]) == (2, 8, 0, 5)
    said = "of 10 active gateways 2, besides the 2 in quarantine, may be hostile when a round has 8 updates; "
    assert _holds(entry) == f"{said}its deadline may end it with 5 updates, and then none may be"
    entry = made.federation.status(made.now, "ij")
    assert entry["in_a_round"] == 0 and _holds(entry).endswith("are in quarantine")
    made.federation.note_idle("i", Idle.FEW_SAMPLES)
    assert made.federation.status(made.now, "abcdefghij")["in_a_round"] == 8  # i sends nothing, and j does not count


def test_rounds_say_what_their_samples_are_of_older_releases_too(make_bench: MakeBench) -> None:
    """Releases of before have the sum over sites in their figures."""
    made = make_bench()
    for name, samples in (("a", 100), ("b", 40), ("c", 10)):
        made.send(name, samples=samples)
    assert made.step("abc", 600) == 2
    with made.store.transaction() as db:
        db.execute("""UPDATE releases SET figures = '{"nodes": 3.0, "samples": 150.0}' WHERE version = 2""")
    assert "samples at the site in the middle 40" in made.cli("rounds").replace("\n   ", "")
    assert "150" not in made.cli("rounds")
    assert [row.get("samples") for row in made.cli("rounds", "--json")] == [None, 40.0, None]


@pytest.mark.parametrize(("byzantine", "holds"), [("1", 1), ("0.3", 0)])  # with a share, four are too few
def test_a_release_says_against_how_many_hostile_updates_its_round_held(
    make_bench: MakeBench, byzantine: str, holds: int
) -> None:
    made = make_bench("quorum = 3\n", rule=f'{{ name = "trimmed_mean", byzantine = {byzantine} }}')
    made.round("a", "b", "c", "d")
    assert made.cli("release", "show", "f", "--json")["holds"] == holds


@pytest.mark.parametrize(("rule", "share"), [('{ name = "fedavg" }', 1.0), ('{ name = "median" }', 0.5)])
def test_a_release_says_how_much_drift_its_rule_lets_a_site_take_back(
    make_bench: MakeBench, rule: str, share: float
) -> None:
    made = make_bench(rule=rule)
    for _ in range(3):
        made.round("a", "b", "c")
    assert made.federation.current.header.figures["drift_share"] == share
    chain = ReleaseChain(made.store.models()[0], made.config.federation["f"], made.store, made.authority)
    chain.rollback(2, "me", made.now)
    assert chain.current.header.figures == {"drift_share": share}
