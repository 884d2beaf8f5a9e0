# SPDX-License-Identifier: Apache-2.0
"""Releases that are refused or taken by what they decide: of all rows, and of each class by itself."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from fedge_agent.learning.canary import Outcome, outcome, refusal
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from numpy.typing import NDArray

NAMES = ("ok", "worn", "broken")
CARD = Card("classify", (Channel("a"),), WindowSpec(1, 4, 2), ("mean",), NAMES, "ok")
SURE = 1.5e-6  # nats


def made(y: NDArray[np.int64], wrong: NDArray[np.bool_], loss: float, sure: float = SURE) -> Outcome:
    """Of rows of the classes y (n,), those that are wrong, with this loss each."""
    have = y[:, None] == np.arange(3)
    return Outcome(np.where(wrong, loss, sure), np.broadcast_to(~wrong[:, None], have.shape), have)


def rows(n: int, rare: int) -> NDArray[np.int64]:
    """The first `rare` of n rows are broken, a third of the rest is worn."""
    return np.where(np.arange(n) < rare, 2, np.arange(n) % 3 // 2)


def verdict(y: NDArray[np.int64], wrong: NDArray[np.bool_], loss: float) -> str | None:
    return refusal(made(y, wrong & False, 0), made(y, wrong, loss), 0.1, NAMES)


def test_a_classifier_that_is_only_less_sure_is_not_refused() -> None:
    """A site refused a release of loss 0.022 for ever, as the one that served had 0.0000015 there."""
    y = rows(40, 4)
    old = made(y, y < 0, 0)
    losses = np.where(np.arange(40) % 4 == 0, 0.088, SURE)  # mean 0.022; all rows are right
    none = np.empty((40, 0), np.bool_)
    before, after = (Outcome(found, none, none) for found in (old.losses, losses))  # of estimates, it is the signal
    assert refusal(before, after, 0.1, ()) == "held-back loss 0.022 against 1.5e-06"
    assert refusal(old, Outcome(losses, old.right, old.have), 0.1, NAMES) is None
    doubtful = Outcome(losses * 4, old.right, old.have)  # right, but at 0.7: no more a model this good
    assert refusal(old, doubtful, 0.1, NAMES) == "held-back loss 0.088 against 1.5e-06"


@pytest.mark.parametrize("n", [40, 100, 400])
@pytest.mark.parametrize("loss", [0.8, 1.2, 4.9])
@pytest.mark.parametrize("rare", [2, 3, 4])
def test_a_release_that_loses_a_rare_class_is_refused(n: int, loss: float, rare: int) -> None:
    """Four lost rows never were beyond chance, and a loss that rose in two of 400 rows is within its error."""
    y, found = rows(n, rare), verdict(rows(n, rare), rows(n, rare) == 2, loss)
    assert found == f"held-back samples of 'broken' that are decided rightly: 0 against {rare}"
    assert refusal(made(y, y < 0, 0), made(y, y == 2, loss, 1e-9), 0.1, NAMES) == found  # also if it is surer of others


def test_most_of_a_class_is_more_than_half_of_what_was_right_and_two_rows() -> None:
    y = rows(100, 8)
    first = np.arange(100)
    assert verdict(y, first < 4, 1.2) is None and verdict(y, first < 5, 1.2) is not None
    assert verdict(rows(100, 1), first < 1, 1.2) is None  # one row may be a wrong label
    already = made(y, (y == 2) & (first > 1), 0.5)  # two of eight were right
    assert refusal(already, made(y, y == 2, 0.5), 0.1, NAMES) is not None
    won = made(y, (y == 2) & (first < 2), 0.5)  # the other six instead
    assert refusal(already, won, 0.1, NAMES) is None


@pytest.mark.parametrize("wrong", [4, 5, 6, 12, 400])
def test_rows_that_become_wrong_beyond_chance_are_a_reason_to_refuse(wrong: int) -> None:
    """Of a common class: of the exact test, four have the probability 1/16, five 1/32."""
    y, lost = rows(400, 0), np.arange(400) % 100 * 4 + np.arange(400) // 100 < wrong
    assert lost.sum() == wrong and (verdict(y, lost, 1.5) is None) == (wrong == 4)
    before, after = made(y, lost, 1.5), made(y, lost[::-1], 1.5)  # as many others are right now
    assert refusal(before, after, 0.1, NAMES) is None


def test_losses_that_are_no_numbers_are_worse_though_what_is_right_stays() -> None:
    y = rows(40, 4)
    old = made(y, y < 0, 0)
    assert refusal(old, Outcome(old.losses * np.nan, old.right, old.have), 0.1, NAMES) is not None


def sees(task: str, biases: tuple[float, float, float]) -> TrainableGraph:
    """A model whose outputs are twenty times its three inputs, plus the biases."""
    card = msgspec.structs.replace(
        CARD, task=task, channels=tuple(map(Channel, "abc")), normal="" if task == "multilabel" else "ok"
    )
    graph = TrainableGraph.load(zoo.mlp(card, 3, ()).SerializeToString())
    assert [t.shape for t in graph.layout] == [(3, 3), (3,)]
    graph.set_params(np.concatenate([20 * np.eye(3).ravel(), biases]).astype(np.float32))
    return graph


@pytest.mark.parametrize("rare", [2, 3, 4])
@pytest.mark.parametrize("task", ["classify", "multilabel"])
def test_a_model_that_no_longer_sees_one_label_is_refused(task: str, rare: int) -> None:
    have = rows(300, rare)[:, None] == np.arange(3)
    base = -10.0 if task == "multilabel" else 0.0
    y = have.astype(np.int64) if task == "multilabel" else have.argmax(axis=1)
    x = have.astype(np.float32)
    old = outcome(sees(task, (base, base, base)), x, y)
    assert old.right.shape == (300, 3) and old.right.all()
    new = outcome(sees(task, (base, base, base - 21)), x, y)
    assert new.losses.mean() < 0.2
    assert refusal(old, new, 0.1, NAMES) == f"held-back samples of 'broken' that are decided rightly: 0 against {rare}"
    doubting = outcome(sees(task, (base, base, base - 8)), x, y)
    assert refusal(old, doubting, 0.1, NAMES) is None  # still seen
