# SPDX-License-Identifier: Apache-2.0
"""Models of labels that may hold together at a gateway: recorded data, decisions, tuning, a starter."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.learning.dataset import load
from fedge_agent.learning.limits import Limit, threshold
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.learning.starter_card import Wishes, starter_card
from fedge_agent.learning.training import Data, figures, usable, with_label
from fedge_agent.learning.tuning import complete
from fedge_agent.samples.label_values import find_label
from fedge_models import Model
from fedge_models.errors import DataError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph

LABELS = ("worn", "leak", "loose")
NOTHING = Data(np.zeros(0, np.float32), np.zeros(0))
CARD = Card("multilabel", tuple(Channel(c) for c in "abc"), WindowSpec(1, 1, 1), labels=LABELS)


def graph_of(card: Card = CARD) -> TrainableGraph:
    """A network whose logits are its input."""
    graph = TrainableGraph.load(zoo.mlp(card, [len(card.channels), 1], ()).SerializeToString())
    count = len(card.labels)
    graph.set_params(np.concatenate([np.eye(count).ravel(), np.zeros(count)]).astype(np.float32))
    return graph


def table(path: Path, head: str, *rows: str) -> Path:
    path.write_text("\n".join([f"a,b,c,{head}", *(f"1,2,3,{row}" for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ("worn,leak,loose", ("1,0,1", "0,0,0", ",,", "0,1,0", "1,1,1")),
        ("loose,worn,leak", ("1,1,0", "0,0,0", ",1,0", "0,0,1", "1,1,1")),
        ("label", ("worn;loose", "normal", "", "leak", "loose;leak;worn")),
        ("label", ("5", "0", "", "2", "7")),
        ("label", ("Worn; LOOSE", "Normal", "", "Leak", "loose;leak;worn")),
        ("worn,leak,loose", ("true,false,True", "no,NO,No", ",,", "FALSE,yes,false", "1,yes,true")),
    ],
)
def test_tables_give_labels_in_three_forms(head: str, rows: tuple[str, ...], tmp_path: Path) -> None:
    data = load(table(tmp_path / "d.csv", head, *rows), CARD, (3, 1))
    unknown = [math.nan] * 3  # also where only one of them is
    np.testing.assert_array_equal(data.y, [[1, 0, 1], [0, 0, 0], unknown, [0, 1, 0], [1, 1, 1]])


def test_a_window_has_labels_only_where_none_of_them_changes(tmp_path: Path) -> None:
    card = msgspec.structs.replace(CARD, window=WindowSpec(1, 2, 1))
    rows = ("1,0,0", "1,0,0", "1,1,0", "1,1,0")
    data = load(table(tmp_path / "d.csv", "worn,leak,loose", *rows * 10), card, (3, 2))
    known = {tuple(y) for y in data.y.tolist() if not math.isnan(y[0])}
    assert known == {(1, 0, 0), (1, 1, 0)} and np.isnan(data.y).any()


@pytest.mark.parametrize(
    ("head", "row", "words"),
    [
        (
            "label",
            "worn;lek",
            r"'worn;lek': expected normal, or one or more of .*; did you mean 'leak'\? \(rows like it: 1 of 1",
        ),
        ("label", "9", "or a number whose bits they are"),
        ("label", "normal;worn", r"whose bits they are \(rows like it"),
        ("worn,leak", "1,0", "a column for the labels worn, leak, none for loose; expected one for each, or a column"),
        ("worn,leak,loose", "1,0,2", "value 2, expected 0 or 1 for each label.*labels are worn, leak, loose"),
        ("label", "xyz", r"whose bits they are \(rows like it: 1 of 1\); leave the cell empty"),
        ("worn,leak,loose", "1,0,y", "column 'loose': 'y' is not a number; expected 0 or 1, true, yes, false, no"),
        ("worn,leak,loose,label", "1,0,0,leak", "column 'label' and a column for worn, leak, loose.*--label label, or"),
        ("worn,label", "1,leak", "has a column 'label' and a column for worn; expected one of both"),
    ],
)
def test_tables_that_do_not_fit_are_refused(head: str, row: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        load(table(tmp_path / "d.csv", head, row), CARD, (3, 1))


def test_of_a_column_label_and_one_for_each_the_asked_for_counts(tmp_path: Path) -> None:
    file = table(tmp_path / "d.csv", "worn,leak,loose,label", "1,0,0,leak")
    assert load(file, CARD, (3, 1), ["label"]).y.tolist() == [[0, 1, 0]]
    assert load(file, CARD, (3, 1), LABELS).y.tolist() == [[1, 0, 0]]


def test_names_in_another_letter_case_are_taken_where_they_are_one_only() -> None:
    assert [find_label(name, ("a", "A", "b")) for name in ("a", "A", "B", "C")] == [0, 1, 2, None]
    assert find_label("ab", ("Ab", "aB")) is None


def test_arrays_give_a_column_for_each_label(tmp_path: Path) -> None:
    y = np.array([[1, 0, 1], [0, 0, 0], [-1, -1, -1]])
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 3)), y=y)
    np.testing.assert_array_equal(load(tmp_path / "d.npz", CARD, (3, 1)).y, np.where(y < 0, np.nan, y))
    np.savez(tmp_path / "e.npz", x=np.zeros((3, 3)), y=y[:, 0])
    with pytest.raises(DataError, match=r"y is \(3,\), expected 0 or 1 for each of the 3 labels"):
        load(tmp_path / "e.npz", CARD, (3, 1))
    np.savez(tmp_path / "f.npz", x=np.zeros((3, 3)))
    assert np.isnan(load(tmp_path / "f.npz", CARD, (3, 1)).y).all()


def serving(card: Card) -> Serving:
    """Decides with logits that are its input, not standardised."""
    graph = graph_of(card)
    model = Model(zoo.mlp(card, [3, 1], ()).SerializeToString())
    session = Session(model.to_bytes(), graph.initializers(graph.params))
    scale = model.fit_scale(np.zeros((2, 3, 1)))._replace(
        mean=np.zeros((3, 1), np.float32), scale=np.ones((3, 1), np.float32)
    )
    return Serving(session, card, 1, scale, threshold(Blend(graph, graph.params), NOTHING, NOTHING))


def test_a_decision_names_every_label_above_its_own_limit() -> None:
    card = msgspec.structs.replace(CARD, label_limits={"leak": 0.1, "loose": 0.9})
    found = serving(card).decide(np.array([1.0, -1.0, 1.0], np.float32))
    p = 1 / (1 + np.exp([-1.0, 1.0, -1.0]))
    assert found.label == "worn;leak" and list(found.values) == list(LABELS)
    np.testing.assert_allclose(list(found.values.values()), p, rtol=1e-5)
    assert found.score == pytest.approx(max(p[0] / 0.5, p[1] / 0.1, p[2] / 0.9), rel=1e-5)
    nothing = serving(card).decide(np.array([-1.0, -5.0, 1.0], np.float32))
    assert nothing.label == "normal" and nothing.score < 1


def test_a_limit_that_is_configured_moves_all_labels() -> None:
    made, x = serving(CARD), np.array([1.0, 3.0, -9.0], np.float32)
    assert made.decide(x).label == "worn;leak"
    assert made.decide(x, Limit(1.8)).label == "leak"  # 0.73 and 0.95 of 0.5


def test_a_probability_that_is_no_number_is_a_score_that_is_none() -> None:
    found = serving(CARD)._decide(np.zeros(3, np.float32), np.array([np.nan, 9.0, 0.0], np.float32), Limit(1.0))
    assert math.isnan(found.score)


def test_samples_count_when_all_their_labels_are_known() -> None:
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([[1, 0, 1], [np.nan, 0, 0]])
    for found in (usable("multilabel", Data(x, y), labelled=False), with_label("multilabel", Data(x, y))):
        assert found.x.tolist() == [[0, 1, 2]] and found.y.tolist() == [[1, 0, 1]]


def test_a_release_is_tuned_only_where_each_label_is_there_and_missing() -> None:
    graph = graph_of()
    assert complete(graph, np.array([[1, 0, 1], [0, 1, 0]]))
    assert not complete(graph, np.array([[1, 0, 1], [1, 1, 0]]))  # "worn" always holds
    assert not complete(graph, np.zeros((0, 3)))


def test_an_update_carries_the_figures_of_the_whole_model_however_many_labels_it_has() -> None:
    names = tuple(f"fault {i}" for i in range(20))
    card = Card("multilabel", tuple(Channel(n) for n in names), WindowSpec(1, 1, 1), labels=names)
    rng = np.random.default_rng(0)
    held = Data(rng.normal(size=(50, 20, 1)).astype(np.float32), (rng.random((50, 20)) < 0.5).astype(np.float32))
    found = figures(graph_of(card), held, held)
    assert set(found) == {"loss", "accuracy", "macro_f1", "average_precision", "auroc"}


def test_a_starter_takes_labels_from_the_command_or_the_assets() -> None:
    made = starter_card("m", {}, Wishes("multilabel", channels=("a",), labels=("worn", "leak"), length=1))
    assert made.task == "multilabel" and made.labels == ("worn", "leak")
