# SPDX-License-Identifier: Apache-2.0
"""The release chain is bit-exact, whether the next release comes of a round, a renewal or a rollback."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_aggregator.federation import publish
from fedge_models.messages.quantize import expand
from fedge_models.messages.trust_chain import Anchor, verify_release

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIZES = np.array([300, 20], np.int64)
SIGNER = publish.Signer("f", bytes(32), KEY, 3600)
ANCHOR = Anchor(KEY.public_key(), "f", bytes(32), SIZES)


def chain(rounds: int) -> tuple[list[publish.Published], np.ndarray]:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=320).astype(np.float32)
    releases, exact = [publish.first_release(SIGNER, weights, SIZES, 1000)], weights.astype(np.float64)
    for _ in range(rounds):
        before = releases[-1]
        aggregate = rng.normal(0, 20, 320).astype(np.float32)
        exact += aggregate.astype(np.float64) * expand(before.header.steps, SIZES)
        spreads = [np.array([0.2, 0.02], np.float32)] * 3
        releases.append(publish.next_release(SIGNER, before, aggregate, spreads, SIZES, "r", {"nodes": 3.0}, 1000))
    return releases, exact


def test_nodes_that_follow_differences_hold_the_same_bits_as_one_that_comes_late() -> None:
    releases, _ = chain(20)
    head = verify_release(releases[0].full, ANCHOR, None, 1500)
    for published in releases[1:]:
        assert published.difference is not None
        head = verify_release(published.difference, ANCHOR, head, 1500)
    late = verify_release(releases[-1].full, ANCHOR, None, 1500)
    assert head.weights.tobytes() == late.weights.tobytes() == releases[-1].weights.tobytes()
    assert head.hash == late.hash


def test_a_long_chain_does_not_drift_from_the_exact_sum() -> None:
    releases, exact = chain(100)
    last = releases[-1]
    # What is missing is exactly what the residual still owes, plus float32 rounding.
    np.testing.assert_allclose(last.weights + last.residual, exact, atol=2e-4)


def test_grid_follows_the_median_spread_within_bounds() -> None:
    releases, _ = chain(6)
    assert releases[-1].header.steps == pytest.approx([0.2 / 127, 0.02 / 127], rel=1e-5)
    honest = [np.array([0.1], np.float32)] * 2
    liar = np.array([1e6], np.float32)
    steps = np.array([0.1 / 127], np.float32)
    assert publish.next_grid(steps, [*honest, liar]) == pytest.approx(steps)
    assert publish.next_grid(steps, [liar]) == pytest.approx(steps * 4)


def test_difference_is_a_quarter_of_the_full_release_or_less() -> None:
    releases, _ = chain(2)
    assert releases[-1].difference is not None
    assert len(releases[-1].difference) < 0.6 * len(releases[-1].full)  # 320 weights: headers weigh too


def test_reissued_release_carries_the_given_bits_and_nodes_follow_from_any_version() -> None:
    releases, _ = chain(3)
    old, newest = releases[1], releases[-1]
    made = publish.reissue(SIGNER, newest, old.weights, old.header.steps, old.residual, "rollback to release 2", 1000)
    assert made.header.version == newest.header.version + 1 and made.difference is None
    head = verify_release(newest.full, ANCHOR, None, 1500)
    assert verify_release(made.full, ANCHOR, head, 1500).weights.tobytes() == old.weights.tobytes()
    assert made.header.steps.tobytes() == old.header.steps.tobytes()
