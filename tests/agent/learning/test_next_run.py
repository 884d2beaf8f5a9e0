# SPDX-License-Identifier: Apache-2.0
"""A limit leaves room for the next run: by how runs differ, or by what its standardisation fits too well."""

from __future__ import annotations

import cbor2
import msgspec
import numpy as np
import pytest
from fedge_agent.learning import next_run, stored_limits
from fedge_agent.learning.anchor import Anchor, note
from fedge_agent.learning.limits import Limit, Scores, _for_next_run, threshold
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from numpy.typing import NDArray

Q = 0.995
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1, 4, 4), ("mean", "std"), threshold_quantile=Q)


def exceeded(runs: int, spread: float) -> tuple[float, float]:
    """By how much more windows of a next run than promised exceed the prediction limit, and the limit of all windows
    together; the mean of 400 machines."""
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        scores = [np.exp(rng.normal(rng.normal(0, spread), 0.3, 100)) for _ in range(runs + 1)]
        known, new = scores[:-1], scores[-1]
        together = float(np.quantile(np.concatenate(known), Q))
        limits = next_run.prediction(known, 100.0 * runs, Q), together
        found.append([(new > limit).mean() / (1 - Q) for limit in limits])
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_the_next_run_exceeds_a_prediction_limit_as_rarely_as_promised(runs: int) -> None:
    predicted, together = exceeded(runs, spread=0.5)
    assert 0.2 < predicted < 3.5 and together > 3 * predicted


def test_runs_that_do_not_differ_raise_it_little() -> None:
    rng = np.random.default_rng(0)
    scores = [np.exp(rng.normal(0, 0.3, 400)) for _ in range(5)]
    together = float(np.quantile(np.concatenate(scores), Q))
    assert next_run.prediction(scores, 2000.0, Q) == pytest.approx(together, rel=0.1)


def blend() -> Blend:
    graph = TrainableGraph.load(zoo.autoencoder(CARD, 2, (1,)).SerializeToString())
    return Blend(graph, graph.params)


def limit(x: NDArray[np.float32], units: NDArray[np.int64], share: float = 1.0) -> Limit:
    data = Data(x, np.zeros(len(x)), np.full(len(x), "m"), units, np.full(len(x), share))
    return threshold(blend(), data.part(np.zeros(len(x), np.bool_)), data)


def test_a_limit_knows_how_many_runs_it_is_from_and_takes_no_short_one_for_one() -> None:
    x = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    assert limit(x, np.repeat([4, 7, 9], 100)).runs == 3
    assert limit(x, np.repeat([4, 7, 9], [150, 149, 1])).runs == 2
    assert limit(x, np.full(300, 4)).runs == 1
    assert limit(x, np.zeros(0, np.int64)) == limit(x, np.zeros(0, np.int64))._replace(runs=0, lifted=1.0)


def test_a_few_windows_of_a_machine_that_warms_up_leave_room_for_what_follows() -> None:
    """The standardisation was fitted to them: what comes after is further off than any of them seems to be."""
    rng, n = np.random.default_rng(0), 40
    drifting = np.stack([np.linspace(-1.7, 1.7, n), rng.normal(size=n)], axis=1).astype(np.float32)
    still = rng.normal(size=(n, 2)).astype(np.float32)
    assert limit(drifting, np.zeros(n, np.int64), 0.2).lifted > 1.25
    assert limit(still, np.zeros(n, np.int64), 0.2).lifted < limit(drifting, np.zeros(n, np.int64), 0.2).lifted
    enough = limit(np.repeat(drifting, 10, axis=0), np.zeros(10 * n, np.int64))
    assert enough.lifted == 1 and enough.independent == 400


def test_no_spread_of_runs_lifts_a_limit_above_four_times_what_the_oldest_gives() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([level * rng.normal(size=(100, 2)) for level in (1, 1, 4, 0.3)]).astype(np.float32)
    found, first = limit(x, np.repeat([0, 1, 2, 3], 100)), limit(x[:100], np.zeros(100, np.int64))
    pooled = limit(x, np.zeros(400, np.int64))
    assert found.score <= max(pooled.score, next_run.MOST * first.score) * 1.0001


@pytest.mark.parametrize("q", [0.5, 0.99, 0.999, 0.9999, 0.99999, 0.9999999])
@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e9, 1e30])
def test_no_levels_of_runs_are_too_far_apart_for_a_limit(q: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    card = msgspec.structs.replace(CARD, threshold_quantile=q, scaling="file")
    graph = TrainableGraph.load(zoo.autoencoder(card, 2, (1,)).SerializeToString())
    for factors in ((0, 1), (1, 0), (0, 1, 1), (1, 1 / 150, 1), (1 / 50, 1, 1), (0, 0, 1), (0, 0, 0), (1e-6, 1, 1e6)):
        scores = np.concatenate([f * scale * np.exp(rng.normal(0, 0.3, (120, 1))) for f in factors])
        units, n = np.repeat(np.arange(len(factors)), 120), len(scores)
        data = Data(np.zeros((n, 2), np.float32), np.zeros(n), units=units, shares=np.ones(n))
        nobody, made = data.part(np.zeros(n, np.bool_)), Scores(scores[:0], scores, (0.0, float(n)))
        rows = np.zeros(0, np.bool_), np.ones(n, np.bool_)
        counted = made.limit(card, 50)
        found = _for_next_run(counted, Blend(graph, graph.params), made, (nobody, data), rows)
        assert np.isfinite(found.score) and counted.score <= found.score and found.lifted >= 1
        together = next_run.oldest([next_run.Run(scores[:, 0], 120.0)]).limit(q)
        assert np.isfinite(together) and np.isfinite(next_run.prediction([*np.split(scores[:, 0], len(factors))], 1, q))


def test_an_oldest_run_of_a_few_windows_does_not_say_how_far_a_limit_may_be_raised() -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(50):
        long, short = np.exp(rng.normal(0, 0.3, 400)), np.exp(rng.normal(0, 0.3, 24))
        of_both = next_run.oldest([next_run.Run(short, 2.0), next_run.Run(long, 400.0)])
        found.append((of_both.limit(0.9999), next_run.Run(short, 2.0).limit(0.9999)))
    good, bad = np.median(found, axis=0)
    assert good < 4 < 6 < bad
    assert next_run.oldest([next_run.Run(long, 10.0), next_run.Run(9 * long, 400.0)]).apart == 10


def test_pictures_and_files_that_scale_their_input_are_not_scaled_again() -> None:
    card = Card("anomaly", (Channel("a"),), WindowSpec(1, 4, 4), ("mean", "std"), scaling="file")
    x = np.linspace(-1.7, 1.7, 80).reshape(40, 2).astype(np.float32)
    data = Data(x, np.zeros(40), units=np.zeros(40, np.int64))
    assert next_run.unseen(card, data, np.ones(40, np.bool_), x[:0], lambda v: np.square(v).mean(axis=1)) == 1


def test_a_stored_limit_of_an_earlier_version_is_read() -> None:
    made = cbor2.dumps([b"x", {"m": [2.5, b"", 1.0, 300.0]}])
    assert stored_limits.decode(made, b"x") == {"m": Limit(2.5, None, False, 1.0, 300.0)}
    now = {"m": Limit(2.5, None, False, 1.0, 300.0, 2, 1.5)}
    assert stored_limits.decode(stored_limits.encode(b"x", now), b"x") == now
    anchored = {"m": now["m"]._replace(anchor=Anchor(2.0, 5, (6, 7), (0.5, 0.25)))}
    stored = stored_limits.encode(b"x", anchored)
    assert stored_limits.decode(stored, b"x") == anchored
    assert stored_limits.anchors(stored) == {"m": anchored["m"].anchor}
    for nothing in (None, b"", b"x", made, stored_limits.encode(b"x", now)):
        assert stored_limits.anchors(nothing) == {}


def test_what_the_oldest_windows_gave_is_known_on_the_scale_of_another_model() -> None:
    times, scores = np.arange(1000), np.exp(np.random.default_rng(0).normal(0, 0.5, 1000))
    known = note(6.0, 0, times, scores)
    assert len(known.times) == 64
    left = times >= 700  # the others are deleted, and as many came
    others = np.append(times[left], np.arange(1000, 2000)), np.append(3 * scores[left], np.full(1000, 99.0))
    assert known.among(*others) == pytest.approx(18.0)
    assert known.among(times[-20:], scores[-20:]) is None  # too few of them are noted
    assert known.among(times, np.zeros(1000)) is not None
