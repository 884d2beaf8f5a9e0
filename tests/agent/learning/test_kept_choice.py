# SPDX-License-Identifier: Apache-2.0
"""What decides stays as it was chosen when the samples are lost, and is chosen again when something else changes."""

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.durable.releases import ChainStore
from fedge_agent.learning.kept_choice import Kept, KeptChoice, decode, encode
from fedge_agent.learning.stored_limits import made_for
from fedge_agent.learning.training import Data
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import standardise
from numpy.typing import NDArray

CHANNELS, WINDOW = (Channel("a"), Channel("b")), WindowSpec(1, 1, 1)
CARDS = {
    "anomaly": Card("anomaly", CHANNELS, WINDOW),
    "classify": Card("classify", CHANNELS, WINDOW, labels=("normal", "worn", "broken")),
    "multilabel": Card("multilabel", CHANNELS, WINDOW, labels=("worn", "hot")),
}
X = np.random.default_rng(1).normal(size=(80, 2)).astype(np.float32)
SCALE = standardise.fit(X, CARDS["anomaly"])


def _data(task: str, rows: int) -> Data:
    y = {
        "anomaly": np.zeros(80),
        "classify": np.arange(80) % 2,
        "multilabel": np.stack([np.arange(80) % 2, np.zeros(80)], axis=1),
    }[task]
    return Data(X[:rows], y[:rows])


def _graph(task: str) -> TrainableGraph:
    card = CARDS[task]
    model = zoo.autoencoder(card, 2, (1,)) if task == "anomaly" else zoo.mlp(card, 2, (4,))
    return TrainableGraph.load(model.SerializeToString())


def _weights(graph: TrainableGraph, seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=len(graph.params))
    found: NDArray[np.float32] = (graph.params + 0.3 * noise).astype(np.float32)
    return found


@pytest.mark.parametrize("task", CARDS)
def test_lost_samples_change_nothing_of_what_decides(tmp_path: Path, task: str) -> None:
    """The limits that were made for it count then, too."""
    graph = _graph(task)
    own, release = _weights(graph, 1), _weights(graph, 2)
    before = KeptChoice(graph, ChainStore(tmp_path)).blend(release, own, SCALE, b"r", _data(task, 80), _data(task, 40))
    after = KeptChoice(graph, ChainStore(tmp_path)).blend(release, own, SCALE, b"r", _data(task, 0), _data(task, 0))
    assert 0 < before.share < 1 and after.share == before.share != 1 / 2
    assert made_for(after.identity, SCALE) == made_for(before.identity, SCALE)


@pytest.mark.parametrize("task", CARDS)
def test_a_release_that_comes_without_samples_does_not_decide_alone(tmp_path: Path, task: str) -> None:
    graph, none = _graph(task), _data(task, 0)
    own, kept = _weights(graph, 1), KeptChoice(graph, ChainStore(tmp_path))
    first = kept.blend(_weights(graph, 2), own, SCALE, b"r", _data(task, 80), _data(task, 40))
    second = kept.blend(_weights(graph, 3), own, SCALE, b"r", none, none)
    assert second.alone is None and second.share == 1 / 2 and np.array_equal(second.known, first.known)  # type: ignore[arg-type]


def test_it_is_chosen_again_for_another_standardisation_or_own_model(tmp_path: Path) -> None:
    graph, data = _graph("anomaly"), _data("anomaly", 80)
    own, release = _weights(graph, 1), _weights(graph, 2)
    kept = KeptChoice(graph, ChainStore(tmp_path))
    first = kept.blend(release, own, SCALE, b"r", data, data)
    assert kept.blend(release, own, SCALE, b"r", data, _data("anomaly", 10)).share == first.share
    other = standardise.fit(2 * X, graph.card)
    assert kept.blend(release, own, other, b"r", data, _data("anomaly", 10)).share != first.share
    assert kept.blend(release, release, SCALE, b"r", data, data).share == pytest.approx(1 / 2)
    assert kept.blend(release, None, SCALE, b"r", data, data).alone is release


def test_what_was_stored_is_read_with_distrust() -> None:
    kept = Kept(b"m" * 32, 0.25, np.array([True, False]))
    found = decode(encode(kept))
    assert found is not None and found[:2] == kept[:2] and np.array_equal(found.known, kept.known)  # type: ignore[arg-type]
    counted = decode(encode(kept._replace(counts=np.array([1, 0.05], np.float32))))
    assert counted is not None and counted.counts == pytest.approx([1, 0.05])
    assert decode(encode(kept._replace(counts=np.array([1, 2], np.float32)))) is None
    assert decode(encode(Kept(b"m", None, None))) == Kept(b"m", None, None)
    for bad in (float("nan"), -0.1, 2.0):
        assert decode(encode(kept._replace(share=bad))) is None
    assert decode(None) is None and decode(b"\x01") is None and decode(b"\xff") is None
