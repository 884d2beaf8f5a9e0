# SPDX-License-Identifier: Apache-2.0
"""Exact noise, clipping to a norm that holds after rounding, and what it costs, against `dp-accounting`."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from fedge_models.messages.quantize import LIMIT, dequantize, quantize
from fedge_models.privacy import accounting, discrete_gaussian, mechanism
from fedge_models.privacy.discrete_gaussian import SIGMA, Bits, Words, below, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.counterparts import counterpart
from support.examples import examples


def seeded(seed: int) -> Bits:
    rng = np.random.default_rng(seed)

    def bits(count: int) -> Words:
        return rng.integers(0, 2**64, count, dtype=np.uint64)

    return bits


@pytest.fixture(scope="module")
def drawn() -> discrete_gaussian.Integers:
    return sample(400_000, seeded(1))


# noise


def test_noise_has_the_moments_of_a_gaussian(drawn: discrete_gaussian.Integers) -> None:
    z, n = drawn / SIGMA, len(drawn)
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # of z^power, of a standard normal
        assert abs(float((z**power).mean()) - expected) < 4 * math.sqrt(variance / n), power
    assert len(np.unique(drawn)) > 150_000  # every integer can occur, not the few that floats reach


def test_noise_falls_off_as_a_gaussian_does(drawn: discrete_gaussian.Integers) -> None:
    """A sampler that is right near the middle and wrong in the tail gives a wrong delta."""
    n = len(drawn)
    for sigmas in (0.1, 0.5, 1, 2, 3, 4):
        inside = math.erf(sigmas / math.sqrt(2))
        found = float((np.abs(drawn) <= sigmas * SIGMA).mean())
        assert abs(found - inside) < 4 * math.sqrt(inside * (1 - inside) / n) + 1 / SIGMA, sigmas


def test_noise_is_even_in_its_lowest_bits(drawn: discrete_gaussian.Integers) -> None:
    """Mironov 2012: least significant bits that are not evenly spread tell which value the noise was added to."""
    counts = np.bincount(drawn & 255, minlength=256)
    expected = len(drawn) / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 4 * math.sqrt(2 * 255)  # chi-squared


def test_same_bits_same_noise_and_the_system_gives_others() -> None:
    np.testing.assert_array_equal(sample(100, seeded(7)), sample(100, seeded(7)))
    assert (sample(100) != sample(100)).any()


def test_bounded_integers_have_no_bias_of_a_remainder() -> None:
    """With 3 · 2^61 a bare remainder would give the lower 2^62 numbers twice as often as the others."""
    bound = 3 << 60
    found = below(bound, 20_000, seeded(2))
    assert found.min() >= 0 and found.max() < bound
    assert abs(float((found < bound // 3).mean()) - 1 / 3) < 4 * math.sqrt(2 / 9 / 20_000)


def test_words_of_an_incomplete_cycle_are_drawn_again() -> None:
    words: Iterator[int] = iter([2**64 - 1, 5])

    def bits(count: int) -> Words:
        return np.array([next(words) for _ in range(count)], np.uint64)

    assert below(3, 1, bits).tolist() == [2]  # 2^64 = 3 k + 1: the last word begins a cycle that has no end
    words = iter([2**64 - 1, 5])
    assert below(10, 1, bits).tolist() == [5]


# clipping

VECTORS = arrays(np.float32, st.integers(1, 60), elements=st.floats(-(2.0**30), 2.0**30, width=32))
CLIPS = st.floats(1e-6, 1e6)
MULTIPLIERS = st.floats(2**-10, 1e4)


@given(VECTORS, CLIPS, MULTIPLIERS)
def test_norm_on_the_lattice_never_passes_the_clip_norm(values: Any, clip: float, multiplier: float) -> None:
    found = mechanism.to_lattice(values, mechanism.norm(values), clip, multiplier)
    squares = sum(int(i) ** 2 for i in found)
    assert Fraction(multiplier) ** 2 * squares <= SIGMA**2  # exactly: |y| <= σ / noise multiplier


@given(VECTORS, CLIPS, MULTIPLIERS)
def test_what_is_within_the_clip_norm_stays_as_it_is(values: Any, clip: float, multiplier: float) -> None:
    length = mechanism.norm(values)
    found = mechanism.from_lattice(mechanism.to_lattice(values, length, clip, multiplier), clip, multiplier)
    wanted = values.astype(np.float64) * (min(1.0, clip / length) if length else 1.0)
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1.1 * mechanism.unit(clip, multiplier))


@settings(max_examples=examples(20))
@given(st.integers(0, 2**32), st.floats(0.1, 10), st.floats(0.5, 20))
def test_clipped_update_is_within_its_bound_after_coding(seed: int, clip: float, multiplier: float) -> None:
    """Before noise: what int8 coding adds to the norm is at most half a step a parameter."""
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=300) * 10 ** rng.uniform(-3, 3)).astype(np.float32)
    integers = mechanism.to_lattice(values, mechanism.norm(values), clip, multiplier)
    clipped = mechanism.from_lattice(integers, clip, multiplier)
    steps = np.full(300, 4 * clip / LIMIT, np.float32)
    coded = dequantize(quantize(clipped, steps), steps)
    assert mechanism.norm(coded) <= clip * (1 + 1e-6) + math.sqrt(300) * 2 * clip / LIMIT


def test_noised_vector_is_the_clipped_one_and_the_lattices_noise() -> None:
    values = np.full(1000, 5.0, np.float32)
    found = mechanism.noised(values, 3.0, 2.0, seeded(4))
    noise = sample(1000, seeded(4)) * mechanism.unit(3.0, 2.0)
    np.testing.assert_allclose(found - noise, 3.0 / math.sqrt(1000), rtol=1e-3)
    assert float(noise.std()) == pytest.approx(6.0, rel=0.1)


def test_vector_that_is_not_finite_is_not_released() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            mechanism.noised(np.array([1, bad], np.float32), 1.0, 1.0)


# accounting


def exact_delta(multiplier: float, epsilon: float) -> float:
    """Balle & Wang 2018, theorem 8: delta of one Gaussian release of sensitivity 1."""

    def cdf(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    a, b = 1 / (2 * multiplier), epsilon * multiplier
    return cdf(a - b) - math.exp(epsilon) * cdf(-a - b)


@pytest.mark.parametrize("multiplier", [0.3, 1.0, 4.0, 50.0])
def test_one_release_costs_no_less_than_it_exactly_does(multiplier: float) -> None:
    found = accounting.zcdp_epsilon(accounting.zcdp(multiplier), 1e-5)
    assert exact_delta(multiplier, found) <= 1e-5  # it holds
    assert exact_delta(multiplier, 0.8 * found) > 1e-5  # and is not far off


@given(st.floats(0.01, 50), st.floats(1e-9, 0.4))
def test_budget_is_the_most_that_is_within_the_limit(limit: float, delta: float) -> None:
    rho = accounting.zcdp_budget(limit, delta)
    assert accounting.zcdp_epsilon(rho, delta) <= limit < accounting.zcdp_epsilon(rho * 1.001, delta)


def integer_moment(sigma: float, rate: float, order: int) -> float:
    """log A(α) written out: Mironov, Talwar, Zhang 2019, section 3.3."""
    exponents = [
        math.log(math.comb(order, k))
        + (order - k) * math.log1p(-rate)
        + k * math.log(rate)
        + (k * k - k) / 2 / sigma**2
        for k in range(order + 1)
    ]
    return max(exponents) + math.log(math.fsum(math.exp(e - max(exponents)) for e in exponents))


@pytest.mark.parametrize("sigma", [0.5, 1.1, 8.0])
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.99])
def test_sampled_moments_are_those_of_the_binomial_sum(sigma: float, rate: float) -> None:
    orders = np.array([2.0, 3, 7, 20])
    found = accounting._moments(sigma, rate, orders)
    np.testing.assert_allclose(found, [integer_moment(sigma, rate, int(o)) for o in orders], rtol=1e-9, atol=1e-14)


def test_sampling_never_costs_more_and_everyone_costs_the_whole() -> None:
    for sigma in (0.1, 0.25, 1.0, 30.0):
        whole = accounting.sampled(sigma, 1.0)
        np.testing.assert_allclose(whole, accounting.ORDERS / (2 * sigma**2), rtol=1e-12)
        before = np.zeros_like(whole)
        for rate in (0.01, 0.2, 0.9):
            now = accounting.sampled(sigma, rate)
            assert (before <= now * (1 + 1e-9)).all() and (now <= whole).all()
            before = now


TABLE = [(s, q, n, d) for s in (0.5, 1.0, 4.0) for q in (0.01, 0.2, 1.0) for n in (1, 100) for d in (1e-3, 1e-6)]


@pytest.mark.parametrize(("sigma", "rate", "rounds", "delta"), TABLE)
def test_epsilon_is_that_of_dp_accounting(sigma: float, rate: float, rounds: int, delta: float) -> None:
    """Google's RDP accountant over its own orders, some of which do not converge there: never much more than it says,
    and never less than what the privacy loss distribution proves to be lost."""
    peer, pld = counterpart("dp_accounting"), counterpart("dp_accounting.pld")
    logging.getLogger("absl").setLevel(logging.ERROR)
    event = peer.PoissonSampledDpEvent(rate, peer.GaussianDpEvent(sigma))
    by_rdp = counterpart("dp_accounting.rdp").RdpAccountant().compose(event, rounds).get_epsilon(delta)
    found = accounting.epsilon(rounds * accounting.sampled(sigma, rate), delta)
    assert found <= by_rdp * (1 + 2e-3)
    if by_rdp < 20:  # beyond, PLD takes seconds
        lost = pld.PLDAccountant(value_discretization_interval=1e-3).compose(event, rounds).get_epsilon(delta)
        assert found >= lost * (1 - 1e-2) - 1e-3


@pytest.mark.parametrize("rounds", [1, 10, 1000])
def test_zcdp_is_that_of_dp_accounting(rounds: int) -> None:
    """A node's updates: everyone, every time, and any two data sets a clip norm twice apart."""
    peer, rdp = counterpart("dp_accounting"), counterpart("dp_accounting.rdp")
    orders = accounting.ORDERS.tolist()
    by_rdp = rdp.RdpAccountant(orders).compose(peer.GaussianDpEvent(20 / 2), rounds).get_epsilon(1e-5)
    assert accounting.zcdp_epsilon(rounds * accounting.zcdp(20, 2), 1e-5) == pytest.approx(by_rdp, rel=1e-9)
