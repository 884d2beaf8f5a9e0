# SPDX-License-Identifier: Apache-2.0
"""How much a site's own model counts: half while nothing is known, all or nothing where data speak clearly."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import Training
from fedge_agent.durable.releases import ChainStore, Learnt
from fedge_agent.learning.champion import (
    MOST_FALSE,
    SHARES,
    believed,
    choose,
    clear,
    false_alarms,
    planted,
    share_of_own,
)
from fedge_agent.learning.limits import threshold
from fedge_agent.learning.mixture import outputs
from fedge_agent.learning.own_model import OwnModel, improved
from fedge_agent.learning.training import Data
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from numpy.typing import NDArray

CHANNELS, WINDOW = (Channel("a"), Channel("b")), WindowSpec(1, 1, 1)
CLASSIFY = Card("classify", CHANNELS, WINDOW, labels=("normal", "worn"))
REGRESS = Card("regress", CHANNELS, WINDOW, targets=(Target("life", unit="h", scale=1.0),))
LABELS = Card("multilabel", CHANNELS, WINDOW, labels=("worn", "hot"))
ANOMALY = Card("anomaly", tuple(Channel(f"c{i}") for i in range(6)), WINDOW)
Floats = NDArray[np.float32]


def _logits(y: NDArray[np.int64], sure: float) -> Floats:
    """Logits of two classes that are right, by so much."""
    side = np.where(y > 0, sure, -sure)
    found: Floats = (np.stack([-side, side], axis=1) / 2).astype(np.float32)
    return found


def test_without_evidence_both_count_alike() -> None:
    assert believed(np.zeros(len(SHARES)), 1000) == pytest.approx(0.5)
    assert believed(np.linspace(-1, 0, len(SHARES)), 0) == pytest.approx(0.5)
    y = np.arange(40) % 2
    assert share_of_own(CLASSIFY, (_logits(y, 2), _logits(y, 2), y)) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("card", "y", "good", "bad"),
    [
        (CLASSIFY, np.arange(200) % 2, _logits(np.arange(200) % 2, 6), _logits(np.arange(200) % 2, -6)),
        (
            LABELS,
            np.stack([np.arange(200) % 2, np.arange(200) // 2 % 2], axis=1).astype(np.float32),
            np.stack([np.arange(200) % 2, np.arange(200) // 2 % 2], axis=1).astype(np.float32) * 8 - 4,
            4 - np.stack([np.arange(200) % 2, np.arange(200) // 2 % 2], axis=1).astype(np.float32) * 8,
        ),
        (
            REGRESS,
            np.linspace(0, 9, 200)[:, None],
            np.linspace(0.01, 9.02, 200, dtype=np.float32)[:, None],
            np.linspace(5, 5, 200, dtype=np.float32)[:, None],
        ),
    ],
    ids=["classify", "multilabel", "regress"],
)
def test_clear_evidence_lets_one_decide_alone(card: Card, y: NDArray[np.float64], good: Floats, bad: Floats) -> None:
    assert clear(share_of_own(card, (good, bad, y))) == 1 and clear(share_of_own(card, (bad, good, y))) == 0


def test_of_two_errors_that_are_all_but_nothing_neither_decides_alone() -> None:
    """Errors of a thousandth and of three thousandths of a standard deviation: the ratio says nothing."""
    y, some = np.linspace(-2, 2, 200)[:, None], np.random.default_rng(0).normal(size=(2, 200, 1)).astype(np.float32)
    own, release = (y + some * [[[0.001]], [[0.003]]]).astype(np.float32)
    assert 0.45 < share_of_own(REGRESS, (own, release, y)) < 0.6
    assert clear(share_of_own(REGRESS, (own, release + 0.5, y))) == 1


def test_a_rare_class_counts_as_much_as_the_common_one() -> None:
    """The own model is right about each normal sample and never sees a fault; the release is right about 9 in 10."""
    rng = np.random.default_rng(0)
    y = (np.arange(1000) < 30).astype(np.int64)
    blind = _logits(np.zeros(1000, np.int64), 5)
    seeing = _logits(np.where(rng.random(1000) < 0.9, y, 1 - y), 3)
    assert share_of_own(CLASSIFY, (blind, seeing, y)) < 0.3


def test_a_guarded_file_loses_nothing_to_an_own_model_that_is_hardly_worse() -> None:
    """Among sites the mean of both would decide; a trained file that nobody hostile sent keeps deciding alone."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 60)
    file, worse, better = (_logits(np.where(rng.random(60) < p, y, 1 - y), 4) for p in (0.9, 0.6, 1.0))
    assert 0 < share_of_own(CLASSIFY, (worse, file, y)) < 0.5
    assert share_of_own(CLASSIFY, (worse, file, y), guarded=True) == 0
    assert share_of_own(CLASSIFY, (better, file, y), guarded=True) > 0.5
    few = slice(4)  # of which the file has none or one wrong
    assert share_of_own(CLASSIFY, (better[few], file[few], y[few])) > 0.3
    assert share_of_own(CLASSIFY, (better[few], file[few], y[few]), guarded=True) == 0


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _own(graph: TrainableGraph, folder: Path, epochs: int) -> OwnModel:
    training = Training(own_model=1.0, epochs=epochs, learning_rate=0.003)
    return OwnModel(graph, b"d" * 32, training, ChainStore(folder), graph.params.copy(), _rng())


def _normal(rows: int) -> Floats:
    """Six channels that follow two causes."""
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(rows, 2)) @ np.random.default_rng(9).normal(size=(2, 6))
    found: Floats = (causes + 0.1 * rng.normal(size=(rows, 6))).astype(np.float32)
    return found


def test_a_release_that_reproduces_faults_too_does_not_pass_for_the_better_one(tmp_path: Path) -> None:
    """A net without a bottleneck that was trained on everything that can be: none is blinder."""
    graph = TrainableGraph.load(zoo.autoencoder(ANOMALY, 6, (6,)).SerializeToString())
    x = _normal(600)
    data, held = Data(x[:400], np.zeros(400)), Data(x[400:], np.zeros(200))
    own, blind = _own(graph, tmp_path / "own", 20), _own(graph, tmp_path / "blind", 20)
    assert own.train(data, held, 1, lambda: None, Learnt(0)) and own.weights is not None
    everything = np.random.default_rng(1).normal(size=(4000, 6)).astype(np.float32) * 3
    assert blind.train(Data(everything, np.zeros(4000)), Data(x[:0], np.zeros(0)), 1, lambda: None, Learnt(0))
    assert blind.weights is not None
    assert choose(graph, blind.weights, own.weights, data, held).share > 0.6


def test_the_own_model_gets_its_part_of_the_epochs_and_survives_a_restart(tmp_path: Path) -> None:
    graph = TrainableGraph.load(zoo.autoencoder(ANOMALY, 6, (2,)).SerializeToString())
    x, digest, chain, start = _normal(300), b"d" * 32, ChainStore(tmp_path), graph.params.copy()
    data, held = Data(x[:200], np.zeros(200)), Data(x[200:], np.zeros(100))
    own = OwnModel(graph, digest, Training(own_model=0.4, epochs=1), chain, start, _rng())
    changed = [own.train(data, held, version, lambda: None, Learnt(0)) for version in range(1, 6)]
    assert changed == [False, False, True, False, True]
    again = OwnModel(graph, digest, Training(), chain, start, _rng())
    assert again.weights is not None and own.weights is not None and np.array_equal(again.weights, own.weights)
    assert OwnModel(graph, b"e" * 32, Training(), chain, start, _rng()).weights is None
    assert OwnModel(graph, digest, Training(own_model=0.0), chain, start, _rng()).weights is None


def test_a_training_that_makes_the_own_model_worse_is_undone(tmp_path: Path) -> None:
    graph = TrainableGraph.load(zoo.autoencoder(ANOMALY, 6, (2,)).SerializeToString())
    x = _normal(300)
    data, held = Data(x[:200], np.zeros(200)), Data(x[200:], np.zeros(100))
    own = _own(graph, tmp_path, 30)
    assert own.train(data, held, 1, lambda: None, Learnt(0))
    good = own.weights
    upside_down = Data(x[:200] * np.linspace(-3, 3, 6, dtype=np.float32), np.zeros(200))
    assert not own.train(upside_down, held, 2, lambda: None, Learnt(5, 9))
    assert own.weights is good and (own.trainings, own.undone) == (2, 1)
    # A restart is no reason to try it again; its age is still that of the samples that it learnt from.
    assert ChainStore(tmp_path).load_learnt(b"d" * 32) == Learnt(0, 9)


def test_data_without_a_finite_row_is_no_training(tmp_path: Path) -> None:
    graph = TrainableGraph.load(zoo.autoencoder(ANOMALY, 6, (2,)).SerializeToString())
    own = _own(graph, tmp_path, 1)
    assert not own.train(Data(np.full((9, 6), np.nan, np.float32), np.zeros(9)), Data(_normal(9), np.zeros(9)), 1,
                         lambda: None, Learnt(0))  # fmt: skip
    assert (own.trainings, own.undone, own.weights) == (0, 0, None)


def test_a_training_is_not_undone_because_faults_are_rarer_in_what_is_held_back() -> None:
    """A model that says `normal` of everything has a small loss there, which is no reason to stay so."""
    graph = TrainableGraph.load(zoo.mlp(CLASSIFY, 2, (4,)).SerializeToString())
    rng, start = np.random.default_rng(0), np.array(graph.params)
    bias = next(t for t in graph.layout if t.shape == (2,))
    start[bias.start : bias.stop] = [3, -3]

    def data(faults: int, normal: int) -> Data:
        y = np.repeat([1, 0], [faults, normal])
        x = rng.normal(0, 1, (len(y), 2)).astype(np.float32)
        x[:, 0] += y
        return Data(x, y)

    how = Training(epochs=8, learning_rate=0.01, batch=16)
    assert improved(graph, start, data(200, 200), data(8, 240), how, rng) is not None
    assert improved(graph, start, data(200, 200), data(0, 240), how, rng) is None


def test_planted_faults_move_a_few_values_and_are_the_same_each_time() -> None:
    x = _normal(50)
    found = planted(x, np.random.default_rng(0))
    assert np.array_equal(found, planted(x, np.random.default_rng(0)))
    moved = [min((row != other).sum() for other in x) for row in found]
    assert min(moved) >= 1 and max(moved) <= 3


def test_with_little_to_judge_by_both_decide_and_without_an_own_model_the_release_alone() -> None:
    graph = TrainableGraph.load(zoo.autoencoder(ANOMALY, 6, (2,)).SerializeToString())
    x = _normal(100)
    weights = np.array(graph.params)
    data, few, none = (Data(x[:n], np.zeros(n)) for n in (100, 2, 0))
    assert choose(graph, weights, None, data, data).alone is weights
    assert choose(graph, weights, weights + 1, data, none).share == 1 / 2
    assert 0.1 < choose(graph, weights, weights + 1, data, few).share < 0.9


def test_a_site_of_one_class_leaves_all_others_to_the_release() -> None:
    graph = TrainableGraph.load(zoo.mlp(CLASSIFY, 2, (4,)).SerializeToString())
    x, weights = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32), graph.params.copy()
    one = Data(x, np.zeros(60, np.int64))
    blend = choose(graph, weights, weights + 1, one, one)
    assert blend.own is None and blend.alone is weights


@pytest.mark.parametrize(
    ("card", "y"),
    [
        (CLASSIFY, np.arange(60) % 2),
        (LABELS, np.stack([np.arange(60) % 2, np.arange(60) // 2 % 2], axis=1)),
        (REGRESS, np.linspace(0, 1, 60)),
        (ANOMALY, np.zeros(60)),
    ],
    ids=["classify", "multilabel", "regress", "anomaly"],
)
def test_one_that_overflows_has_no_say(card: Card, y: NDArray[np.float64]) -> None:
    size = 6 if card is ANOMALY else 2
    model = zoo.autoencoder(card, 6, (2,)) if card is ANOMALY else zoo.mlp(card, 2, (4,))
    graph = TrainableGraph.load(model.SerializeToString())
    x, good = np.random.default_rng(0).normal(size=(60, size)).astype(np.float32), np.array(graph.params)
    broken, data = np.full_like(good, 1e30), Data(x, y)
    assert choose(graph, broken, good, data, data).alone is good
    assert choose(graph, good, broken, data, data).alone is good
    few = Data(np.concatenate([x[:59], np.full((1, size), 1e38, np.float32)]), y)  # one sample proves nothing
    assert np.isfinite(choose(graph, good * 2, good, data, few).share)


def test_a_site_that_holds_one_class_back_has_half_of_the_say_in_what_it_has_learnt() -> None:
    """A few samples may be held back while a fault was met once: a hostile release would decide alone."""
    card = Card("classify", CHANNELS, WINDOW, labels=("normal", "worn", "broken"))
    graph = TrainableGraph.load(zoo.mlp(card, 2, (4,)).SerializeToString())
    x, weights = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32), graph.params.copy()
    data, held = Data(x, np.arange(60) % 2), Data(x[:6], np.zeros(6))
    blend = choose(graph, weights, weights + 1, data, held)
    assert blend.share == 1 / 2 and blend.known is not None and blend.known.tolist() == [True, True, False]
    assert set(blend.left_to_release) == {"broken"}
    assert choose(graph, weights, None, data, held).left_to_release == {}


@pytest.mark.parametrize("held_back", [60, 6, 0])
def test_a_release_cannot_decide_by_naming_what_the_site_never_met(held_back: int) -> None:
    card = Card("classify", CHANNELS, WINDOW, labels=("normal", "worn", "broken"))
    graph = TrainableGraph.load(zoo.mlp(card, 2, (4,)).SerializeToString())
    x, weights = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32), np.array(graph.params)
    y = (x[:, 0] > 0).astype(np.int64)
    bias = next(t for t in graph.layout if t.shape == (3,))
    hostile = weights.copy()
    hostile[bias.start : bias.stop] += np.array([0, 0, 40], np.float32)
    blend = choose(graph, hostile, weights, Data(x, y), Data(x[:held_back], y[:held_back]))
    assert outputs(graph, hostile, x).argmax(axis=1).tolist() == [2] * 60
    assert 2 not in blend.predict(x).argmax(axis=1)
    assert blend.left_to_release == {"broken": pytest.approx(MOST_FALSE, abs=1e-3)}
    honest = choose(graph, weights - np.where(hostile != weights, 4, 0), weights, Data(x, y), Data(x, y))
    assert honest.counts is None and honest.left_to_release in ({"broken": 1.0}, {})


def test_false_alarms_count_by_class_and_by_label() -> None:
    card = Card("classify", CHANNELS, WINDOW, labels=("normal", "worn", "broken"))
    known, y = np.array([True, True, False]), np.array([0] * 90 + [1] * 10)
    z = np.zeros((100, 3), np.float32)
    z[:90, 2], z[90:, 2] = -50, 50  # says `broken` of each rare fault, and of nothing else
    assert false_alarms(card, z, y, known) == pytest.approx([1, 1, 2 * MOST_FALSE])
    z[:, 2] = -50
    assert false_alarms(card, z, y, known) is None and false_alarms(card, z[:0], y[:0], known) is None
    sets = np.stack([y, np.zeros(100)], axis=1)
    known = np.array([True, False])
    assert false_alarms(LABELS, np.full((100, 2), 50, np.float32), sets, known) == pytest.approx([1, MOST_FALSE])
    assert false_alarms(LABELS, np.full((100, 2), 50, np.float32), 1 - sets, known) is None  # it is always there


def test_with_nothing_held_back_both_decide_on_what_the_site_has_samples_of() -> None:
    graph = TrainableGraph.load(zoo.mlp(LABELS, 2, (4,)).SerializeToString())
    x, weights = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32), graph.params.copy()
    data, none = Data(x, np.stack([x[:, 0] > 0, x[:, 0] > 9], axis=1)), Data(x[:0], np.zeros((0, 2)))
    blend = choose(graph, weights, weights + 1, data, none)
    assert blend.share == 1 / 2 and blend.known is not None and blend.known.tolist() == [True, False]
    assert choose(graph, weights, weights + 1, none, none).own is None


def test_large_windows_are_judged_in_little_memory() -> None:
    """A gateway has 512 MB, of which the samples take up to 64 MiB."""
    card = Card("anomaly", tuple(Channel(f"c{i}") for i in range(8)), WindowSpec(1000, 4096, 4096))
    graph = TrainableGraph.load(zoo.autoencoder(card, (8, 4096), (2,)).SerializeToString())
    x, weights = np.random.default_rng(0).normal(size=(100, 8, 4096)).astype(np.float32), np.array(graph.params)
    data = Data(x, np.zeros(100))
    tracemalloc.start()
    try:
        blend = choose(graph, weights, weights * 2, data, data)
        judged = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        limit = threshold(blend, data, Data(x[:0], np.zeros(0)))
        limited = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert blend.alone is None and np.isfinite(limit.score)
    assert judged < 4 * x.nbytes and limited < 4 * x.nbytes
