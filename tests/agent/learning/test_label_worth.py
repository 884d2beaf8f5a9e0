# SPDX-License-Identifier: Apache-2.0
"""What a label is worth: doubt of what serves, disagreement of two models, distance from what is known."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_agent.learning import label_worth
from fedge_agent.learning.label_worth import Worth
from fedge_models.graph.card import Card, Channel, Target, WindowSpec

CHANNELS, WINDOW = (Channel("a"),), WindowSpec(1, 4, 2)
CLASSIFY = Card("classify", CHANNELS, WINDOW, labels=("ok", "worn", "broken"))
MULTILABEL = Card("multilabel", CHANNELS, WINDOW, labels=("worn", "leak"), label_limits={"leak": 0.8})
ANOMALY = Card("anomaly", CHANNELS, WINDOW)
REGRESS = Card("regress", CHANNELS, WINDOW, targets=(Target("life"),))
F = np.float32


def test_a_classifier_is_uncertain_where_two_classes_are_close() -> None:
    p = np.array([[0.5, 0.5, 0], [0.9, 0.1, 0], [0.4, 0.35, 0.25]], F)
    assert label_worth.uncertain(CLASSIFY, p) == pytest.approx([1.0, 0.2, 0.95])


def test_a_label_is_uncertain_near_its_own_limit() -> None:
    p = np.array([[0.0, 0.8], [0.5, 0.0], [0.0, 0.4]], F)
    assert label_worth.uncertain(MULTILABEL, p) == pytest.approx([1.0, 1.0, 0.5])


def test_an_anomaly_model_is_uncertain_near_the_machines_limit() -> None:
    scores = np.array([1.0, 2.0, 0.5, 4.0], F)
    found = label_worth.uncertain(ANOMALY, scores, np.array([1.0, 1.0, 1.0, 4.0]))
    assert found == pytest.approx([1.0, 0.5, 0.5, 1.0])
    assert label_worth.uncertain(ANOMALY, scores, np.inf).tolist() == [0, 0, 0, 0]  # there is no limit yet


def test_an_estimate_is_never_between_two() -> None:
    assert label_worth.uncertain(REGRESS, np.ones((2, 1), F)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("card", "own", "release", "expected"),
    [
        (CLASSIFY, [[1, 0, 0], [0.5, 0.5, 0]], [[0, 1, 0], [0.5, 0.5, 0]], [1.0, 0.0]),
        (MULTILABEL, [[0.1, 0.9], [0.2, 0.2]], [[0.1, 0.2], [0.2, 0.2]], [0.7, 0.0]),
        (ANOMALY, [2.0, 1.0], [1.0, 1.0], [0.5, 0.0]),
        (REGRESS, [[1.0], [0.0]], [[0.0], [0.0]], [0.5, 0.0]),
    ],
    ids=lambda v: getattr(v, "task", ""),
)
def test_two_models_disagree(card: Card, own: list[object], release: list[object], expected: list[float]) -> None:
    found = label_worth.disagreeing(card, np.array(own, F), np.array(release, F))
    assert found == pytest.approx(expected, abs=1e-6)
    assert label_worth.disagreeing(card, None, np.array(release, F)).tolist() == [0, 0]


def test_a_window_is_novel_that_is_far_from_all_with_a_label() -> None:
    x = np.array([[0, 0], [1, 0], [3, 0], [9, 9]], F)
    found = label_worth.novel(x, np.array([[0, 0]], F))
    assert found[0] == 0 and found.argmax() == 3 and (np.diff(found) > 0).all()
    assert label_worth.novel(x, x).tolist() == [0, 0, 0, 0]
    assert label_worth.novel(x, np.zeros((0, 2), F)).argmax() == 3  # nothing is known: far from the middle


def test_wide_windows_keep_their_order_of_distances() -> None:
    x = np.random.default_rng(0).normal(size=(30, 40, 50)).astype(F)
    x[7] *= 4
    assert label_worth.novel(x, x[:1]).argmax() == 7


def test_a_window_that_is_like_a_known_one_is_worth_nothing_however_uncertain() -> None:
    worth = Worth(np.array([1.0, 0.6]), np.array([0.0, 0.5]), np.array([0.0, 0.3]))
    assert worth.total() == pytest.approx([0.0, 0.55])
    assert [worth.reason(0), worth.reason(1)] == ["uncertain", "uncertain"]


def test_without_any_doubt_the_most_novel_window_is_worth_most() -> None:
    nothing = np.zeros(3)
    assert Worth(nothing, np.array([0.1, 0.7, 0.3]), nothing).total().argmax() == 1
