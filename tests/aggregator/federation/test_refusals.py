# SPDX-License-Identifier: Apache-2.0
"""What is not admitted is refused with its reason and written down; what nodes report can break nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.config.load import load
from fedge_aggregator.federation.report import MAX_METRICS
from fedge_aggregator.rounds.trust.reputation import Reputation
from fedge_models.errors import ConfigError, IdentityError, RefusedError, StaleError
from fedge_models.messages.quantize import LIMIT
from fedge_models.messages.release import decode_release
from support.federation_bench import GRAPH, MakeBench, P, T


def test_rule_that_cannot_hold_waits_and_the_log_says_what_it_needs(make_bench: MakeBench) -> None:
    made = make_bench(rule='{ name = "krum", byzantine = 1 }')
    made.round("a", "b", "c", "d")
    assert made.federation.current.header.version == 1
    words = "rule krum needs updates of 5 nodes, and 4 take part: waiting for 1 more"
    assert words in made.federation.status(made.now, "abcd")["waiting"]
    [(_, message)] = made.audit("waits")
    assert words in message


@pytest.mark.parametrize("mode", ["quorum = 3\ndeadline = 60\n", 'mode = "asynchronous"\nbuffer = 3\n'])
def test_a_round_waits_for_updates_that_count_and_quarantined_ones_do_not(make_bench: MakeBench, mode: str) -> None:
    """The rule needs three; averaged with the one in quarantine it had two, and the federation stood still."""
    made = make_bench(mode, rule='{ name = "trimmed_mean", byzantine = 1 }')
    quarantined = Reputation(quarantined_since=made.now, quarantined_until=made.now + 86400)
    made.store.round_states.set_reputation("f", "d", quarantined)
    for name in "abd":
        made.send(name)
    assert made.step(seconds=120) == 1
    assert "3 of at least 4 updates" in made.federation.status(made.now, set("abcd"))["waiting"]
    made.send("c")
    assert made.step(seconds=120) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
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
        ({"node": "b"}, "update is signed as b"),
    ],
)
def test_bad_update_is_refused_and_its_reason_is_stored(
    make_bench: MakeBench, changes: dict[str, Any], message: str
) -> None:
    made = make_bench()
    with pytest.raises(RefusedError, match=message):
        made.send("a", **changes)
    assert made.store.updates.arrivals("f") == {}
    [(node, detail)] = made.audit("refusal")
    assert node == "a" and re.search(message, detail)


def test_gateway_revoked_after_it_was_let_in_stores_nothing(make_bench: MakeBench) -> None:
    """The listener let it in; the operator revoked it before its update was stored."""
    made = make_bench()
    let_in, body = made.store.node("a"), made.update("a")
    assert let_in is not None
    made.cli("nodes", "revoke", "a")
    with pytest.raises(IdentityError, match="node 'a' is revoked"):
        made.federation.admit(let_in, body, made.now)
    assert made.store.updates.arrivals("f") == {}


def test_saturated_update_is_refused_with_the_share_and_the_key(make_bench: MakeBench) -> None:
    made = make_bench("max_saturated = 0.5\n")
    with pytest.raises(RefusedError, match=r"100\.0% of its averaged values .* at most 50\.0%.*max_saturated"):
        made.send("a", code=LIMIT)
    half = np.where(np.arange(P) < P // 2, -LIMIT, 3).astype(np.int8)
    assert made.send("a", codes=half)
    assert len(made.audit("refusal")) == 1


def test_claim_of_many_samples_is_capped_and_reported(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\nmax_samples = 1000\n")
    made.send("a", code=10, samples=2**31)
    made.send("b", code=0, samples=1000)
    assert made.audit("update")[0] == ("a", f"{2**31} samples, counted as 1000, staleness 0")
    before = made.federation.current
    made.step("ab")
    moved = made.federation.current.weights - before.weights
    np.testing.assert_allclose(moved, 5 * before.header.steps[0], rtol=0.01)


def test_flood_of_refusals_by_one_node_is_folded_and_counted(make_bench: MakeBench) -> None:
    made = make_bench()
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
    ("keys", "message"),
    [
        ('rule = { name = "krum", byzantine = 2 }\nquorum = 6', "quorum': 6, but rule krum .* from 7 updates on"),
        ('mode = "asynchronous"\nquorum = 5\nbuffer = 4', "buffer': 4 updates are fewer than the quorum; expected 5"),
        ('mode = "asynchronous"\nshare = 0.5', "share': 0.5 is for synchronous rounds"),
        ("share = 0.0", "share'"),
    ],
)
def test_numbers_with_which_no_round_could_hold_are_refused_with_those_needed(
    tmp_path: Path, keys: str, message: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'[aggregator]\nstate = "s"\naddresses = ["x"]\n[federation.f]\n{keys}\n')
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_figures_show_median_spread_and_worst_site_and_no_node_can_break_them(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 3\n")
    good = {"base_loss": 1.0, "base_accuracy": 0.9, "base_rmse_load": 2.0}
    made.send("a", metrics=good, samples=300)
    made.send("b", metrics={"base_loss": 3.0, "base_accuracy": 0.5, "base_rmse_load": 1.0, "nodes": 99.0}, samples=100)
    made.send(
        "c", metrics={f"a{i:02d}": 1.7e308 for i in range(29)} | {"nodes": 99.0} | {"\x1b[2J": 1.0}, samples=2**31
    )
    made.step("abc")
    evaluation = made.store.releases.listed("f")[-1].details["evaluation"]
    assert evaluation["base_loss"] == {"median": 2.0, "spread": 1.0, "worst": 3.0, "worst_node": "b", "nodes": 2}
    assert evaluation["base_accuracy"]["worst_node"] == "b" and evaluation["base_rmse_load"]["worst_node"] == "a"
    assert len(evaluation) == MAX_METRICS and "\x1b[2J" not in evaluation
    release = decode_release(made.federation.current.full, made.authority.release_key.public_key(), GRAPH.sizes)
    assert release.header.figures["nodes"] == 3
    assert release.header.figures["base_loss"] == 2.0 and "b" not in str(release.header.figures.values())
    assert made.federation.status(made.now, "abc")["evaluation"] == evaluation
    assert "base_loss 2 ± 1 over 2 sites, worst 3 at b" in " ".join(made.cli("rounds").split())
    shown = made.cli("release", "show", "f", "--json")
    assert shown["evaluation"] == evaluation and shown["nodes"]["b"]["samples"] == 100
    assert "worst_node" in made.cli("release", "show", "f", "2")


LIES = [{"base_loss": 1e12, "base_accuracy": 0.0}, {"base_loss": 0.0, "base_accuracy": 1.0, "local_f1": 1.0}]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("rule", ["fedavg", "median"])
def test_no_figure_of_a_signed_release_goes_beyond_what_honest_sites_say(
    make_bench: MakeBench, rule: str, lie: dict[str, float]
) -> None:
    made = make_bench("quorum = 4\nmax_samples = 1000000000\n", rule=f'{{ name = "{rule}" }}')
    for k, node in enumerate("abc"):
        made.send(node, metrics={"base_loss": 1.0 + k / 10, "base_accuracy": 0.9}, samples=100 + k)
    made.send("d", metrics=lie, samples=10**9)  # and weighs most where the rule weighs by samples
    made.step("abcd")
    release = decode_release(made.federation.current.full, made.authority.release_key.public_key(), GRAPH.sizes)
    figures = release.header.figures
    assert 1.0 <= figures["base_loss"] <= 1.2 and figures["base_accuracy"] == pytest.approx(0.9)
    assert 100 <= figures["samples"] <= 102 and figures["nodes"] == 4
    assert "local_f1" not in figures  # a single site says so
    shown = made.store.releases.listed("f")[-1].details["evaluation"]
    assert shown["base_loss"]["spread"] <= 0.3 and shown["base_loss"]["worst_node"] in ("c", "d")
    assert "worst" in made.cli("rounds")


def test_a_site_that_refused_the_base_counts_as_one_of_an_older_release(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 3\n")
    made.send("a", metrics={"base_loss": 1.0, "base_own_share": 0.2})
    made.send("b", metrics={"base_loss": 1.0, "base_own_share": 0.3, "base_serves": 0.0})
    made.send("c", metrics={"base_loss": 1.0, "base_own_share": 0.9, "base_serves": 0.0})
    made.step("abc")
    shown = made.cli("release", "show", "f", "--json")
    assert shown["serves"] == {"release": 1, "older release": 1, "own model": 1, "not said": 0}
    assert "base_serves" not in shown["evaluation"] and "base_serves" not in shown["figures"]
    assert "release 1, older release 1, own model 1, not said 0" in made.cli("release", "show", "f", "2")


def test_sites_say_what_decides_there(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 3\n")
    for node, share in (("a", 0.2), ("b", 0.9)):
        made.send(node, metrics={"base_loss": 1.0, "base_own_share": share})
    made.send("c", metrics={"base_loss": 1.0})
    made.step("abc")
    shown = made.cli("release", "show", "f", "--json")
    assert shown["serves"] == {"release": 1, "own model": 1, "not said": 1}
    assert shown["evaluation"]["base_own_share"]["worst_node"] == "b"
    assert "release 1, own model 1, not said 1" in made.cli("release", "show", "f", "2")
