# SPDX-License-Identifier: Apache-2.0
"""Pipelines of scikit-learn as skl2onnx writes them by default: they train, or are refused as what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.intake import read_model
from fedge_models.model import Model
from support.counterparts import counterpart

counterpart("skl2onnx")
counterpart("sklearn")

from support.exports import parts  # noqa: E402
from support.exports.pipelines import ALL, NOT_TRAINED, PART, TRAINED, exported, hold  # noqa: E402


@pytest.mark.parametrize("name", TRAINED)
def test_pipeline_trains(name: str, tmp_path: Path) -> None:
    hold(name, tmp_path)


@pytest.mark.parametrize("name", NOT_TRAINED)
def test_what_has_no_gradient_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    made, y = NOT_TRAINED[name]
    _, card = exported(made, y, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"(?i)tree|kernel|SVM"):
        Model(read_model(tmp_path / "net.onnx", card)).graph.probe()


def test_page_lists_every_pipeline_with_its_outcome() -> None:
    said = {row[0]: row[1] for row in parts.rows(parts.PAGE.read_text("utf-8"), PART)}
    trains, refused = dict.fromkeys(TRAINED, parts.TRAINS), dict.fromkeys(NOT_TRAINED, parts.REFUSED)
    assert said == {**trains, **refused}, "run: make exports-page"
    assert list(said) == list(ALL)
