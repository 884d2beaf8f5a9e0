# SPDX-License-Identifier: Apache-2.0
"""Features of windows against written-out formulas and recordings whose defects are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.windows.features import COUNTED, SINGLE, Preparation, bridge, extract, feature_count
from fedge_models.errors import ModelError
from fedge_models.graph.bearing import Bearing, Fault
from fedge_models.graph.card import Card, Channel, WindowSpec


def test_features_against_written_out_formulas() -> None:
    x = np.random.default_rng(0).normal(3, 2, (2, 256)).astype(np.float32)
    names = ("mean", "std", "rms", "peak", "crest", "kurtosis", "min", "max")
    got = extract(x, names).reshape(2, -1)
    for row, f in zip(x.astype(np.float64), got, strict=True):
        c = row - row.mean()
        peak = abs(c).max()
        expected = [
            row.mean(),
            row.std(),
            (row**2).mean() ** 0.5,
            peak,
            peak / row.std(),
            (c**4).mean() / row.var() ** 2,
        ]
        np.testing.assert_allclose(f, [*expected, row.min(), row.max()], rtol=1e-4)


def test_features_are_in_the_order_that_the_reference_says() -> None:
    text = (Path(__file__).parents[3] / "docs/reference/model-card.md").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("mean(current_A), ")]
    x = {c: np.random.default_rng(k).normal(k, 2, (1, 64)) for k, c in enumerate(("current_A", "pressure_bar"))}

    def value(name: str) -> float:
        feature, channel = name.removesuffix(")").split("(")
        feature, _, band = feature.partition("_")
        found = extract(x[channel], (f"{feature}:2" if band else feature,)).ravel()
        return float(found[int(band or 0)])

    expected = [value(name) for name in line.split(", ")]
    got = extract(np.concatenate(list(x.values())), ("mean", "std", "bands:2"))
    assert len(expected) == 8
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_slope_is_the_change_over_the_window() -> None:
    x = np.linspace(2, 5, 100, dtype=np.float32)[None]
    assert extract(x, ("slope",))[0] == pytest.approx(3, rel=1e-4)


def test_bands_find_a_tone_where_it_is() -> None:
    t = np.arange(512) / 512
    for band in range(4):
        x = np.sin(2 * np.pi * (32 + 64 * band) * t).astype(np.float32)[None]
        assert extract(x, ("bands:4",)).argmax() == band


def test_envelope_finds_the_rate_of_impacts_that_the_spectrum_hides() -> None:
    t = np.arange(4096) / 4096
    for band in range(4):
        rate = 16 + 32 * band  # up to 128, a thirty-second of the sampling rate
        x = ((1 + np.cos(2 * np.pi * rate * t)) * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)[None]
        assert extract(x, ("envelope:4",)).argmax() == band
        assert extract(x, ("bands:16",)).argmax() == 7  # where it rings, whatever the rate


RATES: dict[Fault, float] = {
    "ftf": 0.5,
    "bpfo": 1.0,
    "bpfi": 1.5,
    "bsf": 0.7,
}  # of features that want them, where it does not matter
MFPT = Bearing(8, 0.235, 1.245, shaft_hz=25.0)  # inches; the set's text gives 81.125, 118.875 and 63.91 Hz


def strikes(rate_hz: float, sampling_hz: float, seconds: float, seed: int = 0) -> np.ndarray:
    """A resonance at a fifth of the sampling rate that is struck so often a second, in noise."""
    t = np.arange(round(sampling_hz * seconds)) / sampling_hz
    since = t % (1 / rate_hz)
    rung = np.exp(-since * 800) * np.sin(2 * np.pi * sampling_hz / 5 * since)
    return (rung + 0.3 * np.random.default_rng(seed).normal(size=len(t))).astype(np.float32)[None]


def test_rates_of_a_bearing_are_those_of_the_literature() -> None:
    orders = MFPT.orders()
    assert orders["bpfo"] * 25 == pytest.approx(81.125, abs=0.01)
    assert orders["bpfi"] * 25 == pytest.approx(118.875, abs=0.01)
    assert orders["bsf"] * 25 == pytest.approx(63.91, abs=0.1)
    assert orders["bpfo"] + orders["bpfi"] == pytest.approx(8)  # every element passes both races
    tilted = Bearing(8, 0.235, 1.245, contact_angle_deg=60).orders()
    assert orders["bpfo"] < tilted["bpfo"] < 4 < tilted["bpfi"] < orders["bpfi"]


@pytest.mark.parametrize("fault", ["bpfo", "bpfi", "bsf"])
@pytest.mark.parametrize("slip", [0.985, 1.0, 1.015])
def test_a_defect_stands_out_at_its_own_rate(fault: Fault, slip: float) -> None:
    names = ("bpfo:2", "bpfi:2", "bsf:2")
    rates = {f: order * 25 for f, order in MFPT.orders().items()}
    found = extract(strikes(rates[fault] * slip, 20_000, 2.0), names, 20_000, rates).reshape(3, 2)  # lines of half a Hz
    at = [n.partition(":")[0] for n in names].index(fault)
    assert found[at, 0] > 1.5  # more than thirty times the median line
    assert found[at, 0] > np.delete(found[:, 0], at).max() + 0.7


def test_a_shaft_that_speeds_up_takes_its_rates_along() -> None:
    card = Card("anomaly", (Channel("a"),), WindowSpec(20_000, 16_000, 16_000), ("bpfo:1",), bearing=MFPT)
    made, order = Preparation(card), MFPT.orders()["bpfo"]
    signal = strikes(order * 31, 20_000, 0.8)
    assert made(signal, 31.0)[0] > made(signal)[0] + 0.7  # alone it would look where a shaft of 25 Hz strikes
    assert made(signal, 0.0)[0] == 0  # it stands still: nothing strikes


def test_a_rate_beyond_the_spectrum_is_no_defect() -> None:
    rates: dict[Fault, float] = {"ftf": 0.1, "bpfo": 600.0, "bpfi": 1e6, "bsf": 500.0}
    found = extract(strikes(100, 20_000, 0.8), ("ftf:2", "bpfo:2", "bpfi:1", "bsf:2"), 20_000, rates)
    assert found[[0, 1, 3, 4, 6]].tolist() == [0, 0, 0, 0, 0]
    assert found[[2, 5]].all()


def test_a_band_is_given_in_hertz() -> None:
    t = np.arange(4096) / 8192
    x = np.sin(2 * np.pi * 700 * t).astype(np.float32)[None]
    low, at, high = extract(x, ("band:100-600", "band:600-800", "band:800-3000"), 8192)
    assert at > max(low, high) + 4  # powers of ten


def test_a_band_ends_before_the_next_begins() -> None:
    x = np.random.default_rng(0).normal(size=(1, 1024)).astype(np.float32)
    bands = extract(x, ("band:100-200", "band:200-300", "band:100-300"), 1024)
    power = np.abs(np.fft.rfft((x[0] - x.mean()) * np.hanning(1024))) ** 2 / 1024
    np.testing.assert_allclose(10**bands, [power[100:200].sum(), power[200:300].sum(), power[100:300].sum()], rtol=1e-4)


def test_channels_with_a_scale_on_the_card_enter_scaled() -> None:
    channels = (Channel("a", centre=3.0, scale=2.0), Channel("b"))
    made = Preparation(Card("anomaly", channels, WindowSpec(1, 2, 1), ("mean", "max")))
    assert made(np.array([[3, 7], [5, 6]], np.float32)).tolist() == [1, 2, 5.5, 6]


def test_constant_and_empty_channels_give_finite_features() -> None:
    x = np.full((3, 64), 7, np.float32)
    x[1] = np.nan
    names = (*SINGLE, *(f"{n}:4" for n in COUNTED), "band:1-3")
    assert np.isfinite(extract(bridge(x), names, 8.0, RATES)).all()


def test_count_is_what_extract_gives() -> None:
    names = (*SINGLE, *(f"{n}:5" for n in COUNTED), "band:1-3")
    assert feature_count(names, 3) == len(extract(np.ones((3, 64), np.float32), names, 8.0, RATES)) == 3 * 40
    assert extract(np.ones((2, 3, 64), np.float32), ()).shape == (2, 3, 64)


def test_gaps_are_bridged_linearly() -> None:
    x = np.array([[[np.nan, 1, np.nan, 3, np.nan]]], np.float32)
    assert bridge(x)[0, 0].tolist() == [1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    "name", ["means", "bands", "bands:0", "mean:3", "bands:x", "bpfo", "bpfo:65", "band:5", "band:9-5", "band:-1-5"]
)
def test_unknown_feature_is_named(name: str) -> None:
    with pytest.raises(ModelError, match="not known"):
        feature_count((name,), 1)


EVERY = (*SINGLE, *(f"{kind}:4" for kind in COUNTED), "band:10-100")


@pytest.mark.parametrize("value", [1e9, -1e12, 1e19, 1e25, 3.4e38, -3.4e38])
@pytest.mark.parametrize("length", [8, 256])
def test_features_are_finite_whatever_one_reading_is(value: float, length: int) -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, length)).astype(np.float32)
    clean = extract(x, EVERY, 256.0, RATES).reshape(3, 2, -1)
    x[1, 0, 3] = value
    found = extract(x, EVERY, 256.0, RATES).reshape(3, 2, -1)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[[0, 2]], clean[[0, 2]])  # other windows are what they were
    np.testing.assert_array_equal(found[1, 1], clean[1, 1])  # and other channels
    x[:] = value
    assert np.isfinite(extract(x, EVERY, 256.0, RATES)).all()


def test_a_wild_window_has_the_features_of_exact_arithmetic() -> None:
    x = np.random.default_rng(0).normal(size=(1, 200)).astype(np.float32)
    x[0, 5] = 1e20
    row, names = x[0].astype(np.float64), ("mean", "std", "rms", "crest", "kurtosis")
    c = row - row.mean()
    expected = [row.mean(), row.std(), (row**2).mean() ** 0.5, abs(c).max() / row.std(), (c**4).mean() / row.var() ** 2]
    np.testing.assert_allclose(extract(x, names), expected, rtol=1e-5)


def test_a_scaled_wild_reading_stays_finite() -> None:
    card = Card("anomaly", (Channel("a", centre=0.0, scale=0.001),), WindowSpec(1, 4, 2))
    assert np.isfinite(Preparation(card)(np.array([[1.0, 3.4e38, -3.4e38, 0.0]], np.float32))).all()


@pytest.mark.parametrize("shaft_hz", [3e38, -3e38, np.inf, np.nan, 0.0])
def test_a_wild_shaft_speed_gives_no_strikes(shaft_hz: float) -> None:
    card = Card("anomaly", (Channel("a"),), WindowSpec(1024, 1024, 512), ("bpfo:2",), bearing=MFPT)
    x = np.random.default_rng(0).normal(size=(1, 1024)).astype(np.float32)
    assert Preparation(card)(x, shaft_hz).tolist() == [0, 0]
