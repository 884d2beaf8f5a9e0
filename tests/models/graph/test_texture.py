# SPDX-License-Identifier: Apache-2.0
"""The starter for pictures: fixed filters tell direction and size of a texture, and only what follows is trained."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_models import Model, TrainingConfig, starter
from fedge_models.errors import ModelError
from fedge_models.graph import texture
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.evaluation import predict
from numpy.typing import NDArray

SIDE = 64
CHANNELS, WINDOW = (Channel("picture"),), WindowSpec(1, 1, 1)
CARD = Card("classify", CHANNELS, WINDOW, labels=("plain", "striped"), image=ImageSpec(SIDE, SIDE))
Pictures = NDArray[np.float32]


def stripes(angle: float, wavelength: float, side: int = SIDE) -> Pictures:
    y, x = np.mgrid[:side, :side]
    return np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength).astype(np.float32)


def features(picture: Pictures) -> NDArray[np.float64]:
    """What the filters give, per statistic; of the first size: means of the cells by direction."""
    graph = TrainableGraph.load(texture.texture2d(CARD, (1, *picture.shape)).SerializeToString())
    assert graph.trunk is not None
    found: NDArray[np.float64] = graph.trunk(picture[None, None])[0][0].astype(np.float64)
    return found


@pytest.mark.parametrize("direction", range(texture.DIRECTIONS))
def test_a_filter_answers_most_to_stripes_of_its_direction(direction: int) -> None:
    found = features(stripes(np.pi * direction / texture.DIRECTIONS, texture.WAVELENGTH))
    energies = found[8 : 8 + texture.DIRECTIONS]
    assert energies.argmax() == direction and energies.max() > np.median(energies) + 2


def test_brightness_makes_no_texture_and_a_size_is_seen_at_its_level() -> None:
    for brightness in (-2.0, 3.0):
        energies = features(np.full((SIDE, SIDE), brightness, np.float32))[8 : 8 + texture.DIRECTIONS]
        floor = (np.log(texture.FLOOR) - texture.ENERGY[0]) / texture.ENERGY[1]
        assert energies == pytest.approx(np.full(texture.DIRECTIONS, floor), abs=1e-3)
    each = 8 * texture.DIRECTIONS
    for level in range(texture.LEVELS):
        found = features(stripes(0, texture.WAVELENGTH * 2**level))
        means = [found[8 + i * each : 8 + i * each + texture.DIRECTIONS].max() for i in range(texture.LEVELS)]
        assert int(np.argmax(means)) == level


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 24), (1, 37, 50), (3, 300, 600)])
def test_it_takes_pictures_of_any_size_and_colour(shape: tuple[int, int, int]) -> None:
    model = texture.texture2d(CARD, shape)
    graph = TrainableGraph.load(model.SerializeToString())
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    found = predict(graph, x)
    assert found.shape == (2, 2) and np.isfinite(found).all()
    assert [t.name for t in graph.layout] == ["dense0.weight", "dense0.bias", "head.weight", "head.bias"]
    with pytest.raises(ValueError, match="at least 8 pixels"):
        texture.texture2d(CARD, (1, 7, 64))


def test_what_the_card_names_is_trained() -> None:
    card = Card(
        "classify", CHANNELS, WINDOW, labels=("a", "b"), image=ImageSpec(16, 16), trainable="head.*", local="head.bias"
    )
    graph = TrainableGraph.load(texture.texture2d(card, (1, 16, 16)).SerializeToString())
    assert [t.name for t in graph.layout] == ["head.weight", "head.bias"] and graph.card.local == "head.bias"


def test_colours_count_by_their_brightness() -> None:
    graph = TrainableGraph.load(texture.texture2d(CARD, (3, 16, 16)).SerializeToString())
    assert graph.trunk is not None
    red, green = np.zeros((2, 3, 16, 16), np.float32)
    red[0], green[1] = 1, 1
    a, b = (graph.trunk(x[None])[0] for x in (red, green))
    assert np.abs(a - b).max() > 1 and a[0, 24:] == pytest.approx(b[0, 24:], abs=1e-4)


def test_a_starter_learns_a_texture_from_few_pictures() -> None:
    rng = np.random.default_rng(3)
    y = np.arange(160) % 2
    x = rng.normal(0, 1, (160, 1, SIDE, SIDE)).astype(np.float32)
    for i in np.flatnonzero(y):
        x[i] += stripes(rng.uniform(0, np.pi), rng.uniform(3, 6))
    model = starter(CARD)
    model.train(x[:80], y[:80], TrainingConfig(epochs=20, learning_rate=0.003), rng)
    assert model.evaluate(x[80:], y[80:])["accuracy"] > 0.9


def test_kind_chooses_between_fixed_filters_and_trained_convolutions() -> None:
    def tensors(model: Model) -> set[str]:
        return {t.name.split(".")[0] for t in model.graph.layout}

    assert tensors(starter(CARD)) == {"dense0", "head"}
    assert tensors(starter(CARD, kind="convolutional")) == {"conv0", "conv1", "conv2", "head"}
    small = Card("classify", CHANNELS, WINDOW, labels=("a", "b"), image=ImageSpec(6, 6))
    assert "conv0" in tensors(starter(small))
    for wrong in ("dense", "table"):
        with pytest.raises(ModelError, match="this is a picture"):
            starter(CARD, kind=wrong)
