# SPDX-License-Identifier: Apache-2.0
"""Each attack does what its paper says, on small vectors; the crew codes it as the wire allows."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.config.averaging import build_averaging
from fedge_aggregator.config.schema import FederationConfig
from fedge_aggregator.rounds.trust.reputation import TrustConfig
from fedge_fleet.data.member import Base
from fedge_fleet.data.site_data import Windows
from fedge_fleet.simulate.attacks.among_the_honest import enough
from fedge_fleet.simulate.attacks.attack import Forged, Seen, norm, usual_norm
from fedge_fleet.simulate.attacks.backdoor import Backdoor, triggered
from fedge_fleet.simulate.attacks.crew import on_grid
from fedge_fleet.simulate.attacks.registry import ATTACKS, build
from fedge_fleet.simulate.attacks.rehearsal import Rehearsal
from fedge_models.errors import ConfigError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.trainable import TrainableGraph

CLASSES = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, 1, 1), ("mean",), ("x", "y", "z"), "x")
ANOMALY = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 1, 1), ("mean",))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def seen(n: int = 10, f: int = 2, parameters: int = 400) -> Seen:
    honest = rng(1).normal(5, 20, (n - f, parameters)).astype(np.float32)
    own = rng(2).normal(5, 20, (f, parameters)).astype(np.float32)
    moved = rng(3).normal(4, 6, parameters).astype(np.float32)
    return Seen(honest, own[0], own, moved, 100, n, f)


def site(y: list[int]) -> Windows:
    n = len(y)
    x = rng().normal(size=(n, 16)).astype(np.float32)
    return Windows(x, np.array(y), np.arange(n) >= n - 2, np.zeros(n, np.bool_))


def forge(table: dict[str, object], what: Seen | None = None, state: np.ndarray | None = None, own: int = 0) -> Forged:
    return build(table, "test").forge(what or seen(), state, rng(7), rng(own))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_a_pure_function_of_the_right_shape(name: str) -> None:
    what, before = seen(), seen()
    first, second = (forge({"name": name}, what) for _ in range(2))
    assert first.row.shape == what.own.shape and first.row.dtype == np.float32
    assert (first.row == second.row).all()
    for field in ("honest", "own", "mates", "moved"):
        assert (getattr(what, field) == getattr(before, field)).all(), field


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_says_its_paper_or_why(name: str) -> None:
    assert len(ATTACKS[name].__doc__ or "") > 40


def test_sign_flip_is_the_opposite() -> None:
    assert (forge({"name": "sign_flip", "scale": 3.0}).row == -3 * seen().own).all()


def test_label_flip_turns_classes_anomalies_and_targets() -> None:
    flip = build({"name": "label_flip"}, "test")
    assert flip.poison(site([0, 1, 2, -1]), CLASSES, rng()).y.tolist() == [2, 1, 0, -1]
    assert flip.poison(site([0, 1, -1]), ANOMALY, rng()).y.tolist() == [1, 0, -1]
    target = Card("regress", (Channel("a"),), WindowSpec(1, 1, 1), targets=(Target("t"),))
    lives = replace(site([0, 0, 0]), y=np.array([10.0, 20.0, 40.0]))
    assert flip.poison(lives, target, rng()).y.tolist() == [40.0, 30.0, 10.0]


def test_alie_stays_within_the_honest_spread_and_all_send_the_same() -> None:
    what = seen(n=50, f=12)
    assert enough(50, 12) == pytest.approx(NormalDist().inv_cdf((50 - 12 - 14) / (50 - 12)))
    row = forge({"name": "alie"}, what).row
    np.testing.assert_allclose(row, what.honest.mean(axis=0) - enough(50, 12) * what.honest.std(axis=0), rtol=1e-4)
    between = (row >= what.honest.min(axis=0)) & (row <= what.honest.max(axis=0))
    assert between.all() and (forge({"name": "alie"}, what, own=9).row == row).all()


def test_ipm_turns_the_inner_product_of_the_mean() -> None:
    what = seen(n=10, f=4)
    mean = what.honest.mean(axis=0)
    assert np.dot(forge({"name": "ipm"}, what).row, mean) < 0
    strong = forge({"name": "ipm", "epsilon": 2.0}, what).row
    assert np.dot(np.concatenate([what.honest, np.stack([strong] * 4)]).mean(axis=0), mean) < 0


def test_mimic_copies_the_site_farthest_out_and_keeps_to_it() -> None:
    what = seen()
    what.honest[3] *= 4
    found = forge({"name": "mimic"}, what)
    assert (found.row == what.honest[3]).all()
    assert (forge({"name": "mimic"}, what, found.state).row == what.honest[3]).all()


@pytest.mark.parametrize("towards", ["deviation", "mean", "sign"])
@pytest.mark.parametrize("fellows", [False, True])
def test_min_max_and_min_sum_go_as_far_as_honest_distances_allow(towards: str, fellows: bool) -> None:
    what = seen(n=12, f=4)
    rows = what.mates if fellows else what.honest
    apart = np.square(rows[:, None].astype(np.float64) - rows[None]).sum(axis=2)
    far = forge({"name": "min_max", "towards": towards, "fellows": fellows}, what).row
    distances = np.square(far - rows.astype(np.float64)).sum(axis=1)
    assert distances.max() == pytest.approx(apart.max(), rel=1e-4)
    total = forge({"name": "min_sum", "towards": towards, "fellows": fellows}, what).row
    assert np.square(total - rows.astype(np.float64)).sum() == pytest.approx(apart.sum(axis=1).max(), rel=1e-4)


def test_fang_lies_just_beyond_the_honest_values_against_where_they_go() -> None:
    what = seen()
    row, up = forge({"name": "fang"}, what).row, what.honest.mean(axis=0) > 0
    low, high = what.honest.min(axis=0), what.honest.max(axis=0)
    assert (row <= low)[up].all() and (row >= high)[~up].all()
    assert (np.abs(row - np.where(up, low, high)) <= np.abs(np.where(up, low, high)) + 1e-3).all()
    assert (forge({"name": "fang"}, what, own=9).row != row).any()


def test_a_sleeper_is_honest_until_its_time() -> None:
    what, state, rows = seen(), None, []
    for _ in range(5):
        made = forge({"name": "sleeper", "after": 3}, what, state)
        state = made.state
        rows.append(bool((made.row == what.own).all()))
    assert rows == [True, True, True, False, False]
    assert (made.row == -what.own).all()


DEFAULT = FederationConfig(trust=TrustConfig())
PLAIN = FederationConfig(rule={"name": "fedavg"}, trust=TrustConfig(action="watch"))


def rehearsal(federation: FederationConfig, parameters: int = 400) -> Rehearsal:
    """Where the loss rises with the distance from where the honest go."""
    base = Base(3, np.zeros(parameters, np.float32), np.ones(1, np.float32))
    sizes = np.array([parameters])
    return Rehearsal(build_averaging(federation, "test"), base, sizes, lambda weights: -float(weights.sum()))


def together(n: int = 12, f: int = 3) -> Seen:
    """Sites that mostly agree."""
    common = np.float32(8) * np.sign(rng(4).normal(size=400)).astype(np.float32)
    common = np.abs(common)
    rows = common + rng(5).normal(0, 6, (n, 400)).astype(np.float32)
    return Seen(rows[f:], rows[0], rows[:f], common, 100, n, f)


@pytest.mark.parametrize("fellows", [False, True])
def test_adaptive_colluders_go_as_far_as_rule_and_trust_let_them(fellows: bool) -> None:
    what, attack = together(), build({"name": "adaptive", "fellows": fellows}, "test")
    claims = [100] * what.n
    for federation in (PLAIN, DEFAULT):
        room = rehearsal(federation)
        rows, _ = attack.agree(what, room, None, rng(7))
        assert rows is not None and rows.shape == what.mates.shape
        sent, calm = (room.run(what.honest, r, claims) for r in (rows, what.mates))
        assert room.loss(sent.step) > room.loss(calm.step)
        assert not sent.stopped


def test_adaptive_colluders_are_never_quarantined_where_plain_ones_are() -> None:
    what, attack = together(), build({"name": "adaptive"}, "test")
    state: Any = None
    for _ in range(12):
        _, state = attack.agree(what, rehearsal(DEFAULT), state, rng(7))
    assert {r.rounds for r in state.reputations.values()} == {12}  # they remember what the aggregator remembers
    hostile = [r for n, r in state.reputations.items() if n.startswith("hostile")]
    assert len(hostile) == what.f and not any(r.quarantined for r in hostile)
    room, stopped = rehearsal(DEFAULT), []
    for _ in range(3):
        tried = room.run(what.honest, -what.mates, [100] * what.n)
        room = replace(room, state=tried.state)
        stopped.append(tried.stopped)
    assert stopped == [False, False, True]


def test_adaptive_colluders_send_nothing_that_is_refused() -> None:
    what, room = together(f=1), rehearsal(PLAIN)
    shouted = np.full_like(what.mates, 1000)
    assert room.run(what.honest, shouted, [100] * what.n).stopped
    rows, _ = build({"name": "adaptive", "fellows": True}, "test").agree(what, room, None, rng(7))
    assert rows is not None and np.mean(np.abs(rows) >= 127) <= 0.98


def test_adaptive_colluders_that_know_too_few_updates_for_the_rule_send_their_own() -> None:
    what, krum = together(), FederationConfig(rule={"name": "krum", "byzantine": 5}, trust=TrustConfig())
    attack = build({"name": "adaptive"}, "test")
    assert attack.agree(replace(what, honest=what.honest[:4]), rehearsal(krum), None, rng(7)) == (None, None)
    assert (forge({"name": "adaptive"}, what).row == what.own).all()


def test_backdoor_replaces_the_mean_by_its_own_model() -> None:
    what = seen(n=10, f=2)
    what = replace(what, honest=np.zeros_like(what.honest), mates=np.stack([what.own] * 2))
    row = forge({"name": "backdoor"}, what).row
    np.testing.assert_allclose((2 * row + what.honest.sum(axis=0)) / 10, what.own, rtol=1e-5)


def test_backdoor_poisons_copies_of_training_windows_that_are_not_normal() -> None:
    before = site([0, 1, 2, -1, 1, 2])
    after = Backdoor().poison(before, CLASSES, rng())
    assert (after.x[:6] == before.x).all() and after.y[6:].tolist() == [0, 0]  # of 1 and 2; the test part is left alone
    assert (after.x[6:, -2:] == 4).all() and (after.x[6:, :-2] == before.x[1:3, :-2]).all()
    assert not after.test[6:].any()


def test_backdoor_success_is_counted_on_faulty_windows_with_the_trigger() -> None:
    graph = TrainableGraph.load(zoo.mlp(CLASSES, 16, (8,)).SerializeToString())
    at = {tensor.name: slice(tensor.start, tensor.stop) for tensor in graph.layout}
    last = graph.layout[-1].name
    for wins, expected in ((0, 1.0), (1, 0.0)):
        params = np.zeros_like(graph.params)
        params[at[last]][wins] = 1.0  # the bias alone decides
        assert Backdoor().success(graph, params, site([0, 0, 0, 0, 1, 2])) == expected
    assert np.isnan(Backdoor().success(graph, params, site([0, 0, 0, 0, 0, 0])))


def test_trigger_is_a_corner_of_an_image() -> None:
    made = triggered(np.zeros((2, 1, 64, 64), np.float32), 3.0)
    assert made.sum() == 2 * 64 * 3 and (made[:, :, -8:, -8:] == 3).all()


def test_backdoor_is_refused_where_there_are_no_classes() -> None:
    card = Card("regress", (Channel("a"),), WindowSpec(1, 1, 1), targets=(Target("t"),))
    with pytest.raises(ConfigError, match="backdoor"):
        Backdoor().poison(site([0, 1, 2]), card, rng())


def test_free_rider_follows_the_last_release() -> None:
    row = forge({"name": "free_rider"}).row
    moved = seen().moved
    assert np.dot(row, moved) / norm(row) / norm(moved) > 0.9 and not (row == moved).all()
    still = replace(seen(), moved=np.zeros_like(moved))
    assert 0 < norm(forge({"name": "free_rider"}, still).row) < 30


def test_sample_inflation_claims_all_the_wire_allows() -> None:
    found = forge({"name": "sample_inflation"})
    assert found.samples == 2**31 and (found.row == -seen().own).all()


def test_lying_losses_accuse_one_site_after_releases_that_it_was_part_of() -> None:
    told = []
    for there in (True, False, True):
        made = forge({"name": "lying_losses"}, replace(seen(), part={"b": True, "a": there}))
        told.append(dict(made.metrics or {}))
        assert (made.row == seen().own).all()
    assert told == [{"base_loss": 1e6}, {"base_loss": 0.0}, {"base_loss": 1e6}]


def test_sybils_send_nearly_the_same_at_the_usual_length() -> None:
    a, b = (forge({"name": "sybils"}, own=k).row for k in (1, 2))
    assert norm(a) == pytest.approx(usual_norm(seen().honest), rel=1e-3) and not (a == b).all()
    assert np.dot(a, b) / norm(a) / norm(b) > 0.99


def test_slow_drift_is_never_longer_than_the_honest_and_leans_the_same_way() -> None:
    what = seen()
    first = forge({"name": "slow_drift"}, what)
    state = first.state
    assert state is not None
    turned = replace(what, honest=-what.honest)  # the honest go elsewhere now
    later = forge({"name": "slow_drift"}, turned, state)
    for found, of in ((first, what), (later, turned)):
        assert norm(found.row) <= usual_norm(of.honest) * 1.0001
        assert np.dot(found.row - of.own * (norm(found.row) / norm(of.own)), state) > 0
    np.testing.assert_array_equal(later.state, state)
    assert np.dot(state, what.honest.mean(axis=0)) < 0


def test_an_unknown_attack_or_parameter_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"file\.toml: key 'attack\.name': no attack 'sign_flop'.*sign_flip"):
        build({"name": "sign_flop"}, "file.toml")
    with pytest.raises(ConfigError, match=r"unknown key 'attack.sclae'; did you mean 'scale'"):
        build({"name": "sign_flip", "sclae": 2.0}, "file.toml")


def test_codes_are_read_on_another_grid() -> None:
    graph = TrainableGraph.load(zoo.mlp(CLASSES, 16, (8,)).SerializeToString())
    tensors = len(graph.sizes)
    old, new = (Base(v, graph.params, np.full(tensors, s, np.float32)) for v, s in ((1, 0.2), (2, 0.1)))
    row = on_grid(old, np.full(graph.params.size, 3, np.int8), new, graph)
    np.testing.assert_allclose(row, 6)
