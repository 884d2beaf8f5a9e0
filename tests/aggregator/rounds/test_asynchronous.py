# SPDX-License-Identifier: Apache-2.0
"""Updates that come late, or while others are averaged: their weight, and why they are refused."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.rounds import average, contribution
from fedge_models.errors import StaleError
from fedge_models.messages.quantize import LIMIT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.federation_bench import ASYNCHRONOUS, MakeBench, T
from support.waiting import LONGEST_S


def test_gateway_that_comes_late_counts_with_fedbuffs_weight_on_the_newest_grid(make_bench: MakeBench) -> None:
    made = make_bench(ASYNCHRONOUS)
    late = made.update("d", code=40, spread=np.full(T, 0.1, np.float32))
    first = made.federation.current.header.steps
    for _ in range(3):  # three releases whose nodes want a finer grid
        made.send("a", spread=np.full(T, 0.05, np.float32))
        made.send("b", spread=np.full(T, 0.05, np.float32))
        made.step()
    before = made.federation.current
    assert before.header.version == 4 and before.header.steps[0] == pytest.approx(first[0] / 2)
    made.send("d", late)
    made.send("c", code=10)
    assert made.step() == 5
    # FedBuff: (1 * 10 + 1/2 * 80) / 2 steps of the newest grid; 40 steps of the old one are 80 of it
    moved = made.federation.current.weights - before.weights
    np.testing.assert_allclose(moved, (10 + 80 / 2) / 2 * before.header.steps[0] + before.residual, rtol=0.01)
    details = made.store.releases.listed("f")[-1].details
    assert {n: v["staleness"] for n, v in details["nodes"].items()} == {"c": 0, "d": 3}
    assert made.federation.current.header.figures["staleness"] == 1.5


def test_update_older_than_the_maximum_staleness_is_refused_and_written_down(make_bench: MakeBench) -> None:
    made = make_bench(ASYNCHRONOUS)
    late = made.update("d")
    for _ in range(4):
        made.round("a", "b")
    with pytest.raises(StaleError, match="base release 1 of node d is not open: releases 2 to 5 are"):
        made.send("d", late)
    assert made.audit("refusal") == [
        ("d", "base release 1 of node d is not open: releases 2 to 5 are; fetch the newest and retrain")
    ]


def test_update_that_arrives_while_a_buffer_is_averaged_is_in_the_next_release(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bench(ASYNCHRONOUS)
    body, plain = made.update("c"), average.average

    def meanwhile(*arguments: Any) -> Any:
        sender = threading.Thread(target=made.send, args=("c", body))
        sender.start()
        sender.join(LONGEST_S)
        assert not sender.is_alive()
        return plain(*arguments)

    monkeypatch.setattr(average, "average", meanwhile)
    made.send("a")
    made.send("b")
    assert made.step() == 2
    monkeypatch.setattr(average, "average", plain)
    assert list(made.store.updates.arrivals("f")) == ["c"]
    made.send("a")
    assert made.step() == 3
    assert set(made.store.releases.listed("f")[-1].details["nodes"]) == {"a", "c"}


def test_update_that_arrives_while_a_synchronous_round_is_averaged_waits_and_is_asked_to_retrain(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bench("quorum = 2")
    body, plain, refusals = made.update("c"), average.average, list[str]()

    def try_it() -> None:
        try:
            made.send("c", body)
        except StaleError as e:
            refusals.append(str(e))

    sender = threading.Thread(target=try_it)

    def meanwhile(*arguments: Any) -> Any:
        sender.start()
        sender.join(0.2)
        assert sender.is_alive()  # neither acknowledged nor refused yet
        return plain(*arguments)

    monkeypatch.setattr(average, "average", meanwhile)
    made.round("a", "b")
    sender.join(LONGEST_S)
    assert "base release 1 of node c is not open" in refusals[0]


codes = hnp.arrays(np.int8, 20, elements=st.integers(-LIMIT, LIMIT))
steps = hnp.arrays(np.float32, 2, elements=st.floats(2**-10, 1, width=32))
SIZES = np.array([15, 5])


@given(codes, codes, steps, steps)
def test_regrid_is_nearest_within_the_grid_and_never_pushes_updates_apart(
    one: Any, two: Any, old: Any, new: Any
) -> None:
    wide_old, wide_new = np.repeat(old, SIZES).astype(np.float64), np.repeat(new, SIZES).astype(np.float64)
    got = contribution.regrid(one, old, new, SIZES)
    wanted = np.clip(one * wide_old, -LIMIT * wide_new, LIMIT * wide_new)
    assert (np.abs(got * wide_new - wanted) <= 0.5001 * wide_new).all()
    apart = np.abs((got - contribution.regrid(two, old, new, SIZES).astype(np.int64)) * wide_new)
    assert (apart <= np.abs((one.astype(np.int64) - two) * wide_old) + 1.0001 * wide_new).all()
    np.testing.assert_array_equal(contribution.regrid(one, old, old.copy(), SIZES), one)


def test_no_claim_of_samples_says_how_far_a_release_moves() -> None:
    """One stale gateway that claims as much as the cap allows."""

    def made(claim: int) -> contribution.Weighing:
        honest = [contribution.Contribution(f"h{i}", np.ones(1, np.float32), 60, 0, {}) for i in range(9)]
        stale = contribution.Contribution("s", np.ones(1, np.float32), claim, 20, {})
        return contribution.weigh([*honest, stale], 0.5)

    assert made(10_000).damping == made(60).damping == pytest.approx(0.92, abs=0.005)
