# SPDX-License-Identifier: Apache-2.0
"""DP-FedAvg at the aggregator: what one site can change, what a round costs, and when there are no more."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fedge_aggregator.rounds.central_privacy import (
    CountedRounds,
    Privacy,
    Spent,
    aggregate,
    check,
    coins,
    epsilon,
    figures,
    rounds_left,
    spend,
    status,
    why_stopped,
)
from fedge_aggregator.rounds.central_privacy import spread as public_spread
from fedge_aggregator.rounds.engine.update_rows import MemoryRows, RowsWriter
from fedge_aggregator.rounds.rules.registry import RULES
from fedge_models.errors import BudgetError, ConfigError
from fedge_models.messages.quantize import LIMIT, dequantize
from fedge_models.privacy.discrete_gaussian import Bits
from hypothesis import given, settings
from hypothesis import strategies as st
from support.counterparts import counterpart
from support.examples import examples


def private(**fields: float) -> Privacy:
    return Privacy(**{"clip": 1.0, "noise_multiplier": 1.0, "epsilon": 8.0, "delta": 1e-5, **fields})


def seeded(seed: int = 3) -> Bits:
    rng = np.random.default_rng(seed)
    return lambda count: rng.integers(0, 2**64, count, dtype=np.uint64)


def rows(n: int, d: int, seed: int = 0) -> list[Any]:
    return list(np.random.default_rng(seed).integers(-LIMIT, LIMIT + 1, (n, d)).astype(np.int8))


# one site


@settings(max_examples=examples(30), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0.01, 10), st.floats(0.01, 10))
def test_one_more_site_moves_the_sum_by_no_more_than_the_clip_norm(
    seed: int, n: int, clip: float, multiplier: float
) -> None:
    """With the same noise, which is drawn before any update is looked at: what one site adds is what it has to hide."""
    made = rows(n + 1, 50, seed)
    steps = np.random.default_rng(seed).uniform(0.001, 1, 50).astype(np.float32)
    privacy = private(clip=clip, noise_multiplier=multiplier)
    sums = []
    for some in (made[:n], made):
        mean = aggregate(MemoryRows(some), steps, 7, privacy, bits=after_coins(len(some)))
        sums.append(mean.astype(np.float64) * steps * 7)
    apart = float(np.linalg.norm(sums[1] - sums[0]))
    assert apart <= clip * (1 + 1e-5) + 1e-6 * float(np.abs(sums[0]).max()) * math.sqrt(50)
    length = float(np.linalg.norm(dequantize(made[n], steps)))
    assert apart >= 0.99 * min(clip, length) - 1e-5 * float(np.abs(sums[0]).max()) * math.sqrt(50)


def after_coins(n: int) -> Bits:
    """Words that begin with one for each of n coins: what follows is then the same for every n."""
    first, then = seeded(1), seeded(2)
    asked = [0]

    def bits(count: int) -> Any:
        asked[0] += 1
        return first(count) if asked[0] == 1 else then(count)

    assert len(bits(n)) == n
    asked[0] = 0
    return bits


def test_mean_is_that_of_the_clipped_rows_with_the_noise_that_was_asked_for() -> None:
    privacy, made, d = private(clip=2.0, noise_multiplier=0.5), rows(5, 100_000), 100_000
    steps = np.full(d, 0.001, np.float32)
    found = (
        aggregate(MemoryRows(made), steps, 10, privacy, bits=seeded()) * steps * 10
    )  # half of the members came: divided by all
    values = [dequantize(row, steps).astype(np.float64) for row in made]
    wanted = sum(v * min(1.0, 2.0 / float(np.linalg.norm(v))) for v in values)
    noise = found - wanted
    assert float(noise.std()) == pytest.approx(1.0, rel=0.01) and abs(float(noise.mean())) < 0.02
    assert abs(float(np.dot(noise, wanted))) < 5 * float(np.linalg.norm(wanted))


def test_blocks_change_nothing_but_the_noise(tmp_path: Path) -> None:
    """Rows from a file, block by block: each clipped as a whole, and every block has noise of its own."""
    d, privacy = 3000, private(clip=2.0, noise_multiplier=2**-10)
    steps, made = np.full(d, 0.001, np.float32), rows(5, d)
    with RowsWriter(tmp_path / "rows", d, 8192) as writer:
        for row in made:
            writer.append(row)
        blocks = writer.rows()
        assert blocks.width < d / 3
        found = aggregate(blocks, steps, 5, privacy, bits=seeded(1))
    whole = aggregate(MemoryRows(made), steps, 5, privacy, bits=seeded(2))
    np.testing.assert_allclose(found * steps, whole * steps, atol=6 * 2 * 2.0**-10 * 2 / 5)
    assert float((found - whole).std()) * 0.001 * 5 == pytest.approx(2 * 2**0.5 / 1024, rel=0.1)


def test_when_nobody_counts_there_is_noise_alone() -> None:
    steps = np.full(70_000, 0.01, np.float32)
    privacy, zeros = private(sampling_rate=1e-9), MemoryRows(rows(3, 70_000))
    found = aggregate(zeros, steps, 10**9, privacy, bits=seeded()) * steps
    assert float(found.std()) == pytest.approx(1.0, rel=0.02)


def test_what_stays_local_is_neither_taken_nor_noised() -> None:
    steps, local = np.full(50, 0.01, np.float32), np.arange(50) < 20
    made = rows(3, 50)
    found = aggregate(MemoryRows(made), steps, 3, private(), local, seeded())
    assert (found[local] == 0).all() and (found[~local] != 0).all()
    empty = [np.where(local, 0, row).astype(np.int8) for row in made]
    np.testing.assert_array_equal(found, aggregate(MemoryRows(empty), steps, 3, private(), local, seeded()))


def test_coins_come_up_as_often_as_they_should() -> None:
    for rate in (0.01, 0.5, 0.9):
        found = float(coins(100_000, rate, seeded()).mean())
        assert abs(found - rate) < 4 * math.sqrt(rate * (1 - rate) / 100_000)
    assert coins(1000, 1.0).all()


def test_a_site_that_was_not_drawn_leaves_no_trace() -> None:
    privacy, steps = private(sampling_rate=0.5), np.full(50, 0.01, np.float32)
    made = rows(8, 50)
    drawn = coins(8, 0.5, after_coins(8))
    assert 0 < drawn.sum() < 8
    others = [row if heads else np.zeros_like(row) for row, heads in zip(made, drawn, strict=True)]
    one, two = (aggregate(MemoryRows(some), steps, 8, privacy, bits=after_coins(8)) for some in (made, others))
    np.testing.assert_array_equal(one, two)


def test_grid_is_made_of_public_numbers_and_spans_a_clipped_update() -> None:
    sizes = np.array([300, 100])
    made = public_spread(private(clip=2.0), sizes)
    np.testing.assert_allclose(made, [0.8, 0.8])  # 8 times 2 / sqrt(400)


# the budget


def test_rounds_are_counted_until_the_budget_is_spent() -> None:
    privacy, spent, count = private(epsilon=20.0), Spent(), 0
    can = rounds_left(spent, privacy)
    with pytest.raises(BudgetError, match=r"privacy budget spent: 19\.?\d* of 20 \(delta 1e-05\), another round .* 2"):
        while True:
            spent = spend(spent, privacy, "pumps")
            count += 1
            assert rounds_left(spent, privacy) == can - count
    assert count == can == 10 and spent == Spent((CountedRounds(1.0, 1.0, 10),))
    assert epsilon(spent, 1e-5) <= 20
    stored = msgspec.json.decode(msgspec.json.encode(spent), type=Spent)  # as it is stored
    assert stored == spent and why_stopped(stored, privacy, "pumps") is not None
    richer = msgspec.structs.replace(privacy, epsilon=40.0)
    assert why_stopped(stored, richer, "pumps") is None and rounds_left(stored, richer) > 0
    shown = status(stored, privacy, "pumps")
    assert (shown["rounds"], shown["left"], shown["budget"]) == (10, 0, 20.0) and "averages no more" in shown["stopped"]
    assert figures(stored, privacy) == {"epsilon": pytest.approx(epsilon(stored, 1e-5), abs=1e-4), "delta": 1e-5}


def test_rounds_under_other_settings_add_up() -> None:
    spent = Spent()
    for privacy in [private(noise_multiplier=4.0)] * 3 + [private(noise_multiplier=4.0, sampling_rate=0.1)] * 2:
        spent = spend(spent, privacy, "f")
    assert spent == Spent((CountedRounds(4.0, 1.0, 3), CountedRounds(4.0, 0.1, 2)))
    assert (
        epsilon(Spent(spent.rounds[:1]), 1e-5)
        < epsilon(spent, 1e-5)
        < epsilon(Spent((CountedRounds(4.0, 1.0, 4),)), 1e-5)
    )


@pytest.mark.parametrize("history", [[(1.0, 0.05, 400)], [(2.0, 1.0, 10), (0.8, 0.02, 300), (4.0, 0.5, 60)]])
def test_a_history_costs_what_dp_accounting_says(history: list[tuple[float, float, int]]) -> None:
    peer, rdp = counterpart("dp_accounting"), counterpart("dp_accounting.rdp")
    logging.getLogger("absl").setLevel(logging.ERROR)
    accountant = rdp.RdpAccountant()
    for multiplier, rate, count in history:
        accountant.compose(peer.PoissonSampledDpEvent(rate, peer.GaussianDpEvent(multiplier)), count)
    found = epsilon(Spent(tuple(CountedRounds(*entry) for entry in history)), 1e-6)
    theirs = accountant.get_epsilon(1e-6)  # the least over fewer orders: a little above the infimum
    assert 0.99 * theirs < found < 1.002 * theirs


# configuration


@pytest.mark.parametrize("name", sorted(set(RULES) - {"fedavg"}))
def test_rules_that_look_at_the_updates_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"a\.toml: key 'f\.privacy': needs rule = .*fedavg.*'{name}'"):
        check(private(), {"name": name}, None, "a.toml: key 'f.privacy'")


def test_mixing_and_a_budget_of_nothing_are_refused() -> None:
    check(private(), {"name": "fedavg"}, None, "here")
    with pytest.raises(ConfigError, match="several rows"):
        check(private(), {"name": "fedavg"}, {"name": "bucketing"}, "here")
    with pytest.raises(ConfigError, match=r"costs epsilon 4\.73, the budget is 2 at delta 1e-05: choose a larger"):
        check(private(epsilon=2.0), {"name": "fedavg"}, None, "here")
    assert rounds_left(Spent(), private(epsilon=2.0, sampling_rate=0.01)) > 0  # sampling makes it affordable
