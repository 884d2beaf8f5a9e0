# SPDX-License-Identifier: Apache-2.0
"""Tensors that stay at the sites in a round: what rules and trust see of them, and what a new site starts from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.rounds.average import Averaging, DueRound, RoundResult, RoundState, average
from fedge_aggregator.rounds.central_privacy import Privacy
from fedge_aggregator.rounds.contribution import Contribution
from fedge_aggregator.rounds.engine.update_rows import MemoryRows, RowsWriter
from fedge_aggregator.rounds.rules.registry import RULES, build_pipeline
from fedge_aggregator.rounds.server_optimizers import OPTIMIZERS
from fedge_aggregator.rounds.start_value import AveragedRows, Local, follow, grid_spreads, local_of, moved
from fedge_aggregator.rounds.trust.reputation import TrustConfig
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.messages.quantize import LIMIT
from fedge_models.training.start_value import LEAST_SPREAD
from hypothesis import given
from hypothesis import strategies as st
from support import rule_references as references

SIZES = np.array([300, 40, 60])
NAMES = ("body", "head", "tail")
CARD = Card("classify", (Channel("a"),), WindowSpec(1, 4, 2), ("mean",), ("x", "y"), local="head", local_start="shared")
OFFER, NO_OFFER = (np.array([0.1, wide, 0.1], np.float32) for wide in (0.1, LEAST_SPREAD))
D = int(SIZES.sum())
RNG = np.random.default_rng(0)


def local() -> Local:
    found = local_of(CARD, NAMES, SIZES)
    assert found is not None
    return found


def some(n: int, seed: int = 0) -> np.ndarray:
    """Updates (n, D) that agree in what is averaged, of sites whose own tensors are opposite."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 30, D) + rng.normal(0, 10, (n, D))
    rows[:, local().mask] = 100.0 * np.where(np.arange(n) % 2, 1, -1)[:, None]
    return np.clip(np.rint(rows), -LIMIT, LIMIT).astype(np.int8)


def how(
    rule: dict[str, Any] | None = None, optimizer: str = "sgd", mixing: dict[str, Any] | None = None, **keys: Any
) -> Averaging:
    pipeline = build_pipeline(rule or {"name": "fedavg"}, mixing, "test", "")
    return Averaging(
        name="test",
        pipeline=pipeline,
        optimizer=OPTIMIZERS[optimizer](),
        trust=TrustConfig(),
        privacy=keys.pop("privacy", None),
        staleness_exponent=0.5,
        **keys,
    )


def due(rows: np.ndarray, staleness: int = 0, spread: np.ndarray = OFFER, release: int = 1) -> DueRound:
    names = [f"s{i:02d}" for i in range(len(rows))]
    updates = [Contribution(n, spread, 100, staleness, {"base_loss": 1.0}) for n in names]
    grid = np.full(D, 0.01, np.float32)
    return DueRound("f", release, np.zeros(D, np.float32), grid, updates, MemoryRows(list(rows)), names, 0.0, 7)


def start_of(made: RoundResult) -> np.ndarray:
    return made.step[local().mask]


TABLES = [{"name": n, **({"byzantine": 1} if hasattr(RULES[n], "byzantine") else {})} for n in sorted(RULES)]


@pytest.mark.parametrize("mixing", [None, *references.MIXINGS], ids=lambda t: t["name"] if t else "alone")
@pytest.mark.parametrize("rule", TABLES, ids=lambda t: str(t["name"]))
def test_what_sites_say_of_their_own_tensors_changes_no_bit_of_the_rest(
    rule: dict[str, Any], mixing: dict[str, Any] | None
) -> None:
    rows, mask = some(13), local().mask
    silent = rows.copy()
    silent[:, mask] = 0
    loud = rows.copy()
    loud[0, mask], loud[1:3, mask] = LIMIT, RNG.integers(-LIMIT, LIMIT, (2, 40))
    today = how(rule, mixing=mixing)
    wanted = average(today, due(silent), RoundState())
    for given_rows in (silent, rows, loud):
        for shared in (True, False):
            made = average(
                how(rule, mixing=mixing, local=local()._replace(shared=shared)), due(given_rows), RoundState()
            )
            assert (made.step[~mask] == wanted.step[~mask]).all() and made.shares == wanted.shares
            assert made.state.reputations == wanted.state.reputations and made.changes == wanted.changes


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_start_value_has_no_momentum_and_leaves_none(optimizer: str) -> None:
    config, state = how(optimizer=optimizer, local=local()), RoundState()
    for release in (1, 2, 3):
        rows = some(5, release)
        made = average(config, due(rows, release=release), state)
        assert (
            (start_of(made) == np.median(rows[:, local().mask], axis=0)).all()
            and made.start is not None
            and made.start.sites == 5
        )
        state = made.state
    assert state.last_step is not None and (state.last_step[local().mask] == 0).all()
    still = average(config, due(some(5), spread=NO_OFFER), state)
    assert (start_of(still) == 0).all() and still.start is not None and still.start[1:] == (0, 3)


def test_honest_sites_with_opposite_tensors_of_their_own_are_not_quarantined() -> None:
    state = RoundState()
    for release in range(1, 16):
        made = average(how(local=local()), due(some(8, release), release=release), state)
        state = made.state
        assert not made.changes and min(made.shares.values()) > 0.05, (release, made.changes)


HONEST = st.lists(st.integers(-LIMIT, LIMIT), min_size=2, max_size=12)


@given(HONEST, st.lists(st.integers(-LIMIT, LIMIT), min_size=1, max_size=11), st.randoms(use_true_random=False))
def test_hostile_sites_with_extreme_tensors_move_the_start_only_within_the_honest_range(
    honest: list[int], hostile: list[int], order: Any
) -> None:
    hostile = hostile[: len(honest) - 1]  # fewer than half
    said = [*honest, *hostile]
    order.shuffle(said)
    rows = np.zeros((len(said), D), np.int8)
    rows[:, local().mask] = np.array(said)[:, None]
    made = follow(local(), MemoryRows(list(rows)), [OFFER] * len(said), [True] * len(said), len(hostile))
    assert made.sites == len(said)
    assert (min(honest) <= made.step).all() and (made.step <= max(honest)).all()


def few_offers(hostile: int, honest: int, of: int) -> DueRound:
    """A round in which hostile sites offer extremes, few honest ones offer theirs, and the rest lacks a class."""
    rows = some(of)
    rows[:, local().mask] = 0
    rows[:hostile, local().mask] = LIMIT
    rows[hostile : hostile + honest, local().mask] = np.arange(honest)[:, None]
    round_ = due(rows)
    silent = [u._replace(spread=NO_OFFER) for u in round_.updates[hostile + honest :]]
    return dataclasses.replace(round_, updates=[*round_.updates[: hostile + honest], *silent])


@pytest.mark.parametrize("rule", TABLES, ids=lambda t: str(t["name"]))
def test_two_hostile_of_twelve_do_not_choose_the_start_value_where_most_honest_sites_offer_nothing(
    rule: dict[str, Any],
) -> None:
    rule = rule | ({"byzantine": 0.3} if "byzantine" in rule else {})  # three of twelve, as where nothing is stated
    taken = average(how(rule, local=local()), few_offers(2, 1, 12), RoundState())
    assert (start_of(taken) == 0).all() and taken.start is not None and taken.start[1:] == (3, 7)
    assert average(how(rule, local=local()), few_offers(2, 4, 12), RoundState()).start[1:] == (6, 7)  # type: ignore[index]
    made = average(how(rule, local=local()), few_offers(2, 5, 12), RoundState())
    assert made.start is not None and made.start.sites == 7 and (start_of(made) == 3).all()  # an honest site's


@pytest.mark.parametrize(
    ("rule", "mixing", "expected"),
    [
        ({"name": "fedavg"}, None, [0, 1, 1, 2, 3]),
        ({"name": "median"}, None, [0, 1, 1, 2, 3]),
        ({"name": "trimmed_mean", "byzantine": 2}, None, [2, 2, 2, 2, 2]),
        ({"name": "trimmed_mean", "byzantine": 0.3}, None, [0, 1, 1, 2, 3]),  # also of so few that it trims none
        ({"name": "median"}, {"name": "nearest_neighbour_mixing", "byzantine": 0.4}, [1, 1, 2, 2, 4]),
    ],
)
def test_hostile_updates_are_those_that_the_configuration_states(
    rule: dict[str, Any], mixing: dict[str, Any] | None, expected: list[int]
) -> None:
    pipeline = build_pipeline(rule, mixing, "test", "")
    assert [pipeline.hostile(n) for n in (3, 4, 6, 7, 12)] == expected


def test_start_value_is_of_three_sites_or_more_that_offer_on_the_newest_release_and_are_trusted() -> None:
    rows, spreads = MemoryRows(list(some(4))), [OFFER, OFFER, OFFER, NO_OFFER]
    assert follow(local(), rows, spreads, [True] * 4, 1).sites == 3
    for two in ([True, True, False, True], [True, False, True, False]):
        found = follow(local(), rows, spreads, two, 0)
        assert found.sites == 0 and (found.step == 0).all()
    assert follow(local()._replace(shared=False), rows, [OFFER] * 4, [True] * 4, 1).sites == 0
    stale = average(how(local=local()), due(some(5), staleness=1), RoundState())
    assert (
        stale.start is not None and stale.start.sites == 0 and (start_of(stale) == 0).all() and (stale.step != 0).any()
    )
    noisy = Privacy(clip=1.0, noise_multiplier=2.0, epsilon=50.0, delta=1e-3)
    secret = average(how(local=local(), privacy=noisy), due(some(5)), RoundState())
    assert secret.start is not None and secret.start.sites == 0 and (start_of(secret) == 0).all()


def test_columns_that_rules_do_not_see_are_the_same_in_a_file_and_in_parts(tmp_path: Path) -> None:
    rows, mask = some(5), local().mask
    with RowsWriter(tmp_path / "rows", D, 5) as writer:
        for row in rows:
            writer.append(row)
        for whole in (AveragedRows(writer.rows(), mask), AveragedRows(MemoryRows(list(rows)), mask)):
            seen = whole.block(0, D)
            assert (seen[:, mask] == 0).all() and (seen[:, ~mask] == rows[:, ~mask]).all()
            part = whole.narrow(256, D) if whole.width == 256 else whole.narrow(0, D)
            assert (part.block(0, part.d) == seen[:, D - part.d :]).all()
            assert (whole.rows.block(0, D) == rows).all()  # the median reads what came


CODES = st.integers(-LIMIT, LIMIT)


@given(CODES, st.floats(-1, 1, width=32), st.floats(-1, 1, width=32), st.sampled_from([0.001, 0.01, 0.02]))
def test_offer_on_an_older_release_says_the_same_of_the_site_from_the_newest(
    code: int, base: float, newest: float, step: float
) -> None:
    codes, (old, new, before, now) = np.array([code], np.int8), np.array([[0.01], [step], [base], [newest]], np.float32)
    made = moved(codes, old, before, now, new)
    own, end = base + code * old[0], LIMIT * new[0]
    if abs(code) == LIMIT and (own - newest) * code < 0:  # the site's are somewhere beyond `own`
        own = newest
    nearest = newest + np.clip(own - newest, -end, end)
    assert abs(newest + float(made[0]) * new[0] - nearest) <= new[0] / 2 + 1e-5


def test_sites_without_an_offer_do_not_narrow_the_grid_of_those_with_one() -> None:
    steps = np.array([0.01, 0.02, 0.03], np.float32)
    seen = grid_spreads(local(), [OFFER, NO_OFFER], steps)
    assert (seen[0] == OFFER).all() and seen[1].tolist() == pytest.approx([0.1, 0.02 * LIMIT, 0.1])
    for other in (None, local()._replace(shared=False)):
        assert all((a == b).all() for a, b in zip(grid_spreads(other, [NO_OFFER], steps), [NO_OFFER], strict=True))
    assert local_of(Card("anomaly", CARD.channels, CARD.window), NAMES, SIZES) is None
