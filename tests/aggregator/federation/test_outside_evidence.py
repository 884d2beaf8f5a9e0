# SPDX-License-Identifier: Apache-2.0
"""Evidence from outside the updates: the operator's held-back rows, and what other sites' canaries say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fedge_aggregator.rounds.trust import canaries, heldback
from fedge_models.errors import ConfigError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import standardise
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit
from hypothesis import given
from hypothesis import strategies as st

CARD = Card("classify", (Channel("a"),), WindowSpec(1, 4, 4), labels=("ok", "worn", "broken"), normal="ok")


@pytest.fixture
def graph() -> TrainableGraph:
    return TrainableGraph.load(zoo.mlp(CARD, (1, 4), (16,), 1).SerializeToString())


def drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 3
    centres = np.random.default_rng(5).normal(size=(3, 1, 4))
    return (centres[y] + 0.3 * rng.normal(size=(n, 1, 4))).astype(np.float32), y


def trained(
    graph: TrainableGraph, start: np.ndarray, y_of: list[np.ndarray], x_of: list[np.ndarray]
) -> list[np.ndarray]:
    rng, updates = np.random.default_rng(3), []
    for x, y in zip(x_of, y_of, strict=True):
        graph.set_params(start)
        fit(graph, x, y, TrainingConfig(epochs=3, learning_rate=0.01), rng)
        updates.append(graph.params - start)
    return updates


def test_label_flip_is_found_on_held_back_rows_and_nobody_else(graph: TrainableGraph) -> None:
    rng, start = np.random.default_rng(0), graph.params.copy()
    data = [drawn(rng, 90) for _ in range(8)]
    labels = [2 - y if i < 2 else y for i, (_, y) in enumerate(data)]
    updates = trained(graph, start, labels, [x for x, _ in data])
    x, y = drawn(rng, 200)
    names = [f"n{i}" for i in range(8)]
    everyone, without = heldback.losses(graph, start, updates, np.ones(8), heldback.HeldBack(x, y))
    assert set(heldback.find(names, everyone, without)) == {"n0", "n1"}
    shares = np.array([0, 0, 1, 1, 1, 1, 1, 1.0])  # they are assessed in quarantine too
    everyone, without = heldback.losses(graph, start, updates, shares, heldback.HeldBack(x, y))
    assert set(heldback.find(names, everyone, without)) == {"n0", "n1"}


def test_honest_one_class_a_site_is_not_accused_on_held_back_rows(graph: TrainableGraph) -> None:
    rng, start = np.random.default_rng(0), graph.params.copy()
    data = [drawn(rng, 90) for _ in range(9)]
    chosen = [(x[y == i % 3], y[y == i % 3]) for i, (x, y) in enumerate(data)]
    updates = trained(graph, start, [y for _, y in chosen], [x for x, _ in chosen])
    x, y = drawn(rng, 200)
    everyone, without = heldback.losses(graph, start, updates, np.ones(9), heldback.HeldBack(x, y))
    assert heldback.find([f"n{i}" for i in range(9)], everyone, without) == {}


def test_losses_are_those_of_the_mean_and_of_the_mean_without_each(graph: TrainableGraph) -> None:
    rng, start = np.random.default_rng(0), graph.params.copy()
    updates = [rng.normal(0, 0.1, start.shape).astype(np.float32) for _ in range(3)]
    held = heldback.HeldBack(*drawn(rng, 30))
    shares = np.array([1.0, 2.0, 3.0])
    everyone, without = heldback.losses(graph, start, updates, shares, held)

    def reference(step: np.ndarray) -> np.ndarray:
        graph.set_params((start + step).astype(np.float32))
        out = graph.logits(held.x).astype(np.float64)
        return np.log(np.exp(out).sum(axis=1)) - out[np.arange(30), held.y]

    np.testing.assert_allclose(
        everyone, reference((updates[0] + 2 * updates[1] + 3 * updates[2]) / 6), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(without[0], reference((2 * updates[1] + 3 * updates[2]) / 5), rtol=1e-3, atol=1e-5)


def test_held_back_file_that_does_not_fit_is_refused(graph: TrainableGraph, tmp_path: Path) -> None:
    x, y = drawn(np.random.default_rng(0), 30)
    np.savez(tmp_path / "good.npz", x=x, y=y)
    assert len(heldback.load(tmp_path / "good.npz", graph).x) == 30
    np.savez(tmp_path / "shape.npz", x=x[:, :, :3], y=y)
    np.savez(tmp_path / "labels.npz", x=x, y=y[:9])
    np.savez(tmp_path / "missing.npz", x=x)
    np.savez(tmp_path / "nan.npz", x=x * np.nan, y=y)
    np.savez(tmp_path / "pickled.npz", x=x, y=np.array([{}] * 30, dtype=object))
    good = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(good[: len(good) // 2])
    (tmp_path / "damaged.npz").write_bytes(good[:200] + bytes(100) + good[300:])
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, x)
    for name in ("shape", "labels", "missing", "nan", "pickled", "absent", "cut", "damaged", "array"):
        with pytest.raises(ConfigError, match=name):
            heldback.load(tmp_path / f"{name}.npz", graph)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.arange(30) % 3 - 1, "row 0: the label is not known; leave out such rows"),
        (np.where(np.arange(30) == 4, np.nan, 1), "row 4: the label is not known"),
        (np.full(30, 9), "row 0: 9; expected a class index"),
        (np.full(30, 0.5), "row 0: 0.5; expected a class index"),
        (np.zeros((30, 2)), "expected a class index"),
        (np.full(30, "a"), "of <U1: expected rows of numbers"),
        (np.array(1), "expected rows of numbers"),
    ],
)
def test_held_back_labels_that_the_model_does_not_have_are_refused(
    y: Any, said: str, graph: TrainableGraph, tmp_path: Path
) -> None:
    """One of -1 was the last class, half a class was the one below."""
    np.savez(tmp_path / "rows.npz", x=drawn(np.random.default_rng(0), 30)[0], y=y)
    with pytest.raises(ConfigError, match=f"rows.npz: .*{said}"):
        heldback.load(tmp_path / "rows.npz", graph)


def test_held_back_values_far_from_zero_keep_their_changes(graph: TrainableGraph, tmp_path: Path) -> None:
    x, y = drawn(np.random.default_rng(0), 30)
    np.savez(tmp_path / "near.npz", x=x, y=y)
    np.savez(tmp_path / "far.npz", x=x.astype(np.float64) + 2.0**31, y=y)
    near, far = (heldback.load(tmp_path / f"{name}.npz", graph).x for name in ("near", "far"))
    np.testing.assert_allclose(far, near, atol=1e-4)
    assert far.dtype == np.float32


def test_held_back_rows_are_standardised_by_those_of_their_site(graph: TrainableGraph, tmp_path: Path) -> None:
    x, y = drawn(np.random.default_rng(0), 40)
    site = np.arange(40) % 2
    moved = x * 3 + 50 * site[:, None, None]
    np.savez(tmp_path / "rows.npz", x=moved, y=y, site=np.array(["a", "b"])[site])
    np.savez(tmp_path / "ready.npz", x=x, y=y, standardised=True)
    np.savez(tmp_path / "many.npz", x=x, y=y, site=site[:9])
    found = heldback.load(tmp_path / "rows.npz", graph).x
    for k in (0, 1):
        own = x[site == k]
        np.testing.assert_allclose(found[site == k], standardise.fit(own, graph.card)(own), atol=1e-4)
    assert (heldback.load(tmp_path / "ready.npz", graph).x == x).all()
    np.savez(tmp_path / "word.npz", x=x, y=y, standardised="no")
    with pytest.raises(ConfigError, match=r"word.npz: .* array 'standardised': expected true or false, got no"):
        heldback.load(tmp_path / "word.npz", graph)
    with pytest.raises(ConfigError, match=r"site is \(9,\), expected \(40,\)"):
        heldback.load(tmp_path / "many.npz", graph)


def history(harm: float, liars: int = 0, rounds: int = 24) -> canaries.History:
    """Six sites tell; `bad` has a part in every other release, which are `harm` worse; liars say the opposite."""
    rng = np.random.default_rng(0)
    found: canaries.History = ()
    for k in range(rounds):
        part = ("a", "b", "bad") if k % 2 else ("a", "b")
        before = {f"s{i}": 1.0 for i in range(6)}
        after = {n: float(np.exp(harm * (k % 2) + 0.02 * rng.normal())) for n in before}
        after |= {f"s{i}": 1 / after[f"s{i}"] for i in range(liars)}
        found = canaries.record(found, k + 2, part, before, after)
    return found


def test_node_whose_releases_fare_worse_elsewhere_is_found() -> None:
    found = canaries.find(history(0.2))
    assert set(found) == {"bad"} and found["bad"].soft
    assert canaries.find(history(0.0)) == {} == canaries.find(history(0.2, rounds=8))


def test_lying_minority_does_not_hide_it() -> None:
    assert set(canaries.find(history(0.2, liars=2))) == {"bad"}


def test_what_a_node_says_itself_does_not_count() -> None:
    records: canaries.History = ()
    for k in range(24):
        before = dict.fromkeys(("a", "b", "c", "me"), 1.0)
        part = ("a", "me") if k % 2 else ("a",)
        records = canaries.record(records, k, part, before, {**before, "me": 0.1 if k % 2 else 9.0})
    assert canaries.find(records) == {}


def test_history_is_bounded_and_survives_json() -> None:
    long = history(0.2, rounds=100)
    assert len(long) == canaries.LENGTH
    assert msgspec.json.decode(msgspec.json.encode(long), type=canaries.History) == long


@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(allow_nan=True)),
    st.dictionaries(st.sampled_from("abcd"), st.floats(allow_nan=True)),
)
def test_claims_of_any_size_leave_finite_changes(before: dict[str, float], after: dict[str, float]) -> None:
    (outcome,) = canaries.record((), 1, ("a",), before, after)
    assert np.isfinite(list(outcome.change.values())).all()
