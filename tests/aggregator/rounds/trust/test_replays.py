# SPDX-License-Identifier: Apache-2.0
"""Updates that only repeat what the last release changed weigh nothing, and nobody is blamed for them."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_aggregator.rounds.trust import assessment as trust
from fedge_aggregator.rounds.trust import replays
from fedge_aggregator.rounds.trust.reputation import TrustConfig
from fedge_models.system import settings
from hypothesis import given
from hypothesis import strategies as st
from support.trust_fleet import D, Fleet, Rows, judge


def alike(rows: Rows, moved: np.ndarray) -> np.ndarray:
    """Cosines of rows with a movement, as they are written down."""
    return np.array(
        [r @ moved / max(np.linalg.norm(r.astype(float)) * np.linalg.norm(moved), 1e-12) for r in rows.values()]
    )


@pytest.mark.parametrize("action", ["quarantine", "weigh", "watch"])
def test_replay_weighs_nothing_that_round_and_is_not_blamed(action: str) -> None:
    config = settings.convert({"action": action}, TrustConfig, "", "trust")
    fleet = Fleet(honest=7, hostile=3, config=config, lean=1.5, lasting=1.0)
    before = fleet.rows()
    moved = np.mean([before[n] for n in fleet.names[:7]], axis=0)
    fleet.step(before)
    noise = np.linalg.norm(moved) * 0.3 / D**0.5
    rows = fleet.rows() | {n: np.rint(moved + fleet.rng.normal(0, noise, D)).astype(np.int8) for n in fleet.bad}
    fleet.round += 1
    without = judge(fleet, rows, fleet.names)
    assessment = judge(fleet, rows, fleet.names, similarity=alike(rows, moved))
    assert min(without.weights.values()) > 0
    silenced = {n for n, w in assessment.weights.items() if w == 0}
    assert silenced == (set() if action == "watch" else set(fleet.bad))
    for node in fleet.names:
        assert assessment.reputations[node].suspicion == 0
        is_named = any(
            "only repeated the change of the release before" in x for x in explained(assessment, node, config)
        )
        assert is_named == (node in fleet.bad)


def explained(assessment: trust.Assessment, node: str, config: TrustConfig) -> list[str]:
    return trust.explain(node, assessment.reputations[node], config, 0.0)


def test_sites_that_agree_with_each_other_and_with_the_last_release_are_no_replays() -> None:
    fleet = Fleet(honest=12, lean=0.0)
    fleet.step()
    moved = np.mean(list(fleet.rows().values()), axis=0)
    for _ in range(10):
        rows = fleet.rows()
        similarity = alike(rows, moved)
        assert np.median(similarity) > 0.75
        assert min(judge(fleet, rows, fleet.names, similarity=similarity).weights.values()) > 0


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.sampled_from([0.0, 0.3, 1.0])), min_size=1, max_size=9),
    st.integers(-1, 9),
    st.randoms(use_true_random=False),
)
def test_replays_are_a_minority_leave_the_rule_enough_and_do_not_depend_on_order(
    sites: list[tuple[float, float]], most: int, random: object
) -> None:
    given_ = {f"n{i}": site for i, site in enumerate(sites)}
    votes = {n: vote for n, (_, vote) in given_.items()}
    found = replays.find(list(given_), np.array([c for c, _ in sites]), votes, most)
    shuffled = list(given_)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert replays.find(shuffled, np.array([given_[n][0] for n in shuffled]), votes, most) == found
    assert len(found) <= max(0, most) and (not found or 2 * len(found) < sum(map(bool, votes.values())))
    left = [given_[n][0] for n in given_ if votes[n] and n not in found]
    assert all(votes[n] and given_[n][0] >= np.median([c for c, v in sites if v]) for n in found)
    assert (
        not found
        or max(left) <= min(given_[n][0] for n in found)
        or len(found) in {most, (len(left) + len(found) - 1) // 2}
    )


def test_direction_uses_the_grid_and_keeps_the_cosines() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-127, 128, (4, 3000)).astype(np.int8)
    rows[3] = 0
    grid = rng.uniform(1e-3, 1e-1, 3000).astype(np.float32)
    moved = (1e-6 * grid * (rows[0] + 30 * rng.normal(size=3000))).astype(np.float32)
    row = replays.direction(moved, grid)
    assert np.abs(row).max() == pytest.approx(127)
    wide = np.vstack([rows, row]).astype(np.float64)
    found = replays.cosines(wide @ wide.T)
    np.testing.assert_allclose(found, alike(dict(enumerate(rows.astype(float))), moved / grid), atol=1e-6)  # type: ignore[arg-type]
    assert found[3] == 0 and found[0] > 0.8
    assert not replays.direction(0 * moved, grid).any()
