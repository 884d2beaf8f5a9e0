# SPDX-License-Identifier: Apache-2.0
"""Large values with small changes: what is subtracted is subtracted in float64, whatever comes after."""

from __future__ import annotations

import io

import numpy as np
import pytest
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.model import starter
from fedge_models.system.floats import lean, wide
from fedge_models.training import standardise
from fedge_models.training.precision import is_blurred, narrowed
from hypothesis import given
from hypothesis import strategies as st

LEVELS = st.sampled_from([1.2e6, 1e9, 1.7e9, 1e12])


def card(**more: object) -> Card:
    return Card("classify", (Channel("a"),), WindowSpec(1, 5, 5), labels=("u", "v"), **more)  # type: ignore[arg-type]


@given(level=LEVELS, seed=st.integers(0, 1000))
def test_standardised_values_are_those_of_float64(level: float, seed: int) -> None:
    x = level + np.random.default_rng(seed).normal(size=(300, 1, 5))
    scale = standardise.fit(x, card())
    wanted = (x - x.mean()) / x.std()
    assert scale.is_wide == bool(is_blurred(np.array(level), np.array(1.0)))
    np.testing.assert_allclose(scale(narrowed(x)), wanted, atol=2e-3 if not scale.is_wide else 1e-3)
    out = np.empty((1, 5), np.float32)
    np.testing.assert_array_equal(scale(x[7], out), scale(narrowed(x))[7])
    again = standardise.decode(standardise.encode(scale))
    np.testing.assert_array_equal(again(x), scale(x))


def test_ordinary_values_become_float32() -> None:
    x = 20 + np.random.default_rng(0).normal(size=(100, 2))
    assert narrowed(x).dtype == np.float32 and not standardise.fit(x).is_wide
    assert narrowed(x + 1e9).dtype == np.float64


def test_a_constant_that_float32_does_not_hold_needs_no_more() -> None:
    x = np.full((100, 1), 1e9 + 0.1)
    assert narrowed(x).dtype == np.float32
    assert float(np.abs(standardise.fit(x)(x + 0.5)).max()) < 0.01


def test_one_wild_value_is_no_scale() -> None:
    x = 1e9 + np.random.default_rng(0).normal(size=(1000, 1))
    x[17] = -1e12
    assert narrowed(x).dtype == np.float64


@pytest.mark.parametrize("kind", ["<i4", ">i4", "<u4", ">f8", "<i8"])
def test_what_has_more_digits_than_float32_stays_exact(kind: str) -> None:
    x = np.array([2**24 + 1, 7], kind)
    assert wide(x).dtype == np.float64 and wide(x).tolist() == [2**24 + 1, 7]


def test_what_came_in_float32_takes_no_more_memory() -> None:
    x = np.array([0.1, np.nan, 3], np.float32)
    assert wide(x) is x and lean(x.astype(np.float64)).dtype == np.float32
    assert lean(np.array([0.1])).dtype == np.float64 and wide(np.array([1, 2], np.int16)).dtype == np.float32


@given(level=LEVELS, step=st.floats(0.01, 1))
def test_formulas_of_a_counter_are_those_of_float64(level: float, step: float) -> None:
    model = starter(card(derive={"d": "diff(a)", "inc": "last(a) - first(a)"}))
    x = (level + np.arange(20) * step).reshape(4, 1, 5)
    rows = model.derived(x)
    np.testing.assert_array_equal(rows[:, 1, 1:], np.diff(x[:, 0], axis=-1))
    np.testing.assert_array_equal(rows[:, 2, 0], x[:, 0, -1] - x[:, 0, 0])


def test_a_model_learns_from_the_small_changes_of_a_large_value() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    x = 1.7e9 + rng.normal(size=(400, 1, 5)) * 0.3 + y[:, None, None]
    model = starter(card())
    model.train(x, y)
    assert model.evaluate(x, y)["accuracy"] > 0.9
    assert model.predict(x[:1]).shape == (1, 2)
    np.testing.assert_allclose(model.predict(x[:1]), model.predict(x)[:1], atol=1e-5)


def test_a_scale_of_an_earlier_version_is_read_as_it_was() -> None:
    file = io.BytesIO()
    np.savez(file, np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32))
    scale = standardise.decode(file.getvalue())
    assert not scale.is_wide and scale(np.ones((2, 1, 5))).dtype == np.float32
