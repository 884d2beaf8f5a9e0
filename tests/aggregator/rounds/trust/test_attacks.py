# SPDX-License-Identifier: Apache-2.0
"""Attacks end in quarantine within known rounds, and honest sites never do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fedge_aggregator.rounds.trust import assessment as trust
from fedge_aggregator.rounds.trust.evidence import collect
from fedge_aggregator.rounds.trust.sketches import WIDTH, sketch
from support.trust_fleet import CONFIG, D, Fleet, Forge, Rows, judge, sign_flip


def gaussian(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    return {n: rng.normal(0, 40, D) for n in bad}


def ipm(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    mean = np.mean([r for n, r in rows.items() if n not in bad], axis=0)
    return dict.fromkeys(bad, -0.3 * mean)


def slow_drift(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    lean = np.cos(np.arange(D) ** 2.0) * 9
    return {n: rows[n] + lean for n in bad}


def on_off(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    return sign_flip(rows, bad, round_, rng) if round_ % 4 == 3 else {}


def idle(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    return {n: 0 * rows[n] for n in bad}


def sybils(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    goal = np.cos(np.arange(D) ** 2.0) * 18
    return {n: goal + rng.normal(size=D) * 0.5 for n in bad}


def mimic(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    return dict.fromkeys(bad, rows["h0"])


def accusers(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    """All say the opposite of one honest site, each with noise so that they are no copies."""
    return {n: -2 * rows["h0"] + rng.normal(size=D) * 12 for n in bad}


ATTACKS: dict[str, tuple[Forge, int]] = {  # rounds within which all are quarantined
    "sign flip": (sign_flip, 3),
    "gaussian": (gaussian, 8),
    "inner product manipulation": (ipm, 3),
    "slow drift under the norm bound": (slow_drift, 26),
    "on-off": (on_off, 16),
    "free rider": (idle, 14),
    "sybils": (sybils, 14),
}


@pytest.mark.parametrize("share", [1, 2, 3])
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_quarantined_and_nobody_else(name: str, share: int) -> None:
    forge, rounds = ATTACKS[name]
    fleet = Fleet(honest=10 - share, hostile=share, forge=forge)
    assessment = fleet.run(rounds)
    assert fleet.inside() == set(fleet.bad), [fleet.reputations[n].recent for n in fleet.bad]
    assert all(assessment.weights[n] == 0 for n in fleet.bad)
    assert min(assessment.weights[n] for n in fleet.names if n not in fleet.bad) > 0.5


@pytest.mark.parametrize("lasting", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("honest_rounds", [20, 60])
@pytest.mark.parametrize("name", ["sign flip", "gaussian", "inner product manipulation", "free rider", "on-off"])
def test_a_sleeper_is_quarantined_as_soon_as_one_that_attacks_from_the_start(
    name: str, honest_rounds: int, lasting: float
) -> None:
    forge, rounds = ATTACKS[name]

    def asleep(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
        return forge(rows, bad, round_, rng) if round_ >= honest_rounds else {}

    fleet = Fleet(honest=8, hostile=2, forge=asleep, lasting=lasting)
    fleet.run(honest_rounds)
    assert not fleet.inside()
    fleet.run(rounds)
    assert fleet.inside() == set(fleet.bad), [fleet.reputations[n].recent for n in fleet.bad]


@pytest.mark.parametrize(("begins", "found"), [(0, True), (2, False)])
def test_attackers_who_keep_the_others_from_agreeing_are_still_found_by_what_they_did_before(
    begins: int, found: bool
) -> None:
    def spoiling(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
        if round_ >= 2:  # the model is spoilt: updates are mostly noise
            rows = {n: 0.2 * row + rng.normal(size=D) * 8 for n, row in rows.items()}
        return rows | (sign_flip(rows, bad, round_, rng) if round_ >= begins else {})

    fleet = Fleet(honest=7, hostile=3, forge=spoiling)
    fleet.run(2)
    assert not fleet.inside()
    fleet.run(3)
    assert fleet.reputations["h0"].recent[-1].usual < 0.2
    assert fleet.inside() == (set(fleet.bad) if found else set())  # of noise alone nobody is accused


@pytest.mark.parametrize(("honest", "found"), [(3, False), (5, False), (6, True), (9, True)])
def test_among_fewer_than_seven_a_site_with_peculiar_data_is_not_taken_for_an_attacker(
    honest: int, found: bool
) -> None:
    fleet = Fleet(honest=honest, hostile=1, forge=slow_drift)  # what it sends could be an honest site's data
    fleet.run(30)
    assert fleet.inside() == ({"x0"} if found else set())


@pytest.mark.parametrize(("honest", "every", "found"), [(4, 9, False), (4, 4, True), (9, 9, True)])
def test_among_fewer_than_seven_one_odd_round_in_eight_adds_up_to_no_quarantine(
    honest: int, every: int, found: bool
) -> None:
    def now_and_then(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
        return sign_flip(rows, bad, round_, rng) if round_ % every == every - 1 else {}

    fleet = Fleet(honest=honest, hostile=1, forge=now_and_then)
    fleet.run(90)
    assert fleet.reputations["x0"].suspicion >= CONFIG.limit or found
    assert fleet.inside() == ({"x0"} if found else set())


def test_a_node_that_is_half_way_to_quarantine_has_no_weight_until_it_behaves() -> None:
    fleet, weights = Fleet(honest=8, hostile=1, forge=slow_drift), [1.0]
    while weights[-1] and fleet.round < 26:
        weights.append(fleet.step().weights["x0"])
    assert len(weights) > 8 and not fleet.inside()  # what it does in a few rounds proves little
    assert any("had no weight" in line for line in trust.explain("x0", fleet.reputations["x0"], CONFIG, 0.0))
    fleet.forge = None
    weights = [fleet.step().weights["x0"] for _ in range(40)]
    assert weights[0] == 0 and weights[-1] > 0
    assert not any("had no weight" in line for line in trust.explain("x0", fleet.reputations["x0"], CONFIG, 0.0))


def test_doubt_takes_no_more_weight_than_quarantine_may() -> None:
    fleet = Fleet(honest=6, hostile=4, forge=slow_drift)
    for _ in range(40):
        assert sum(w == 0 for w in fleet.step().weights.values()) <= 4


@pytest.mark.parametrize("lean", [0.0, 0.5, 1.5, 2.5])
@pytest.mark.parametrize("lasting", [0.0, 1.0])
def test_honest_fleet_whose_sites_differ_is_left_alone(lean: float, lasting: float) -> None:
    fleet = Fleet(honest=12, lean=lean, lasting=lasting)
    assessment = fleet.run(40)
    assert not fleet.inside() and not fleet.changes
    assert set(assessment.weights.values()) == {1.0}


def test_honest_one_class_a_site_is_left_alone() -> None:
    """Label skew at its worst, by real training: nine sites of three classes, one class each, drift not taken back."""
    from fedge_models.graph import zoo
    from fedge_models.graph.card import Card, Channel, WindowSpec
    from fedge_models.graph.trainable import TrainableGraph
    from fedge_models.training.config import TrainingConfig
    from fedge_models.training.loop import fit

    card = Card("classify", (Channel("a"),), WindowSpec(1, 4, 4), labels=("ok", "worn", "broken"), normal="ok")
    graph = TrainableGraph.load(zoo.mlp(card, (1, 4), (16,), 1).SerializeToString())
    rng, params, fleet = np.random.default_rng(1), graph.params.copy(), Fleet(honest=9)
    centres = rng.normal(size=(3, 1, 4))
    data = {n: centres[i % 3] + 0.5 * rng.normal(size=(40, 1, 4)) for i, n in enumerate(fleet.names)}
    for _ in range(25):
        deltas = {}
        for i, name in enumerate(fleet.names):
            graph.set_params(params)
            x, y = data[name].astype(np.float32), np.full(40, i % 3)
            fit(graph, x, y, TrainingConfig(epochs=1, learning_rate=0.01), rng)
            deltas[name] = graph.params - params
        step = np.quantile(np.abs(np.stack(list(deltas.values()))), 0.999) / 127
        rows = {n: np.clip(np.rint(d / step), -127, 127).astype(np.int8) for n, d in deltas.items()}
        assessment = fleet.step(rows)
        assert not fleet.inside() and min(assessment.weights.values()) > 0.3
        params = params + np.mean(list(deltas.values()), axis=0)
    assert max(s.suspicion for s in fleet.reputations.values()) < CONFIG.limit / 2


def test_mimic_does_not_drive_out_the_site_it_copies() -> None:
    fleet = Fleet(honest=7, hostile=3, forge=mimic)
    assessment = fleet.run(30)
    assert not fleet.inside()
    assert assessment.groups == (("h0", "x0", "x1", "x2"),)
    assert sum(assessment.weights[n] for n in assessment.groups[0]) == pytest.approx(1.0)  # one vote, not four
    assert trust.representatives(assessment, 3) == sorted(f"h{i}" for i in range(7))
    assert trust.representatives(assessment, 9) == [*sorted(f"h{i}" for i in range(7)), "x1", "x2"]


def test_colluders_cannot_accuse_an_honest_site() -> None:
    fleet = Fleet(honest=7, hostile=3, forge=accusers)
    fleet.run(30)
    assert fleet.inside() == set(fleet.bad) and fleet.reputations["h0"].suspicion < 1


def test_similar_honest_sites_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    common, kinds = rng.normal(size=D), rng.normal(size=(3, D))
    rows = np.stack([common + kinds[i % 3] + 0.4 * rng.normal(size=D) for i in range(12)])
    names = [f"n{i:02d}" for i in range(12)]
    assert collect(names, rows @ rows.T, sketch(rows), dict.fromkeys(names, 1.0)).groups == ()


def test_sample_count_inflation_buys_no_weight() -> None:
    fleet = Fleet(honest=6)
    rows, claims = fleet.rows(), dict.fromkeys(fleet.names, 500.0) | {"h0": 2.0**31, "h1": 1900.0}
    weights = judge(fleet, rows, fleet.names, claims=claims).weights
    assert weights["h0"] * claims["h0"] == pytest.approx(4 * 500) and weights["h1"] == 1.0


def test_two_updates_are_not_compared() -> None:
    fleet = Fleet(honest=1, hostile=1, forge=sign_flip)
    assessment = fleet.run(10)
    assert assessment.weights == {"h0": 1.0, "x0": 1.0} and not fleet.inside()


def test_sketch_keeps_lengths_and_adds_up_over_blocks() -> None:
    rows = np.random.default_rng(0).integers(-127, 128, (40, 5000)).astype(np.int8)
    whole = sketch(rows)
    assert (sketch(rows[:, :1234]) + sketch(rows[:, 1234:], 1234) == whole).all()
    ratio = np.square(whole).sum(axis=1) / np.square(rows.astype(np.float64)).sum(axis=1)
    assert whole.shape == (40, WIDTH) and abs(ratio.mean() - 1) < 0.05 and np.abs(ratio - 1).max() < 0.4
