# SPDX-License-Identifier: Apache-2.0
"""Windows, filters, wavelets and tables of distances are known by their values; weights, fresh or trained, are none."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_models.graph.intake.known_filters import (
    are_distances,
    are_orthogonal,
    are_symmetric,
    are_wavelets,
    is_window,
)
from support.graphs import normal

AT = np.arange(16)
PERIODIC = np.sin(np.pi * AT / 16) ** 2
WINDOWS = {
    "Hann": PERIODIC,
    "Hann, both ends": np.hanning(16),
    "Hamming": np.hamming(17)[:16],
    "Blackman": np.blackman(32),
    "Kaiser": np.kaiser(16, 8.0),
    "a triangle": np.bartlett(17),
    "a column of it": PERIODIC[:, None],
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name: str) -> None:
    assert is_window(WINDOWS[name])


@pytest.mark.parametrize(
    "row", [np.ones(16), np.zeros(16), normal(16), np.abs(normal(16)), AT / 16, np.cos(np.pi * AT / 8), np.hanning(5)]
)
def test_rows_that_are_no_windows(row: np.ndarray) -> None:
    assert not is_window(row)


DFT = [f(2 * np.pi * np.outer(np.arange(9), AT) / 16) for f in (np.cos, np.sin)]
SOBEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], float)
FILTERS = {
    "Fourier under a short window": np.concatenate(DFT)[:, None] * PERIODIC,
    "Sobel": np.stack([SOBEL, SOBEL.T])[:, None],
    "Laplace": np.array([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]]),
    "Gauss": np.tile(np.exp(-(np.arange(-4, 5) ** 2) / 8.0), (3, 1))[:, None],
    "Savitzky-Golay": np.array([[[-3.0, 12, 17, 12, -3]]]) / 35,
    "Haar": np.array([[[1.0, 1]], [[1, -1]]]) / 2**0.5,
    "cosines as a matrix": np.cos(np.pi * np.outer(AT + 0.5, np.arange(8)) / 16),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_that_are_mirrored(name: str) -> None:
    assert are_symmetric(FILTERS[name])


@pytest.mark.parametrize(
    "weights",
    [
        normal(8, 1, 5),
        normal(8, 3, 5),
        normal(8, 1, 1),
        np.ones((8, 1, 3)),
        np.zeros((8, 1, 3)),
        np.tile([0.0, 1, 0], (4, 1))[:, None],  # as a layer begins that passes its input on
        normal(16, 16),
        np.eye(16),
        np.ones((16, 8)),
    ],
)
def test_weights_are_no_filters(weights: np.ndarray) -> None:
    assert not are_symmetric(weights) and not are_wavelets(weights)


DB2 = np.array([1 + 3**0.5, 3 + 3**0.5, 3 - 3**0.5, 1 - 3**0.5]) / (4 * 2**0.5)


def test_wavelets() -> None:
    pair = np.stack([DB2, DB2[::-1] * [1, -1, 1, -1]])[:, None]
    assert are_wavelets(pair) and are_wavelets(pair.repeat(3, axis=0))
    assert not are_wavelets(2 * pair) and not are_wavelets(pair + 0.01)
    unit = normal(4, 1, 4)
    assert not are_wavelets(unit / np.sqrt((unit**2).sum(axis=2, keepdims=True)))


AWAY = np.abs(np.subtract.outer(AT, AT)).astype(float)
DISTANCES = {
    "ALiBi": -np.array([0.5, 0.25])[:, None, None] * AWAY,
    "ALiBi under a mask": np.where(np.triu(np.ones((16, 16)), 1) > 0, -1e9, -0.5 * AWAY),
    "a Gaussian": np.exp(-(AWAY**2) / 50),
    "a decay": 0.9**AWAY,
}


@pytest.mark.parametrize("name", DISTANCES)
def test_tables_of_distances(name: str) -> None:
    assert are_distances(DISTANCES[name])


@pytest.mark.parametrize(
    "table",
    [normal(31)[15 + np.subtract.outer(AT, AT)], normal(16)[AWAY.astype(int)], np.zeros((16, 16)), np.eye(16)],
)
def test_learnt_biases_of_relative_positions_are_no_distances(table: np.ndarray) -> None:
    assert not are_distances(table)


def test_axes_of_a_pca() -> None:
    turned = np.linalg.qr(normal(6, 6))[0]
    assert are_orthogonal(turned[:, :4]) and are_orthogonal(turned[:4] * normal(4)[:, None])
    assert not are_orthogonal(normal(6, 4)) and not are_orthogonal(np.eye(6)) and not are_orthogonal(normal(6))
