# SPDX-License-Identifier: Apache-2.0
"""A file that scales its input itself gets it as it is measured: it is never standardised twice without a word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, Derived, ImageSpec, Target, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.model import Model
from fedge_models.training import standardise
from fedge_models.training.config import TrainingConfig
from support.graphs import N, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abc"), WindowSpec(1, 1, 1), targets=(Target("t"),))
MEAN, SCALE = np.array([200, 0.5, 3000], np.float32), np.array([30, 0.01, 800], np.float32)
X = (MEAN + SCALE * normal(40, 3)).astype(np.float32)
STEPS = {
    "mean and deviation": ([N("Sub", ["x", "mean"], ["c"]), N("Div", ["c", "scale"], ["s"])], True),
    "factor and shift": ([N("Mul", ["x", "scale"], ["c"]), N("Add", ["c", "mean"], ["s"])], True),
    "a factor only": ([N("Mul", ["x", "scale"], ["s"])], False),
    "one number for all": ([N("Div", ["x", "one"], ["s"])], False),
}


def network(*steps: onnx.NodeProto) -> onnx.ModelProto:
    tensors = {"mean": MEAN, "scale": SCALE, "one": np.array([2], np.float32), "w": normal(3, 1), "b": normal(1)}
    read = {name for node in steps for name in node.input} | {"w", "b"}
    return small(
        [*steps, N("Gemm", ["s", "w", "b"], ["y"])], {k: v for k, v in tensors.items() if k in read}, (3,), (1,)
    )


def taken(model: onnx.ModelProto, folder: Path, **fields: Any) -> Model:
    write_card(model, msgspec.structs.replace(CARD, **fields))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return Model(data)


@pytest.mark.parametrize("how", STEPS)
def test_scaler_with_a_centre_and_a_factor_gets_measured_values(how: str, tmp_path: Path) -> None:
    steps, found = STEPS[how]
    model = network(*steps)
    expected = run_ort(model.SerializeToString(), X)
    made = taken(model, tmp_path)
    assert (made.card.scaling == "file") == found and [t.name for t in made.graph.layout] == ["w", "b"]
    notes = [n for n in made.graph.notes if n.startswith("scaler: ")]
    if not found:
        assert len(notes) == 1 and "write scaling = 'file' on the card" in notes[0]
        return
    assert len(notes) == 1 and notes[0].endswith("no site standardises it (card: scaling = 'file')")
    np.testing.assert_allclose(made.predict(X), expected, rtol=1e-4, atol=1e-4)
    made.train(X, X[:, :1] / 100, TrainingConfig(epochs=2))
    np.testing.assert_allclose(made.predict(X), run_ort(made.to_bytes(), X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "scaling", "words"),
    [
        ({"scaling": "site"}, "site", ""),
        ({"scaling": "file"}, "file", ""),
        ({"channels": tuple(Channel(c, centre=0, scale=1) for c in "abc")}, None, ""),
        ({"channels": (Channel("a", centre=0, scale=1), *CARD.channels[1:])}, None, "so do the card .* and each site"),
        ({"channels": (Channel("a", condition=1.0), *CARD.channels[1:])}, None, "so do the card .* and each site"),
    ],
)
def test_what_the_card_says_counts(fields: dict[str, Any], scaling: str | None, words: str, tmp_path: Path) -> None:
    made = taken(network(*STEPS["mean and deviation"][0]), tmp_path, **fields)
    assert made.card.scaling == scaling
    notes = [n for n in made.graph.notes if n.startswith("scaler: ")]
    assert len(notes) == bool(words) and all(re.search(words, note) for note in notes)
    assert all("remove centre, scale and condition of a from the card" in note for note in notes)


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": (Channel("a", centre=0, scale=1), *CARD.channels[1:])},
        {"channels": (Channel("a", condition=1.0), *CARD.channels[1:])},
        {"derive": {"p": Derived("a * b", centre=0, scale=1)}},
    ],
)
def test_a_file_that_scales_its_input_gets_it_unscaled_or_the_card_is_refused(fields: dict[str, Any]) -> None:
    card = msgspec.structs.replace(CARD, scaling="file", **fields)
    with pytest.raises(ModelError, match=r"^card: scaling is 'file', so .* \['[ap]'\] have centre, scale or condition"):
        write_card(network(), card)


def test_a_picture_that_enters_as_it_comes_has_no_mean() -> None:
    image = ImageSpec(8, 8, mean=(0.5,), std=(0.2,))
    card = Card("classify", (Channel("c"),), WindowSpec(1, 1, 1), labels=("a", "b"), image=image, scaling="file")
    with pytest.raises(ModelError, match=r"card: scaling is 'file'.*remove image.mean"):
        write_card(network(), card)


def test_a_pipeline_without_a_scaler_says_how_it_trains(tmp_path: Path) -> None:
    model = small([N("Gemm", ["x", "w", "b"], ["y"])], {"w": normal(3, 1), "b": normal(1)}, (3,), (1,))
    model.producer_name = "skl2onnx"
    made = taken(model, tmp_path)
    assert made.card.scaling == "file"
    assert any("put a StandardScaler in front, or write scaling = 'site'" in n for n in made.graph.notes)


def test_values_enter_as_they_are_measured_also_far_from_zero() -> None:
    card = msgspec.structs.replace(CARD, scaling="file")
    scale, out = standardise.fit(X, card), np.empty_like(X)
    assert scale.raw and scale.bounds is not None and standardise.given(card) is not None
    np.testing.assert_array_equal(scale(X), X)
    scale(X, out)
    np.testing.assert_array_equal(out, X)
    again = standardise.decode(standardise.encode(scale))
    assert again.raw and again.bounds is not None
    np.testing.assert_array_equal(again(X), X)
    assert not standardise.decode(standardise.encode(standardise.fit(X, CARD))).raw
