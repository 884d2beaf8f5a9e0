# SPDX-License-Identifier: Apache-2.0
"""Any play of good and bad rounds: scores are bounded, whatever the order, and survive a restart."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from fedge_aggregator.rounds.trust.reputation import Reputation
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from support.examples import examples
from support.trust_fleet import CONFIG, Fleet, Rows, judge

ROUNDS = st.lists(
    st.lists(st.sampled_from(["good", "bad", "noise", "zero", "absent"]), min_size=7, max_size=7), max_size=12
)


def played(habits: Sequence[str], round_: int) -> Rows:
    rng = np.random.default_rng(round_)
    common, rows = rng.normal(size=80) * 20, {}
    for i, habit in enumerate(habits):
        row = common + rng.normal(size=80) * 10
        made = {"good": row, "bad": -row, "noise": rng.normal(size=80) * 20, "zero": 0 * row}
        if habit != "absent":
            rows[f"n{i}"] = np.rint(made[habit]).astype(np.int8)
    return rows


@example_settings(max_examples=examples(60), deadline=None)
@given(ROUNDS, st.randoms(use_true_random=False))
def test_scores_stay_bounded_rise_slowly_and_do_not_depend_on_order(plays: list[list[str]], random: object) -> None:
    fleet, members = Fleet(honest=7), [f"n{i}" for i in range(7)]
    for habits in plays:
        rows = played(habits, fleet.round)
        shuffled = list(rows)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        fleet.round += 1
        if not rows:
            continue
        assessment = judge(fleet, rows, members)
        assert judge(fleet, {n: rows[n] for n in shuffled}, members) == assessment
        scores = {n: s.score(CONFIG) for n, s in assessment.reputations.items()}
        assert all(0 <= s <= 1 for s in scores.values()) and all(0 <= w <= 1 for w in assessment.weights.values())
        for name, score in scores.items():
            earlier = fleet.reputations.get(name, Reputation()).score(CONFIG)
            assert score <= earlier + 1 / (1 + CONFIG.ramp) + CONFIG.forgive / CONFIG.limit + 1e-9
        assert sum(s.quarantined for s in assessment.reputations.values()) < len(members) / 2
        assert sum(w > 0 for w in assessment.weights.values()) >= min(len(rows), 1)
        fleet.reputations = dict(assessment.reputations)


@example_settings(max_examples=examples(30), deadline=None)
@given(ROUNDS)
def test_restart_changes_nothing(plays: list[list[str]]) -> None:
    fleet, again = Fleet(honest=7), Fleet(honest=7)
    for habits in plays:
        rows = played(habits, fleet.round)
        if not rows:
            continue
        stored = msgspec.json.encode(again.reputations)
        again.reputations = msgspec.json.decode(stored, type=dict[str, Reputation])
        assert fleet.step(rows) == again.step(rows)
