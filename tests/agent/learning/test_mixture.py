# SPDX-License-Identifier: Apache-2.0
"""How the own model and the release decide together: means of probabilities, by one row and by many alike."""

import numpy as np
import pytest
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.mixture import Blend, Mixing, outputs
from fedge_agent.learning.serving import MixedSession, Serving, Session
from fedge_agent.learning.stored_limits import made_for
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import standardise
from numpy.typing import NDArray

CHANNELS, WINDOW = (Channel("a"), Channel("b")), WindowSpec(1, 1, 1)
CARDS = {
    "classify": Card("classify", CHANNELS, WINDOW, labels=("normal", "worn", "broken")),
    "multilabel": Card("multilabel", CHANNELS, WINDOW, labels=("worn", "hot")),
    "regress": Card("regress", CHANNELS, WINDOW, targets=(Target("life", unit="h", scale=100.0),)),
    "anomaly": Card("anomaly", CHANNELS, WINDOW),
}
X = np.random.default_rng(3).normal(size=(50, 2)).astype(np.float32)


def _file(task: str) -> bytes:
    card = CARDS[task]
    model = zoo.autoencoder(card, 2, (1,)) if task == "anomaly" else zoo.mlp(card, 2, (4,))
    return model.SerializeToString()


def _probabilities(task: str, z: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = z.astype(np.float64)
    if task == "classify":
        e = np.exp(wide)
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    return 1 / (1 + np.exp(-wide)) if task == "multilabel" else wide


def _two(task: str) -> tuple[bytes, TrainableGraph, NDArray[np.float32], NDArray[np.float32]]:
    data = _file(task)
    graph = TrainableGraph.load(data)
    rng = np.random.default_rng(0)
    own, release = (rng.normal(size=len(graph.params)).astype(np.float32) for _ in range(2))
    return data, graph, own, release


def _session(
    data: bytes, graph: TrainableGraph, own: NDArray[np.float32], release: NDArray[np.float32], mixing: Mixing
) -> MixedSession:
    mine, theirs = Session(data, graph.initializers(own)), Session(data, graph.initializers(release))
    return MixedSession(mine, theirs, mixing)


@pytest.mark.parametrize("task", CARDS)
def test_what_decides_is_the_mean_of_probabilities_or_values(task: str) -> None:
    data, graph, own, release = _two(task)
    blend = Blend(graph, release, own, 0.25)
    parts = [_probabilities(task, outputs(graph, w, X)) for w in (own, release)]
    np.testing.assert_allclose(_probabilities(task, blend.predict(X)), 0.25 * parts[0] + 0.75 * parts[1], atol=2e-6)
    mixing = Mixing(task, 0.25, probabilities=graph.gives_probabilities)
    session = _session(data, graph, own, release, mixing)
    for row, expected in zip(X[:9], blend.predict(X[:9]), strict=True):
        session.input[...] = row
        np.testing.assert_allclose(session.run(), expected, atol=2e-5)


@pytest.mark.parametrize("task", CARDS)
def test_where_one_counts_nothing_the_other_decides_alone(task: str) -> None:
    _, graph, own, release = _two(task)
    for blend, alone in ((Blend(graph, release, own, 0.0), release), (Blend(graph, release, own, 1.0), own)):
        assert blend.alone is alone
        assert np.array_equal(blend.predict(X), outputs(graph, alone, X))
    assert Blend(graph, release, own, 0.5).alone is None and Blend(graph, release).alone is release


def test_classes_that_the_site_does_not_know_are_left_to_the_release() -> None:
    _, graph, own, release = _two("classify")
    known = np.array([True, True, False])
    for share in (0.5, 1.0):
        mixed = _probabilities("classify", Blend(graph, release, own, share, known).predict(X))
        theirs = _probabilities("classify", outputs(graph, release, X))
        np.testing.assert_allclose(mixed[:, 2], theirs[:, 2], atol=2e-6)
        np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-5)
        assert np.abs(mixed[:, 0] - theirs[:, 0]).max() > 0.05
    labels = Mixing("multilabel", 0.5, np.array([False, True]))(np.full((1, 2), 4.0), np.full((1, 2), -4.0))
    assert labels[0, 0] == pytest.approx(-4, abs=1e-4) and labels[0, 1] == pytest.approx(0, abs=1e-6)


def test_what_a_release_gives_to_unknown_classes_may_count_less() -> None:
    data, graph, own, release = _two("classify")
    known, counts = np.array([True, True, False]), np.array([1, 1, 0.1], np.float32)
    for share in (0.0, 0.5, 1.0):
        blend = Blend(graph, release, own, share, known, counts)
        mixed, theirs = (_probabilities("classify", z) for z in (blend.predict(X), outputs(graph, release, X)))
        np.testing.assert_allclose(mixed[:, 2], theirs[:, 2] / 10, atol=2e-6)
        np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-5)
        session = _session(data, graph, own, release, blend.mixing(graph.gives_probabilities))
        for row, expected in zip(X[:9], blend.predict(X[:9]), strict=True):
            session.input[...] = row
            np.testing.assert_allclose(session.run(), expected, atol=2e-5)
    mine, sure = np.array([[1.0, 0, 9]], np.float32), np.array([[-90.0, -90.0, 90.0]], np.float32)
    mixed = _probabilities("classify", Mixing("classify", 0.5, known, False, counts)(mine, sure))
    assert mixed.argmax() == 0 and mixed[0, 2] == pytest.approx(0.1, abs=1e-4)
    labels = Mixing("multilabel", 0.5, np.array([False, True]), False, np.array([0.1, 1], np.float32))
    assert labels(np.zeros((1, 2), np.float32), np.full((1, 2), 50, np.float32))[0, 0] == pytest.approx(
        np.log(0.1 / 0.9), abs=1e-3
    )


def test_two_outputs_of_a_softmax_are_mixed_as_they_are() -> None:
    own, release = np.array([1.0, 0.0], np.float32), np.array([0.2, 0.8], np.float32)
    np.testing.assert_allclose(Mixing("classify", 0.5, probabilities=True)(own, release), [0.6, 0.4], atol=1e-6)


def test_no_logit_is_too_large_to_be_mixed() -> None:
    far = np.array([[1e4, -1e4, 0.0]], np.float32)
    for task, z in (("classify", far), ("multilabel", far)):
        assert np.isfinite(Mixing(task, 0.5)(z, -z)).all()


@pytest.mark.parametrize(
    ("task", "broken"), [*((task, np.nan) for task in CARDS), ("classify", np.inf), ("regress", -np.inf)]
)
def test_where_one_gives_no_number_the_other_decides_alone(task: str, broken: float) -> None:
    sound, hurt = np.full((2, 3), 0.25, np.float32), np.full((2, 3), 0.75, np.float32)
    hurt[1, 2] = broken
    for own, release in ((sound, hurt), (hurt, sound)):
        mixing = Mixing(task, 0.5)
        mixed = mixing(own, release)
        assert not mixing.mix(own, release)[1] and mixing.mix(own[:1], release[:1])[1]
        np.testing.assert_array_equal(mixed[0], mixing(own[:1], release[:1])[0])
        assert np.isfinite(mixed).all() and mixed[1, 2] == pytest.approx(0.25)
    assert not np.isfinite(Mixing(task, 0.5)(hurt, hurt)).all()  # nobody knows, and nothing is made up


@pytest.mark.parametrize("task", CARDS)
def test_windows_that_one_decides_alone_are_counted(task: str) -> None:
    data, graph, own, release = _two(task)
    scale, mixing = standardise.fit(X, graph.card), Mixing(task, 0.5)
    both = Serving(_session(data, graph, own, release, mixing), graph.card, 1, scale)
    one = Serving(_session(data, graph, own, np.full_like(release, np.nan), mixing), graph.card, 1, scale)
    alone = Serving(Session(data, graph.initializers(own)), graph.card, 1, scale)
    for row in X[:5]:
        assert one.decide(row).score == pytest.approx(alone.decide(row).score)
        assert np.isfinite(both.decide(row).score)
    assert [made.session.by_one for made in (one, both, alone)] == [5, 0, 0]


def test_a_value_whose_square_overflows_is_no_number() -> None:
    """An infinite score alarms nobody."""
    x, far = np.zeros(4, np.float32), np.array([0, 1e25, 0, -1e25], np.float32)
    for task in ("anomaly", "regress"):
        mixed, of_both = Mixing(task, 0.5).mix(x + 1, far)
        assert mixed.tolist() == [0.5, 1, 0.5, 1] and not of_both


def test_limits_and_decisions_are_of_both_models_together() -> None:
    data, graph, own, release = _two("anomaly")
    blend = Blend(graph, release, own, 0.5)
    scale = standardise.fit(X, graph.card)
    session = _session(data, graph, own, release, Mixing("anomaly", 0.5))
    serving = Serving(session, graph.card, 1, scale, Limit(1e9))
    x = scale(X)
    scores = np.square(blend.predict(x) - x).mean(axis=1)
    assert [serving.decide(row).score for row in X] == pytest.approx(scores.tolist(), rel=1e-4)


def test_blends_that_decide_otherwise_have_other_bytes() -> None:
    _, graph, own, release = _two("classify")
    known = np.array([True, False, True])
    made = [Blend(graph, release), Blend(graph, release, own, 0.5), Blend(graph, release, own, 0.25)]
    made += [Blend(graph, release, own, 1.0), Blend(graph, release, own, 0.5, known), Blend(graph, own, release, 0.5)]
    scale = standardise.fit(X, graph.card)
    assert len({made_for(blend.identity, scale) for blend in made}) == len(made)
    assert all(blend.identity == [release] for blend in (Blend(graph, release, own, 0.0), Blend(graph, release)))
