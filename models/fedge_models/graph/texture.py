# SPDX-License-Identifier: Apache-2.0
"""A starter for pictures of surfaces: fixed oriented filters, their statistics over the picture, and trained layers.

A defect of a surface is a texture: how much structure of which size and direction there is, and how evenly it is
spread, not where it lies. So the energy of pairs of Gabor filters (Bovik et al. 1990, doi:10.1109/34.41384) at three
sizes is averaged in sixteen cells, and of the cells mean, spread, largest and smallest count. A few hundred pictures
are enough to train what follows, and sites that have few of them learn the same thing. The filters are frozen: ONNX
Runtime computes them once for each picture that is trained on, and they are never sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from .card import Card
from .zoo import Builder, outputs_of

if TYPE_CHECKING:
    import onnx

SIZE = 9  # of a filter, pixels
SPREAD = 1.4  # of its envelope across the wave, pixels; along it, twice as wide
WAVELENGTH = 3.5  # pixels
DIRECTIONS = 8
LEVELS = 3  # each sees the picture at half the size of the one before; fewer of a small picture
CELLS = 4  # a side
LEAST_SIDE = 2 * CELLS  # pixels
LARGEST_SIDE = 256  # pixels; a larger picture is averaged down first, as the filters would take tens of milliseconds
FLOOR = 0.01  # of an energy, in standard deviations of brightness, below which differences are noise
# Centre and size of the statistics of ordinary pictures, so that what follows is trained on numbers around 0.
ENERGY, BRIGHTNESS, EVENNESS = (-2.9, 0.5), (0.3, 0.5), (0.25, 0.15)
FILTERS = "filters"  # one tensor for all sizes
HEAD = "dense0.*, head.*"


def texture2d(card: Card, shape: Sequence[int] = (1, 64, 64), hidden: int = 32, seed: int = 0) -> onnx.ModelProto:
    """Make a net on pictures (batch, channels, height, width), with one output per label or target.

    Of each colour the brightness counts, and of their mean the texture. A card that names no `trainable` tensors gets
    the layers after the filters. Raises ValueError for a picture of less than `LEAST_SIDE` pixels a side.
    """
    channels, *sides = shape
    if min(sides) < LEAST_SIDE:
        raise ValueError(f"shape {tuple(shape)}: expected sides of at least {LEAST_SIDE} pixels")
    build, times = Builder(seed), math.ceil(max(sides) / LARGEST_SIDE)
    sides = _shrunk(build, sides, times)
    picture = build.last
    rows = [_statistics(build, _brightness(build, picture, [side // CELLS for side in sides]))]
    usual = [BRIGHTNESS] * (6 * channels) + [EVENNESS] * (2 * channels)
    build.last = picture
    if channels > 1:
        build.node("ReduceMean", axes=[1], keepdims=1)
    for level in range(LEVELS):
        sides = _shrunk(build, sides, 2 if level else 1)
        if min(sides) < LEAST_SIDE:
            break
        picture = build.last
        rows.append(_statistics(build, _energies(build, picture, [side // CELLS for side in sides])))
        usual += [ENERGY] * (6 * DIRECTIONS) + [EVENNESS] * (2 * DIRECTIONS)
        build.last = picture
    build.join(rows, axis=1)
    build.node("Sub", build.parameter("usual", np.array([centre for centre, _ in usual])))
    build.node("Div", build.parameter("size", np.array([size for _, size in usual])))
    build.dense("dense0", len(usual), hidden, relu=True)
    build.dense("head", hidden, outputs_of(card), relu=False)
    trained = HEAD if card.trainable == "*" else card.trainable
    made = msgspec.structs.replace(card, trainable=trained, shared=(*card.shared, FILTERS))
    return build.model(made, shape, [outputs_of(card)])


def _shrunk(build: Builder, sides: Sequence[int], times: int) -> list[int]:
    """Average squares of so many pixels a side; the sides then."""
    if times > 1:
        build.node("AveragePool", kernel_shape=[times, times], strides=[times, times])
    return [side // times for side in sides]


def gabor() -> NDArray[np.float64]:
    """Pairs of filters (2 * DIRECTIONS, 1, SIZE, SIZE), even and odd, without an answer to constant brightness."""
    side = np.arange(SIZE) - SIZE // 2
    x, y = np.meshgrid(side, side)
    found = []
    for phase in (0.0, math.pi / 2):
        for i in range(DIRECTIONS):
            angle = math.pi * i / DIRECTIONS
            across, along = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
            envelope = np.exp(-(across**2 + (along / 2) ** 2) / (2 * SPREAD**2))
            wave = envelope * np.cos(2 * math.pi * across / WAVELENGTH - phase)
            wave -= envelope * wave.sum() / envelope.sum()
            found.append(wave / np.abs(wave).sum())
    return np.stack(found)[:, None]


def _energies(build: Builder, picture: str, cell: Sequence[int]) -> list[str]:
    """Logarithms of mean and spread of the energy of each direction in each cell."""
    half, build.last = SIZE // 2, picture
    build.node("Pad", build.integers("border", [0, 0, half, half, 0, 0, half, half]), mode="edge")
    build.node("Conv", build.parameter(FILTERS, gabor()))
    build.node("Mul", build.last)
    squares = build.last
    even, odd = (_directions(build, squares, start) for start in (0, DIRECTIONS))
    build.last = even
    build.node("Add", odd)
    energy = build.last
    build.node("Sqrt")
    build.node("AveragePool", kernel_shape=cell, strides=cell)
    mean, build.last = build.last, energy
    build.node("AveragePool", kernel_shape=cell, strides=cell)
    return [_logarithm(build, name) for name in (mean, _spread(build, build.last, mean))]


def _directions(build: Builder, maps: str, start: int) -> str:
    """The maps of all directions from `start` on."""
    build.last, ends = maps, (start, start + DIRECTIONS)
    build.node("Slice", *(build.integers(f"map{end}", [end]) for end in ends), build.integers("maps", [1]))
    return build.last


def _brightness(build: Builder, picture: str, cell: Sequence[int]) -> list[str]:
    """Mean and spread of the brightness in each cell."""
    build.last = picture
    build.node("AveragePool", kernel_shape=cell, strides=cell)
    mean = build.last
    build.last = picture
    build.node("Mul", picture)
    build.node("AveragePool", kernel_shape=cell, strides=cell)
    return [mean, _spread(build, build.last, mean)]


def _spread(build: Builder, squares: str, mean: str) -> str:
    """The standard deviation, of the mean of squares and the mean."""
    build.last = mean
    build.node("Mul", mean)
    below = build.last
    build.last = squares
    build.node("Sub", below)
    build.node("Relu")
    build.node("Sqrt")
    return build.last


def _logarithm(build: Builder, name: str) -> str:
    build.last = name
    build.node("Add", build.parameter("floor", np.array(FLOOR)))
    build.node("Log")
    return build.last


def _statistics(build: Builder, maps: Sequence[str]) -> str:
    """Mean, largest and smallest of the cells of each map, and their spread, as one row."""
    build.join(maps, axis=1)
    cells, found = build.last, []
    for kind in ("ReduceMean", "ReduceMax", "ReduceMin"):
        build.last = cells
        build.node(kind, axes=[2, 3], keepdims=0)
        found.append(build.last)
    build.last = cells
    build.node("Mul", cells)
    build.node("ReduceMean", axes=[2, 3], keepdims=0)
    build.join([*found, _spread(build, build.last, found[0])], axis=1)
    return build.last
