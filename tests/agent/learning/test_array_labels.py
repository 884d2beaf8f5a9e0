# SPDX-License-Identifier: Apache-2.0
"""Arrays of labels as people have them: what can be meant is taken, the rest is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.learning.dataset import load
from fedge_models.errors import DataError
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.model import starter

CHANNELS, WINDOW = (Channel("a"), Channel("b")), WindowSpec(1, 1, 1)
CARDS = {
    "classify": Card("classify", CHANNELS, WINDOW, labels=("ok", "worn", "broken")),
    "multilabel": Card("multilabel", CHANNELS, WINDOW, labels=("worn", "leak", "loose")),
    "regress": Card("regress", CHANNELS, WINDOW, targets=(Target("life"),)),
    "anomaly": Card("anomaly", CHANNELS, WINDOW),
}
X, CLASSES = np.random.default_rng(0).normal(size=(30, 2, 1)), np.arange(30) % 3


def loaded(folder: Path, task: str, **arrays: Any) -> Any:
    np.savez(folder / "d.npz", **{"x": X, **arrays})
    return load(folder / "d.npz", CARDS[task], (2, 1))


@pytest.mark.parametrize("y", [CLASSES, CLASSES.astype(np.uint8), CLASSES.astype(np.float32), CLASSES[:, None]])
def test_class_indices_are_taken_in_any_type_and_as_a_column(y: Any, tmp_path: Path) -> None:
    assert (loaded(tmp_path, "classify", y=y).y == CLASSES).all()


def test_nan_is_an_unknown_class(tmp_path: Path) -> None:
    y = np.where(CLASSES == 2, np.nan, CLASSES)
    assert (loaded(tmp_path, "classify", y=y).y == np.where(CLASSES == 2, -1, CLASSES)).all()
    y = np.where(CLASSES == 2, np.nan, 0)
    assert (loaded(tmp_path, "anomaly", y=y).y == np.where(CLASSES == 2, -1, 0)).all()


@pytest.mark.parametrize(
    ("task", "y", "said"),
    [
        ("classify", np.full(30, 0.5), "array 'y', row 0: 0.5; expected a class index .*: 0 ok, 1 worn, 2 broken, -1"),
        ("classify", CLASSES + 1, "row 2: 3; expected a class index"),
        ("classify", CLASSES - 2, "row 0: -2; expected a class index"),
        ("classify", np.where(CLASSES == 1, np.inf, 0), "row 1: inf; expected a class index"),
        ("classify", np.eye(3)[CLASSES], r"shape \(30, 3\); .* y.argmax\(axis=1\)"),
        ("classify", np.zeros((30, 2)), r"shape \(30, 2\); expected a class index .*unknown$"),
        ("classify", np.array(["ok", "worn", "broken"])[CLASSES], "'y' .* of <U6: expected rows of numbers"),
        ("classify", CLASSES.astype("M8[s]"), "expected rows of numbers"),
        ("classify", CLASSES * 1j, "expected rows of numbers"),
        ("classify", np.array(1), "expected rows of numbers"),
        ("classify", CLASSES[:-1], "'y' has 29 rows, 'x' has 30"),
        ("anomaly", CLASSES, "row 2: 2; expected a class index .*: 0 normal, 1 anomaly, -1"),
        ("anomaly", np.zeros((30, 2)), r"y.argmax\(axis=1\)"),
        ("multilabel", CLASSES, "expected 0 or 1 for each of the 3 labels"),
        ("multilabel", np.full((30, 3), "1"), "expected rows of numbers"),
        ("regress", np.full(30, "1.5"), "expected rows of numbers"),
        ("regress", np.array(1.5), "expected rows of numbers"),
    ],
)
def test_other_labels_are_refused_with_what_is_expected(task: str, y: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, task, y=y)


@pytest.mark.parametrize("x", [np.array(1.0), np.full((30, 2), "1"), X * 1j, np.zeros((30, 2), "M8[s]")])
def test_rows_that_are_no_numbers_are_refused(x: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"array 'x' .*: expected rows of numbers"):
        loaded(tmp_path, "classify", x=x, y=CLASSES)


def test_targets_of_no_array_are_unknown_also_where_the_card_names_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X)
    for targets in ((), (Target("life"),)):
        found = load(tmp_path / "d.npz", Card("regress", CHANNELS, WINDOW, targets=targets), (2, 1))
        assert np.isnan(found.y).all() and not found.labelled(CARDS["regress"]).any()


def test_another_number_of_targets_is_refused_by_the_commands(tmp_path: Path) -> None:
    starter(CARDS["regress"]).save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=X, y=np.zeros((30, 2)))
    for command in ("train", "evaluate"):
        done = CliRunner().invoke(main, [command, str(tmp_path / "m.onnx"), "--data", str(tmp_path / "d.npz")])
        assert done.exit_code == 1 and isinstance(done.exception, DataError | SystemExit)
        assert "targets of each sample: 2; expected 1 (life)" in f"{done.output}{done.exception}"
