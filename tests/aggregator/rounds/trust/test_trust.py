# SPDX-License-Identifier: Apache-2.0
"""Quarantine and trust over the rounds: how they are earned and lost, what bounds them, what an operator reads."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_aggregator.rounds.trust import assessment as trust
from fedge_aggregator.rounds.trust.reputation import (
    AssessedRound,
    Reputation,
    TrustConfig,
    after_round,
    leave_quarantine,
)
from fedge_aggregator.rounds.trust.suspicion import GOOD, Finding
from fedge_models.errors import ConfigError
from fedge_models.system import settings
from support.trust_fleet import CONFIG, D, Fleet, judge, sign_flip


def test_trust_is_not_won_back_by_behaving_for_one_round() -> None:
    fleet = Fleet(honest=8, hostile=2, forge=sign_flip)
    fleet.run(4)
    fleet.forge = None
    assert fleet.step().weights["x0"] == 0.0
    fleet.reputations["x0"] = leave_quarantine(fleet.reputations["x0"], CONFIG)
    weights = [fleet.step().weights["x0"] for _ in range(30)]
    assert weights[0] < 0.1 and weights[5] < 0.3 and weights[-1] > 0.5
    assert (np.diff(weights) >= 0).all()
    fleet.forge = sign_flip
    fleet.run(3)
    assert "x0" in fleet.inside()
    assert fleet.reputations["x0"].quarantines == 2


def test_probation_ends_at_the_first_clearly_bad_round() -> None:
    fleet = Fleet(honest=8, hostile=1, forge=sign_flip)
    fleet.run(4)
    fleet.reputations["x0"] = leave_quarantine(fleet.reputations["x0"], CONFIG)
    fleet.step()
    assert "x0" in fleet.inside()


def test_new_node_starts_small_and_grows() -> None:
    fleet = Fleet(honest=8)
    fleet.run(12)
    fleet.names.append("new")
    fleet.leans["new"] = np.zeros(D)
    weights = [fleet.step().weights["new"] for _ in range(12)]
    assert weights[0] <= 2 / 11 + 1e-9 and weights[-1] == 1.0
    assert max(np.diff(weights)) <= 1 / 11 + 1e-9


def test_quarantine_ends_by_time_only_after_behaving() -> None:
    fleet = Fleet(honest=8, hostile=2, forge=sign_flip, config=TrustConfig(quarantine=settings.Seconds(10 * 3600)))
    fleet.run(30)
    assert fleet.inside() == {"x0", "x1"}  # its time is over, but it never behaved
    fleet.forge = None
    fleet.run(60)
    assert not fleet.inside() and any("out of quarantine" in c for c in fleet.changes)
    assert fleet.reputations["x0"].quarantines == 1


def test_absent_nodes_keep_their_standing() -> None:
    fleet = Fleet(honest=8, hostile=1, forge=sign_flip)
    fleet.run(4)
    before = fleet.reputations["x0"]
    for _ in range(5):
        fleet.step({n: r for n, r in fleet.rows().items() if n != "x0"})
    assert fleet.reputations["x0"] == before


def test_quarantine_leaves_the_rule_its_minimum() -> None:
    fleet = Fleet(honest=6, hostile=3, forge=sign_flip, minimum=8)
    fleet.run(10)
    assert len(fleet.inside()) == 1


def test_quarantine_never_takes_a_majority() -> None:
    fleet = Fleet(honest=3, hostile=5, forge=sign_flip)  # the hostile are the majority: who is who cannot be known
    fleet.run(20)
    assert len(fleet.inside()) <= 3


def test_watching_changes_no_weight() -> None:
    fleet = Fleet(honest=8, hostile=2, forge=sign_flip, config=TrustConfig(action="watch"))
    assessment = fleet.run(6)
    assert set(assessment.weights.values()) == {1.0} and not fleet.inside()
    assert fleet.reputations["x0"].suspicion >= CONFIG.limit


def test_weighing_lowers_and_does_not_silence() -> None:
    fleet = Fleet(honest=8, hostile=2, forge=sign_flip, config=TrustConfig(action="weigh"))
    assessment = fleet.run(6)
    assert not fleet.inside() and 0 < assessment.weights["x0"] < 0.05


def test_soft_findings_never_quarantine_by_themselves() -> None:
    fleet = Fleet(honest=8)
    for _ in range(40):
        fleet.round += 1
        fleet.reputations = dict(
            judge(fleet, fleet.rows(), fleet.names, {"h0": Finding(0.25, "canary", True)}).reputations
        )
    assert fleet.reputations["h0"].suspicion == CONFIG.limit / 2 and not fleet.inside()


def test_reason_is_in_plain_words() -> None:
    fleet = Fleet(honest=8, hostile=1, forge=sign_flip)
    fleet.run(5)
    assert "x0 is in quarantine: 3 of its last 3 updates pointed against the others' (cosine -0." in fleet.changes[0]
    lines = trust.explain("x0", fleet.reputations["x0"], CONFIG, 5 * 3600.0)
    assert lines[0].startswith("x0: in quarantine, no weight: 3 of its last 3 updates pointed against")
    assert "nodes release x0" in lines[1]
    assert trust.explain("h0", fleet.reputations["h0"], CONFIG, 0.0) == [
        f"h0: trust {6 / 11:.2f}, assessed in 5 rounds",
        "h0: new, 5 of 10 rounds without blame to full weight",
    ]


def test_mistyped_parameter_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'limit'"):
        settings.convert({"limits": 2.0}, TrustConfig, "aggregator.toml", "federation.X.trust")


def test_good_round_takes_off_a_twentieth_of_a_bad_one() -> None:
    round_ = AssessedRound(1, 0.5, 0.5, 0.0, "")
    bad = after_round(Reputation(), Finding(1.0, "against"), round_, CONFIG)
    good = after_round(bad, GOOD, round_, CONFIG)
    assert (bad.suspicion, good.suspicion) == (1.0, 0.95)
