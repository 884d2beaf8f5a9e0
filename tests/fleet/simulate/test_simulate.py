# SPDX-License-Identifier: Apache-2.0
"""`fedge-fleet simulate` end to end, on machines that are simulated too."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from fedge_aggregator.rounds.round import RoundConfig
from fedge_fleet import report
from fedge_fleet.cli import main
from fedge_fleet.data.held_back import holding_back
from fedge_fleet.data.member import Base, Member, Plan, Sent
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import load
from fedge_fleet.data.site_data import Windows
from fedge_fleet.simulate import outcome as outcomes
from fedge_fleet.simulate import skew
from fedge_fleet.simulate.attacks.attack import Attack
from fedge_fleet.simulate.attacks.claims import LyingLosses
from fedge_fleet.simulate.baselines import Plain
from fedge_fleet.simulate.config import Config, flagged, keys, read
from fedge_fleet.simulate.loop import Hostile, Loop, Trip
from fedge_fleet.simulate.run import Fleet, Outcome, _assemble, simulate
from fedge_models.errors import ConfigError, StopError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import LIMIT, dequantize, expand
from fedge_models.training import personal
from fedge_models.training.config import TrainingConfig
from support.paths import ROOT

ROUNDS = 6


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet(Config(), "test")


def run(fleet: Fleet, **keys: object) -> Outcome:
    """FedAvg without trust, unless the keys say otherwise."""
    plain = {"rule": {"name": "fedavg"}, "trust": None, "rounds": ROUNDS}
    return simulate(Config(**{**plain, **keys}), "test", fleet=fleet, every=3)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(fleet: Fleet) -> None:
    rough = {"hostile": 0.2, "attack": {"name": "gaussian"}, "stragglers": 0.2, "dropouts": 0.2}
    a, b, c = (run(fleet, seed=seed, **rough) for seed in (3, 3, 4))
    assert outcomes.as_json(a) == outcomes.as_json(b) and a.digest == b.digest != c.digest


def test_a_set_that_is_judged_elsewhere_keeps_its_last_site_out(fleet: Fleet) -> None:
    sites = {n: replace(s, test=np.zeros_like(s.test)) for n, s in fleet.problem.sites.items()}  # no part of its own
    problem = replace(fleet.problem, sites=sites, unseen=True)
    apart = Fleet(Config(), "test", problem)
    assert len(apart.sites) == len(fleet.sites) - 1
    made = simulate(Config(rounds=ROUNDS), "test", fleet=apart, every=3)
    assert made.last.score > 0.9 and len(set(made.scores.values())) == 1 and len(made.scores) == len(apart.sites)


def test_fedavg_breaks_and_a_robust_rule_holds(fleet: Fleet) -> None:
    trimmed = {"name": "trimmed_mean", "byzantine": 6}
    attack = {"hostile": 0.3, "attack": {"name": "sample_inflation"}}
    clean, broken, held = run(fleet), run(fleet, **attack), run(fleet, rule=trimmed, **attack)
    assert clean.last.score > 0.95
    assert broken.last.score < 0.5 * clean.last.score
    assert held.last.score > 0.95 * clean.last.score


def test_without_settings_rule_and_trust_are_the_aggregators_defaults(fleet: Fleet) -> None:
    attack: dict[str, object] = {"hostile": 0.3, "attack": {"name": "sample_inflation"}}
    found = simulate(Config(rounds=ROUNDS, **attack), "test", fleet=fleet, every=3)  # type: ignore[arg-type]
    assert found.rule == "trimmed_mean after nearest_neighbour_mixing" and found.quarantined
    assert found.last.score > 0.9


def test_nan_is_refused_where_it_is_decoded_and_costs_nothing_else(fleet: Fleet) -> None:
    found = run(fleet, hostile=0.2, attack={"name": "not_finite"})
    assert found.counts == {"admitted": 16 * ROUNDS, "refused": 4 * ROUNDS}
    assert list(found.reasons) == ["update: spread: expected finite values of 0 or more"]
    assert found.last.score > 0.95


def test_backdoor_success_is_measured(fleet: Fleet) -> None:
    found = run(fleet, hostile=0.2, attack={"name": "backdoor"})
    assert found.last.backdoor > 0.8 and found.last.score > 0.9  # it works, and nobody sees it in the score


@pytest.mark.parametrize("habits", [{"stragglers": 0.5}, {"dropouts": 0.7}, {"stragglers": 0.4, "dropouts": 0.5}])
def test_the_slow_and_the_absent_never_block(fleet: Fleet, habits: dict[str, float]) -> None:
    found = run(fleet, **habits)
    assert found.last.round == ROUNDS and found.last.score > 0.8
    assert found.counts["admitted"] >= 2 * ROUNDS
    assert found.counts.get("late", 0) + found.counts.get("lost", 0) > 0


def test_a_buffer_makes_stragglers_count(fleet: Fleet) -> None:
    slow = {"stragglers": 0.5, "slowness": 8.0}
    waits = run(fleet, federation={"deadline": "2m"}, **slow)
    counts = run(fleet, federation={"mode": "asynchronous", "buffer": 8, "deadline": "2m"}, **slow)
    assert counts.counts.get("late", 0) < waits.counts["late"]
    assert counts.last.score > 0.8


def test_only_some_sites_are_asked(fleet: Fleet) -> None:
    found = run(fleet, federation={"share": 0.4, "margin": 0.25})
    assert found.counts["admitted"] < 11 * ROUNDS and found.last.score > 0.8


def test_trust_puts_hostile_sites_in_quarantine(fleet: Fleet) -> None:
    found = run(fleet, hostile=0.2, attack={"name": "sign_flip"}, trust={})
    assert set(found.quarantined) == set(found.hostile) and len(found.changes) == 4


@pytest.mark.parametrize("rounds", [3, pytest.param(ROUNDS, marks=pytest.mark.slow)])  # trust finds sign_flip in 3
def test_colluders_that_rehearse_the_round_are_never_blamed(fleet: Fleet, rounds: int) -> None:
    guard = {"rule": {"name": "trimmed_mean", "byzantine": 0.3}, "trust": {}, "hostile": 0.2, "rounds": rounds}
    calm, found = (run(fleet, attack={"name": name}, **guard) for name in ("honest", "adaptive"))
    assert found.quarantined == () and found.digest != calm.digest


@pytest.fixture(scope="module")
def reporting() -> Fleet:
    """Sites that hold samples back, and so report the loss of each release."""
    return Fleet(Config(), "test", holding_back(load("bearings", None, "test")))


def test_sites_report_the_loss_of_each_release_on_what_they_hold_back(reporting: Fleet) -> None:
    loop, _, server = _assemble(Config(rounds=3, trust={}), "test", reporting, Attack())
    loop.run()
    told = server._state.losses.history
    assert len(told) == 3 and set(told[-1].change) == set(reporting.sites)
    assert np.median(list(told[-1].change.values())) < 0  # they learn


@pytest.mark.parametrize(("liars", "accused"), [(0.4, 0), (0.6, 1)])
def test_only_a_majority_that_lies_about_losses_accuses_anybody(reporting: Fleet, liars: float, accused: int) -> None:
    """The accused site is away now and then, so that releases with it and without it can be compared."""
    config = Config(rounds=24, hostile=liars, dropouts=0.3, federation={"quorum": 8}, trust={})
    loop, bad, server = _assemble(config, "test", reporting, LyingLosses())
    loop.run()
    kinds = {n: {r.kind for r in kept.recent} for n, kept in server._state.reputations.items() if n not in bad}
    assert sum("canary" in found for found in kinds.values()) == accused
    assert not server.changes  # and such a finding quarantines nobody


def test_a_claim_of_samples_in_an_asynchronous_round_buys_no_release(fleet: Fleet) -> None:
    late = {"federation": {"mode": "asynchronous", "buffer": 8}, "stragglers": 0.3, "slowness": 5.0, "hostile": 0.2}
    guard = {"rule": {"name": "trimmed_mean", "byzantine": 0.3}, "trust": {}}
    calm, attacked = (run(fleet, attack={"name": n}, **late, **guard) for n in ("honest", "sample_inflation"))
    assert attacked.last.score > 0.97 * calm.last.score


@pytest.mark.parametrize("fellows", [False, True])
def test_colluders_rehearse_sampled_and_late_rounds_too(fleet: Fleet, fellows: bool) -> None:
    attack = {"name": "adaptive", "towards": "deviation", "fellows": fellows}
    sampled = {"federation": {"share": 0.3, "margin": 0.0}, "rule": {"name": "krum", "byzantine": 5}}
    late = {"federation": {"mode": "asynchronous", "buffer": 5}, "stragglers": 0.3, "rule": {"name": "fedavg"}}
    for settings in (sampled, late):
        assert run(fleet, hostile=0.3, attack=attack, **settings).last.round == ROUNDS


def test_mixing_and_server_optimisers_are_the_aggregators(fleet: Fleet) -> None:
    found = run(
        fleet,
        rule={"name": "geometric_median"},
        mixing={"name": "nearest_neighbour_mixing", "byzantine": 5},
        server_optimizer={"name": "fedavgm", "rate": 0.5, "momentum": 0.5},
    )
    assert found.last.score > 0.9


def test_hundreds_of_sites_in_one_process() -> None:
    found = simulate(Config(sites=300, rounds=2, skew={"name": "even"}), "test", every=2)
    assert found.counts["admitted"] == 600 and found.last.score > found.history[0].score


# the start value of tensors that stay at the sites


@pytest.fixture(scope="module")
def opposite() -> dict[str, Fleet]:
    """Eight sites that agree on what a fault looks like in half of the channels, and disagree in the other half."""
    rng, sites, card = np.random.default_rng(0), {}, Card("classify", CHANNELS, ONE, ("mean",), ("x", "y"), "x")
    for k in range(8):
        x = rng.normal(size=(80, 4)).astype(np.float32)
        y = (x[:, :2].sum(axis=1) + (1 if k % 2 else -1) * x[:, 2:].sum(axis=1) > 0).astype(np.int64)
        sites[f"s{k}"] = Windows(x, y, np.arange(80) >= 60, np.zeros(80, np.bool_))

    def net(seed: int) -> bytes:
        return zoo.mlp(card, 4, (8,), seed).SerializeToString()

    how = Plan(12, TrainingConfig(learning_rate=0.02))
    problem = Problem("opposite", sites, card, net, "macro_f1", how, how, how)
    config = Config(sites=8)
    starts: tuple[Literal["file", "shared"], ...] = ("file", "shared")
    return {start: Fleet(config, "test", problem.keeping("dense1.*", start)) for start in starts}


DEFAULT = {"rule": {"name": "trimmed_mean", "byzantine": 0.3}, "trust": {}, "rounds": 12, "sites": 8}


def test_start_value_costs_the_averaged_tensors_no_bit_and_honest_sites_no_trust(opposite: dict[str, Fleet]) -> None:
    found = {start: simulate(Config(**DEFAULT), "test", fleet=fleet) for start, fleet in opposite.items()}  # type: ignore[arg-type]
    file, shared = found["file"].federation, found["shared"].federation
    mask = shared.mask
    assert (file.params[~mask] == shared.params[~mask]).all() and found["file"].scores == found["shared"].scores
    assert all((file.at(site) == shared.at(site)).all() for site in opposite["file"].sites)
    assert (file.params[mask] == opposite["file"].start[mask]).all()
    own = np.stack(list(shared.own.values()))
    assert np.abs(own - np.median(own, axis=0)).max() > 0.5  # they differ
    np.testing.assert_allclose(shared.params[mask], np.median(own, axis=0), atol=0.15)  # of the round before the last
    assert not found["shared"].changes and found["shared"].quarantined == ()


@pytest.mark.parametrize("attack", ["sign_flip", "alie"])
def test_hostile_sites_that_offer_extreme_tensors_move_the_start_only_within_the_honest_range(
    opposite: dict[str, Fleet], attack: str
) -> None:
    fleet = opposite["shared"]
    config = Config(**DEFAULT, hostile=0.375, attack={"name": attack})  # type: ignore[arg-type]
    found = simulate(config, "test", fleet=fleet)
    assert len(found.hostile) == 3
    of_honest = np.stack([own for site, own in found.federation.own.items() if site not in found.hostile])
    start = found.federation.params[found.federation.mask]
    assert (start > of_honest.min(axis=0) - 0.15).all() and (start < of_honest.max(axis=0) + 0.15).all()
    assert found.counts.get("refused", 0) == 0


# the loop

CHANNELS, ONE = tuple(Channel(name) for name in "abcd"), WindowSpec(1, 1, 1)
CARD = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, 1, 1), ("mean",), ("x", "y"), "x")


def small_loop(trip: object, limits: RoundConfig, sites: int = 4, rounds: int = 3) -> Loop:
    graph = TrainableGraph.load(zoo.mlp(CARD, 2, (4,)).SerializeToString())
    rng = np.random.default_rng(0)
    members = {}
    for k in range(sites):
        x = rng.normal(size=(16, 2)).astype(np.float32)
        members[f"s{k}"] = Member(x, (x[:, 0] > 0).astype(np.int64), np.zeros_like(graph.params), rng)
    plan = Plan(rounds, TrainingConfig(epochs=1))
    return Loop(graph, members, plan, Plain(graph, graph.params.copy(), plan), limits, 3600.0, trip)  # type: ignore[arg-type]


def test_a_site_owes_what_the_grid_cuts_off_and_sends_it_later() -> None:
    loop = small_loop(lambda *_: Trip(1.0), RoundConfig(2, 100.0))
    graph, member = loop.graph, loop.members["s0"]
    narrow = Base(1, graph.params.copy(), np.full(len(graph.sizes), 1e-6, np.float32))
    still = replace(loop.plan, training=TrainingConfig(epochs=0), correction=0.0)
    first = member.turn(graph, narrow, personal.local_mask(graph), loop.plan)
    error_feedback = member.error_feedback.copy()
    wide = replace(narrow, version=2, steps=np.full(len(graph.sizes), 1e-5, np.float32))
    second = member.turn(graph, wide, personal.local_mask(graph), still)
    assert np.abs(first.codes).max() >= LIMIT - 1 and np.abs(error_feedback).max() > 5e-4
    np.testing.assert_allclose(dequantize(second.codes, expand(wide.steps, graph.sizes)), error_feedback, atol=5.1e-6)


def test_a_straggler_is_late_and_the_deadline_ends_the_round() -> None:
    loop = small_loop(lambda node, _: Trip(1000.0 if node == "s0" else 1.0), RoundConfig(2, 100.0))
    loop.run()
    assert loop.now == pytest.approx(3 * 101.0) and loop.counts["admitted"] == 9


def test_a_site_that_lost_its_update_tries_again_on_the_same_release() -> None:
    turns = {"s0": 0}

    def trip(node: str, version: int) -> Trip:
        if node == "s0":
            turns["s0"] += 1
        return Trip(1.0, arrives=node != "s0" or turns["s0"] > 1)

    loop = small_loop(trip, RoundConfig(4, 100.0), rounds=1)
    loop.run()
    assert loop.now == 2.0 and loop.counts == {"admitted": 4, "lost": 1}


def test_a_round_that_cannot_end_says_so() -> None:
    loop = small_loop(lambda *_: Trip(1.0), RoundConfig(2, 100.0))

    class Needy(Plain):
        def minimum(self) -> int:
            return 9

    loop.server = Needy(loop.graph, loop.graph.params.copy(), loop.plan)
    with pytest.raises(
        StopError, match=r"round 1 cannot end: no site sends another update: .* needs updates of 9 nodes"
    ):
        loop.run()


def test_a_hostile_site_sees_what_the_honest_send() -> None:
    class Spy(Hostile):
        names = frozenset({"s1"})

        def __init__(self) -> None:
            self.saw: list[int] = []

        def turn(self, nodes: Sequence[str], base: Base, honest: Sequence[tuple[Base, Sent]]) -> Mapping[str, Sent]:
            self.saw.append(len(honest))
            return dict.fromkeys(nodes, honest[0][1])

    loop = small_loop(lambda *_: Trip(1.0), RoundConfig(4, 100.0))
    spy = Spy()
    loop.hostile = spy
    loop.run()
    assert spy.saw == [3, 3, 3]


# how data is dealt

POOL = {
    name: Windows(
        np.arange(rows, dtype=np.float32)[:, None] + start,
        np.arange(rows) % 4,
        np.arange(rows) >= rows * 3 // 4,
        np.zeros(rows, np.bool_),
    )
    for name, rows, start in (("big", 1600, 0), ("small", 800, 10_000))
}


@pytest.mark.parametrize("name", skew.SKEWS)
def test_every_window_goes_to_one_site_and_stays_on_its_side(name: str) -> None:
    dealt = skew.deal(POOL, 12, skew.SKEWS[name](), seed=0)
    assert len(dealt) == 12
    for test in (False, True):
        got = np.sort(np.concatenate([s.x[s.test == test, 0] for s in dealt.values()]))
        want = np.sort(np.concatenate([s.x[s.test == test, 0] for s in POOL.values()]))
        assert (got == want).all()
    again = skew.deal(POOL, 12, skew.SKEWS[name](), seed=0)
    assert all((dealt[n].x == again[n].x).all() for n in dealt)


def test_own_sites_are_cut_by_size_and_never_mixed() -> None:
    dealt = skew.deal(POOL, 12, skew.Own(), seed=0)
    assert sum(n.startswith("big.") for n in dealt) == 8
    assert all((s.x < 10_000).all() if n.startswith("big.") else (s.x >= 10_000).all() for n, s in dealt.items())
    assert list(skew.deal(POOL, 1, skew.Own(), seed=0)) == ["big"]


def test_two_classes_a_site() -> None:
    dealt = skew.deal(POOL, 8, skew.Classes(per_site=2), seed=0)
    assert all(len(np.unique(s.y)) == 2 for s in dealt.values())


def test_one_class_a_site_is_scored_over_all_sites_together() -> None:
    plain = Config(sites=8, rounds=3, skew={"name": "classes", "per_site": 1}, rule={"name": "fedavg"}, trust=None)
    found = simulate(plain, "test")
    assert found.scores == {} and all(np.isnan(p.worst) for p in found.history)
    assert found.history[-1].score > found.history[0].score
    printed = "\n".join(outcomes.lines(found))
    assert "worst site: unknown" in printed and "nan" not in printed
    assert json.loads(outcomes.as_json(found))["history"][-1]["worst"] is None
    page = report.render(outcomes.page(found))
    assert page.count("<figure><h2>") == 3 and "nan" not in page


def test_small_alpha_makes_sites_differ() -> None:
    def spread(how: skew.Skew) -> float:
        shares = [np.bincount(s.y, minlength=4) / len(s.y) for s in skew.deal(POOL, 5, how, seed=1).values()]
        return float(np.std(shares, axis=0).mean())

    assert spread(skew.Dirichlet(alpha=0.5)) > 3 * spread(skew.Dirichlet(alpha=100)) > spread(skew.Even())
    sizes = [len(s.y) for s in skew.deal(POOL, 5, skew.Quantity(alpha=0.5), seed=1).values()]
    assert max(sizes) > 3 * min(sizes)


@pytest.mark.parametrize("how", [skew.Dirichlet(alpha=0.05), skew.Quantity(alpha=0.05)])
def test_no_draw_leaves_a_site_without_training_windows(how: skew.Skew) -> None:
    trained = [int((~s.test).sum()) for s in skew.deal(POOL, 12, how, seed=3).values()]
    assert min(trained) >= skew.LEAST and sum(trained) == sum(int((~s.test).sum()) for s in POOL.values())
    crowded = [int((~s.test).sum()) for s in skew.deal(POOL, 300, how, seed=3).values()]
    assert min(crowded) == sum(crowded) // 300 < skew.LEAST


def test_too_many_sites_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"key 'sites': 900 sites leave .* it needs 2"):
        skew.deal(POOL, 900, skew.Even(), seed=0)
    with pytest.raises(ConfigError, match="do not cover 4 classes"):
        skew.deal(POOL, 2, skew.Classes(per_site=1), seed=0)


# configuration and command line


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("site = 3", "unknown key 'site'; did you mean 'sites'"),
        ("sites = 1", "key 'sites'"),
        ("hostile = 1.0", "key 'hostile'"),
        ('rule = { name = "medan" }', "key 'rule.name': no rule 'medan'"),
        ('rule = { name = "krum", byzantine = 9 }', r"key 'rule': Krum\(byzantine=9\) needs 21 sites, there are 20"),
        ('skew = { name = "dirichlet", alfa = 1 }', "unknown key 'skew.alfa'; did you mean 'alpha'"),
        ('attack = { name = "nan" }', "key 'attack.name': no attack 'nan'"),
        ("federation = { quorom = 3 }", "unknown key 'federation.quorom'; did you mean 'quorum'"),
        ("trust = { limt = 3 }", "unknown key 'trust.limt'; did you mean 'limit'"),
        ('set = "fan"', "key 'data': the set 'fan' is recorded"),
        ('set = "fans"', "key 'set': no data set 'fans'"),
    ],
)
def test_a_wrong_key_is_refused_with_file_and_key(tmp_path: Path, fleet: Fleet, toml: str, message: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(toml)
    with pytest.raises(ConfigError, match=message) as error:
        config, where = read(path, {})
        simulate(config, where, fleet=None if "set" in toml or "skew" in toml else fleet)
    assert str(path) in str(error.value)


def test_flags_go_before_the_file_and_every_key_is_one(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text('sites = 30\nrule = { name = "median" }\n')
    config, _ = read(path, flagged({"sites": "40", "attack": "alie", "skew": '{ name = "dirichlet", alpha = 1.0 }'}))
    assert config.sites == 40 and config.rule == {"name": "median"} and config.attack == {"name": "alie"}
    assert config.skew == {"name": "dirichlet", "alpha": 1.0}
    options = {p.name for p in main.commands["simulate"].params}
    assert set(keys()) == set(Config.__struct_fields__) <= options and all(keys().values())
    with pytest.raises(ConfigError, match=r"key 'rule'.*not valid TOML"):
        flagged({"rule": "{ name = "})


def test_every_way_to_deal_is_in_the_documentation() -> None:
    text = (ROOT / "docs/data-scientist/simulate.md").read_text()
    for name in skew.SKEWS:
        assert f"`{name}`" in text, name


def test_command_prints_a_table_json_and_a_page(tmp_path: Path) -> None:
    runner, few = CliRunner(), ["--sites", "6", "--rounds", "2", "--hostile", "0.34", "--attack", "backdoor"]
    shown = runner.invoke(main, ["simulate", *few, "--report", str(tmp_path / "report.html")])
    assert shown.exit_code == 0 and "2 of them hostile (backdoor)" in shown.output and "macro_f1" in shown.output
    page = (tmp_path / "report.html").read_text()
    assert page.count("class='chart") == 2 and "backdoor works" in page and "NOT KEPT" not in page
    found = json.loads(runner.invoke(main, ["simulate", *few, "--json"]).stdout.splitlines()[-1])
    assert found["simulation"]["sites"] == 6 and len(found["history"]) == 3 and len(found["weights"]) == 64
    wrong = runner.invoke(main, ["simulate", "--rule", "medan"])
    assert wrong.exit_code == 1 and "no rule 'medan'" in wrong.stderr


def test_what_is_unknown_is_null_in_json(fleet: Fleet) -> None:
    found = run(fleet)
    text = outcomes.as_json(found)
    assert json.loads(text)["history"][0]["backdoor"] is None and "NaN" not in text
    assert msgspec.json.decode(text) == json.loads(text)
    assert math.isnan(found.last.backdoor)
    assert "<h2>Promises</h2>" not in report.render(outcomes.page(found))
