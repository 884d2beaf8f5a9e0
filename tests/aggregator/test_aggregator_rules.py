"""Rules against written-out float64 references on inputs where they disagree, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_aggregator import engine
from fedge_aggregator.rules.krum import squared_distances
from fedge_aggregator.rules.network import partly_sorted
from fedge_aggregator.rules.registry import RULES, build
from fedge_models.errors import ConfigError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

TABLES = [{"name": "fedavg"}, {"name": "median"}, {"name": "trimmed_mean", "trim": 1}, {"name": "krum", "byzantine": 1}]
GOLDEN = np.array([[1, 2, 3, 4], [2, 2, 5, 4], [3, 0, 4, 4], [2, 1, 4, 90], [-100, 1, 4, 4]], np.int8)
WEIGHTS = np.array([5.0, 1, 1, 1, 2])
ROWS = arrays(np.int8, st.tuples(st.integers(5, 12), st.integers(1, 20)), elements=st.integers(-60, 60))


def run(table: dict[str, object], rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    return engine.aggregate(build(table, "t"), list(rows), np.ones(len(rows)) if weights is None else weights)


def reference(name: str, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    x = rows.astype(np.float64)
    if name == "fedavg":
        return (weights / weights.sum()) @ x
    if name == "median":
        return np.median(x, axis=0)
    if name == "trimmed_mean":
        return np.sort(x, axis=0)[1:-1].mean(axis=0)
    d = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    scores = [np.sort(np.delete(d[i], i))[: len(x) - 3].sum() for i in range(len(x))]
    return x[int(np.argmin(scores))]


def test_all_rules_are_tested() -> None:
    assert {t["name"] for t in TABLES} == set(RULES)


def test_golden_input_makes_all_rules_disagree() -> None:
    results = [run(t, GOLDEN, WEIGHTS).round(4).tolist() for t in TABLES]
    assert len({tuple(r) for r in results}) == len(TABLES)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t["name"])
def test_golden_input_against_the_reference(table: dict[str, object]) -> None:
    np.testing.assert_allclose(run(table, GOLDEN, WEIGHTS), reference(str(table["name"]), GOLDEN, WEIGHTS), rtol=1e-6)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t["name"])
@given(rows=ROWS)
def test_any_input_against_the_reference(table: dict[str, object], rows: np.ndarray) -> None:
    expected = reference(str(table["name"]), rows, np.ones(len(rows)))
    if table["name"] == "krum":  # equal scores may resolve to another, equally good row
        x, got = rows.astype(np.float64), run(table, rows)
        d = ((x[:, None] - x[None]) ** 2).sum(axis=2)
        scores = np.array([np.sort(np.delete(d[i], i))[: len(x) - 3].sum() for i in range(len(x))])
        chosen = [i for i in range(len(x)) if (x[i] == got).all()]
        assert chosen and scores[chosen].min() <= scores.min() * (1 + 1e-6) + 1e-3
    else:
        np.testing.assert_allclose(run(table, rows), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("table", TABLES[:3], ids=lambda t: t["name"])
@given(rows=ROWS, data=st.data())
def test_order_of_nodes_does_not_matter(table: dict[str, object], rows: np.ndarray, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    np.testing.assert_allclose(run(table, rows[order]), run(table, rows), atol=1e-4)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t["name"])
@given(rows=ROWS, shift=st.integers(-60, 60))
def test_translation_moves_the_aggregate_alike(table: dict[str, object], rows: np.ndarray, shift: int) -> None:
    np.testing.assert_allclose(run(table, rows + np.int8(shift)), run(table, rows) + shift, atol=1e-3)


@pytest.mark.parametrize("table", TABLES[1:], ids=lambda t: t["name"])
@given(rows=ROWS, liar=arrays(np.int8, 20, elements=st.integers(-127, 127)))
def test_one_arbitrary_row_stays_within_the_honest_range(
    table: dict[str, object], rows: np.ndarray, liar: np.ndarray
) -> None:
    honest = rows[1:]
    attacked = np.vstack([liar[: rows.shape[1]][None], honest])
    got = run(table, attacked)
    if table["name"] == "krum":
        d = np.linalg.norm(honest.astype(float) - honest.mean(axis=0), axis=1).max()
        assert np.linalg.norm(got - honest.mean(axis=0)) <= 4 * d * np.sqrt(len(rows)) + 1e-3
    else:
        assert (got >= honest.min(axis=0) - 1e-4).all() and (got <= honest.max(axis=0) + 1e-4).all()


def test_fedavg_is_spoiled_by_one_row() -> None:
    rows = np.zeros((5, 4), np.int8)
    rows[0] = 127
    assert (run({"name": "fedavg"}, rows) > 25).all()


@given(ROWS, st.data())
def test_network_sorts(rows: np.ndarray, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(rows) - 1))
    last = data.draw(st.integers(first + 1, len(rows)))
    assert (partly_sorted(rows, first, last) == np.sort(rows, axis=0)[first:last]).all()


@pytest.mark.parametrize("n", range(1, 34))
def test_network_sorts_every_zero_one_input_it_could_meet(n: int) -> None:
    rows = (np.random.default_rng(n).random((n, 500)) < 0.5).astype(np.int8)  # the 0-1 principle
    assert (partly_sorted(rows, 0, n) == np.sort(rows, axis=0)).all()


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t["name"])
def test_blocks_equal_the_whole_to_the_bit(table: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(-127, 128, (9, 1000)).astype(np.int8)
    whole = run(table, rows)
    monkeypatch.setattr(engine, "BLOCK_BYTES", 9 * 7)
    assert (run(table, rows) == whole).all()


def test_distances_of_rows_that_are_nearly_alike_are_exact() -> None:
    rows = np.full((4, 200_000), 100, np.int8)
    rows[1, 0], rows[2, :2], rows[3, :3] = 101, 101, 101
    got = squared_distances(list(rows))
    expected = ((rows[:, None, :4].astype(float) - rows[None, :, :4]) ** 2).sum(axis=2)
    np.testing.assert_allclose(got, expected, atol=1e-2)


def test_too_few_updates_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 5"):
        run({"name": "krum", "byzantine": 1}, GOLDEN[:4])


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"name": "krumm"}, "expected one of"),
        ({}, "expected one of"),
        ({"name": "trimmed_mean", "trims": 1}, "did you mean 'trim'"),
        ({"name": "trimmed_mean", "trim": 0}, "trim"),
        ({"name": "fedavg", "trim": 1}, "unknown key"),
    ],
)
def test_mistyped_rule_is_an_error_not_a_lack_of_protection(table: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build(table, "aggregator.toml")
