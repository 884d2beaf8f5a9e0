# SPDX-License-Identifier: Apache-2.0
"""Rules against written-out float64 references on inputs where they disagree, and their properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fedge_aggregator.rounds.engine import blocks
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_aggregator.rounds.rules.registry import MIXINGS, RULES, build, build_mixing, build_pipeline
from fedge_aggregator.rounds.rules.rule import FEWEST, hostile
from fedge_models.errors import ConfigError
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import rule_references as references

GOLDEN_RNG = np.random.default_rng(11)
GOLDEN = np.array(
    [[1, 2, 3, 4], [2, 2, 5, 4], [3, 0, 4, 4], [2, 1, 4, 90], [-100, 1, 4, 4], [9, 9, 9, 9], [5, 3, -7, 6]], np.int8
)
WEIGHTS = np.array([5.0, 1, 1, 1, 2, 1, 1])
BEFORE = np.array([1.5, 1, 3, 5], np.float32)  # the previous aggregate
ROWS = arrays(np.int8, st.tuples(st.integers(7, 12), st.integers(1, 20)), elements=st.integers(-60, 60))
SEEDS = st.integers(0, 2**32)
by_name: dict[str, Any] = {"ids": lambda t: t["name"] if t else "alone"}
everywhere = pytest.mark.parametrize("table", references.TABLES, **by_name)
mixed = pytest.mark.parametrize("mixing", [None, *references.MIXINGS], **by_name)

CHOOSING = {"krum", "multi_krum", "bulyan"}  # where two rows are as good, either may be taken
NEAREST = references.MIXINGS[0]
PAIRS = [
    (table, mixing)
    for table in references.TABLES
    for mixing in (None, *references.MIXINGS)
    if mixing != NEAREST or table["name"] not in CHOOSING  # of nearest neighbours' means, several are the same
]
pairs = pytest.mark.parametrize(("table", "mixing"), PAIRS, **by_name)


def run(
    table: dict[str, object],
    rows: np.ndarray,
    weights: np.ndarray | None = None,
    before: np.ndarray | None = None,
    mixing: dict[str, object] | None = None,
) -> np.ndarray:
    weights = np.ones(len(rows)) if weights is None else weights
    pipeline = build_pipeline(table, mixing, "t")
    return blocks.aggregate(pipeline, MemoryRows(rows), weights, reference=before, seed=3)


def reference(
    table: dict[str, object],
    rows: np.ndarray,
    weights: np.ndarray | None = None,
    before: np.ndarray | None = None,
    mixing: dict[str, object] | None = None,
) -> np.ndarray:
    x = rows.astype(np.float64)
    weights = np.ones(len(rows)) if weights is None else weights
    if mixing:
        x = references.mix(str(mixing["name"]), x, 3)
        weights = np.ones(len(x))
    start = np.zeros(x.shape[1]) if before is None else before.astype(np.float64)
    return references.RULES[str(table["name"])](x, weights, start)


def clear(rows: np.ndarray) -> bool:
    """No two rows score alike, no two distances are the same: rules that choose have one choice."""
    x = rows.astype(np.float64)
    far = references.distances(x)[np.triu_indices(len(x), 1)]
    return len(set(far)) == len(far) and len(set(references.krum_scores(x, 1))) == len(x)


def random_rows(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, rng.uniform(5, 40), (int(rng.integers(7, 13)), 12))
    return rows.clip(-60, 60).round().astype(np.int8)


def test_all_rules_and_mixings_are_tested() -> None:
    assert {t["name"] for t in references.TABLES} == set(RULES) == set(references.RULES)
    assert {t["name"] for t in references.MIXINGS} == set(MIXINGS)


def test_golden_input_makes_all_rules_disagree() -> None:
    results = [run(t, GOLDEN, WEIGHTS, BEFORE).round(3).tolist() for t in references.TABLES]
    assert len({tuple(r) for r in results}) == len(references.TABLES)


@pytest.mark.parametrize("mixing", references.MIXINGS, **by_name)
def test_golden_input_makes_each_mixing_a_difference(mixing: dict[str, object]) -> None:
    rows = np.concatenate([GOLDEN, GOLDEN[::-1] // 2 + 3])
    for table in references.TABLES[1:]:
        assert not np.allclose(run(table, rows, mixing=mixing), run(table, rows), atol=1e-3), table


@everywhere
def test_golden_input_against_the_reference(table: dict[str, object]) -> None:
    expected = reference(table, GOLDEN, WEIGHTS, BEFORE)
    np.testing.assert_allclose(run(table, GOLDEN, WEIGHTS, BEFORE), expected, rtol=2e-6)


@pairs
@given(seed=SEEDS)
def test_any_input_against_the_reference(table: dict[str, object], mixing: dict[str, object] | None, seed: int) -> None:

    rows = random_rows(seed)
    if build_pipeline(table, mixing, "t").minimum() > len(rows):
        rows = np.concatenate([rows, rows[::-1] // 2 + np.int8(7)])
    assume(clear(rows))
    before = np.random.default_rng(seed).normal(0, 9, (rows.shape[1],)).astype(np.float32)
    np.testing.assert_allclose(
        run(table, rows, None, before, mixing), reference(table, rows, None, before, mixing), rtol=1e-5, atol=0.01
    )


@pytest.mark.parametrize("table", [t for t in references.TABLES if t["name"] in CHOOSING], **by_name)
def test_choice_among_nearest_neighbour_means_against_the_reference(table: dict[str, object]) -> None:
    rng, mixing = np.random.default_rng(2), {"name": "nearest_neighbour_mixing", "byzantine": 6}
    around = np.linspace(0, 2 * np.pi, 13, endpoint=False)[:, None] + np.arange(12)  # neighbourhoods all differ
    rows = (50 * np.cos(around) + rng.normal(0, 5, (13, 12))).round().astype(np.int8)
    means = references.nearest_means(rows.astype(np.float64), 6)
    assert len(np.unique(means.round(6), axis=0)) == 13
    expected = references.RULES[str(table["name"])](means, WEIGHTS, BEFORE)
    np.testing.assert_allclose(run(table, rows, mixing=mixing), expected, atol=1e-4)


@given(rows=ROWS)
def test_krum_chooses_one_of_the_best_where_several_score_alike(rows: np.ndarray) -> None:
    x, got = rows.astype(np.float64), run({"name": "krum", "byzantine": 1}, rows)
    scores = references.krum_scores(x, 1)
    assert any((x[i] == got).all() for i in np.flatnonzero(scores == scores.min()))


@everywhere
@given(seed=SEEDS, data=st.data())
def test_order_of_nodes_does_not_matter(table: dict[str, object], seed: int, data: st.DataObject) -> None:
    rows = random_rows(seed)
    assume(table["name"] not in CHOOSING or clear(rows))
    order = data.draw(st.permutations(range(len(rows))))
    np.testing.assert_allclose(run(table, rows[order]), run(table, rows), atol=1e-4)


@given(seed=SEEDS, data=st.data())
def test_order_of_nodes_does_not_matter_to_nearest_neighbour_mixing(seed: int, data: st.DataObject) -> None:
    rows, (table, mixing) = random_rows(seed), (references.TABLES[2], references.MIXINGS[0])
    assume(clear(rows))
    order = data.draw(st.permutations(range(len(rows))))
    assert (run(table, rows[order], mixing=mixing) == run(table, rows, mixing=mixing)).all()


@pytest.mark.parametrize(("table", "mixing"), [p for p in PAIRS if p[0]["name"] != "norm_clipping"], **by_name)
@given(seed=SEEDS, shift=st.integers(-60, 60))
def test_translation_moves_the_aggregate_alike(
    table: dict[str, object], mixing: dict[str, object] | None, seed: int, shift: int
) -> None:

    rows = random_rows(seed)
    rows = np.concatenate([rows, rows[::-1] // 2])
    before, moved = np.zeros(rows.shape[1], np.float32), np.full(rows.shape[1], shift, np.float32)
    got = run(table, rows + np.int8(shift), None, moved, mixing)
    np.testing.assert_allclose(got, run(table, rows, None, before, mixing) + shift, atol=1e-3)


def test_norm_clipping_is_about_the_origin() -> None:
    rows = np.full((5, 4), 3, np.int8)
    np.testing.assert_allclose(run({"name": "norm_clipping", "radius": 3.0}, rows), np.full(4, 1.5), rtol=1e-6)


@given(seed=SEEDS, f=st.integers(1, 3), data=st.data())
def test_hostile_rows_within_f_move_no_rule_far(seed: int, f: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    n, d = 4 * f + 3, 8
    honest = rng.integers(-5, 6, (n - f, d)).astype(np.int8)
    liars = data.draw(arrays(np.int8, (f, d), elements=st.integers(-127, 127)))
    rows = np.concatenate([liars, honest])[rng.permutation(n)]
    middle = honest.mean(axis=0)
    spread = np.linalg.norm(honest - middle, axis=1).max()
    for table in references.TABLES[1:]:
        full = {k: f if k == "byzantine" else v for k, v in table.items() if k not in {"radius", "iterations"}}
        got = run(full, rows)
        lowest, highest = honest.min(axis=0), honest.max(axis=0)
        if table["name"] in {"median", "trimmed_mean"}:
            assert (got >= lowest - 1e-4).all() and (got <= highest + 1e-4).all(), table
        elif table["name"] == "bulyan":
            assert (got >= 2 * lowest - highest - 1e-4).all() and (got <= 2 * highest - lowest + 1e-4).all()
        elif table["name"] in {"krum", "multi_krum"}:
            # A hostile row scores no worse than an honest one, whose neighbours lie within twice the spread.
            assert np.linalg.norm(got - middle) <= spread * (1 + 2 * np.sqrt(n - f - 2)) + 1e-3, table
        elif table["name"] == "geometric_median":  # Minsker 2015, lemma 2.1
            assert np.linalg.norm(got - middle) <= 2 * (n - f) / (n - 2 * f) * spread + 1e-2
        else:  # starting from the origin, no step is longer than the longest honest row then is far
            longest = np.linalg.norm(honest, axis=1).max()
            assert np.linalg.norm(got) <= longest * (1 if table["name"] == "norm_clipping" else 7) + 1e-3, table


def test_fedavg_is_spoiled_by_one_row() -> None:
    rows = np.zeros((5, 4), np.int8)
    rows[0] = 127
    assert (run({"name": "fedavg"}, rows) > 25).all()


@pytest.mark.parametrize("table", references.TABLES[1:], **by_name)
def test_a_claimed_sample_count_buys_no_vote(table: dict[str, object]) -> None:
    for row in range(len(GOLDEN)):
        claims = np.where(np.arange(len(GOLDEN)) == row, 1e9, 1.0)
        assert (run(table, GOLDEN, claims) == run(table, GOLDEN)).all(), row


def test_centred_clipping_starts_from_the_previous_aggregate() -> None:
    table = {"name": "centred_clipping", "radius": 1.0, "iterations": 1}
    far = np.full((5, 4), 100, np.int8)
    for before in (np.zeros(4, np.float32), np.array([50, -50, 0.5, 20], np.float32)):
        step = run(table, far, None, before) - before
        np.testing.assert_allclose(np.linalg.norm(step), 1, rtol=1e-4)


@everywhere
@mixed
def test_too_few_updates_are_refused_with_the_number_needed(
    table: dict[str, object], mixing: dict[str, object] | None
) -> None:
    pipeline = build_pipeline(table, mixing, "t")
    need = pipeline.minimum()
    rows = np.random.default_rng(0).integers(-9, 9, (need, 3)).astype(np.int8)
    assert np.isfinite(blocks.aggregate(pipeline, MemoryRows(rows), np.ones(need))).all()
    if need > 1:
        with pytest.raises(ValueError, match=f"{need - 1} updates.* needs {need}"):
            blocks.aggregate(pipeline, MemoryRows(rows[:-1]), np.ones(need - 1))


@pytest.mark.parametrize(
    ("table", "need"),
    [
        ({"name": "trimmed_mean", "byzantine": 3}, 7),
        ({"name": "krum", "byzantine": 3}, 9),
        ({"name": "multi_krum", "byzantine": 3}, 9),
        ({"name": "bulyan", "byzantine": 3}, 15),
    ],
)
def test_what_a_rule_needs_of_n(table: dict[str, object], need: int) -> None:
    assert build(table, "t").minimum() == need
    assert build_pipeline(table, {"name": "bucketing", "size": 3}, "t").minimum() == 3 * (need - 1) + 1
    assert build_pipeline(table, {"name": "nearest_neighbour_mixing", "byzantine": 9}, "t").minimum() == max(19, need)


@given(n=st.integers(1, 60), size=st.integers(2, 16), seed=SEEDS)
def test_bucketing_puts_every_row_in_one_bucket(n: int, size: int, seed: int) -> None:
    mixed = build_mixing({"name": "bucketing", "size": size}, "t").mix(blocks.NO_GRAM, n, seed)
    assert (mixed.matrix.sum(axis=1) == mixed.divisor).all() and ((mixed.matrix > 0).sum(axis=0) == 1).all()
    assert len(mixed.matrix) == -(-n // size)
    again = build_mixing({"name": "bucketing", "size": size}, "t").mix(blocks.NO_GRAM, n, seed)
    assert (again.matrix == mixed.matrix).all()


def test_bucketing_deals_again_with_another_seed() -> None:
    bucketing = build_mixing({"name": "bucketing"}, "t")
    assert (bucketing.mix(blocks.NO_GRAM, 20, 1).matrix != bucketing.mix(blocks.NO_GRAM, 20, 2).matrix).any()


@everywhere
@mixed
def test_scale_shortens_rows_before_all_else(table: dict[str, object], mixing: dict[str, object] | None) -> None:
    rows = np.random.default_rng(5).integers(-30, 31, (15, 6)).astype(np.int8) * np.int8(4)
    scale = np.tile([1.0, 0.5, 0.25], 5)
    shortened = (rows * scale[:, None]).astype(np.int8)
    pipeline = build_pipeline(table, mixing, "t")
    got = blocks.aggregate(pipeline, MemoryRows(rows), np.ones(15), scale=scale, seed=3)
    np.testing.assert_allclose(got, run(table, shortened, mixing=mixing), rtol=1e-5, atol=1e-5)


def test_a_scale_that_lengthens_is_refused() -> None:
    with pytest.raises(ValueError, match="factors from 0 to 1"):
        blocks.aggregate(build_pipeline({"name": "median"}, None, "t"), MemoryRows(GOLDEN), WEIGHTS, scale=WEIGHTS)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"name": "krumm"}, "no rule 'krumm'; did you mean 'krum'"),
        ({"name": "zzz"}, "expected one of: bulyan, centred_clipping"),
        ({}, "expected one of"),
        ({"name": ["krum"]}, "expected one of"),
        ({"name": "trimmed_mean", "trims": 1}, "unknown key 'rule.trims'"),
        ({"name": "trimmed_mean", "byzantin": 1}, "did you mean 'byzantine'"),
        ({"name": "trimmed_mean", "byzantine": -1}, "byzantine"),
        ({"name": "fedavg", "byzantine": 1}, "unknown key"),
        ({"name": "centred_clipping", "radius": 0.0}, "radius"),
    ],
)
def test_mistyped_rule_is_an_error_not_a_lack_of_protection(table: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build(table, "aggregator.toml")


def test_mistyped_mixing_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"federation\.pump\.mixing\.name': no mixing 'bucket'"):
        build_pipeline({"name": "median"}, {"name": "bucket"}, "aggregator.toml", "federation.pump.")


@pytest.mark.parametrize(
    ("n", "trimmed", "krum", "bulyan"),
    [(1, 0, 0, 0), (3, 0, 0, 0), (4, 1, 0, 0), (5, 1, 1, 0), (6, 1, 1, 0), (10, 3, 3, 1), (20, 6, 6, 4)],
)
def test_share_of_hostile_nodes_is_rounded_down_and_no_more_than_the_rule_holds(
    n: int, trimmed: int, krum: int, bulyan: int
) -> None:
    assert hostile(0.3, n, 2, 1) == trimmed
    assert hostile(0.3, n, 2, 3) == krum
    assert hostile(0.3, n, 4, 3) == bulyan
    for name in ("trimmed_mean", "krum", "multi_krum", "bulyan"):
        rule = build_pipeline({"name": name, "byzantine": 0.3}, None, "t")
        byzantine = {"trimmed_mean": trimmed, "bulyan": bulyan}.get(name, krum)
        if n >= (FEWEST if name == "trimmed_mean" else rule.minimum()):
            rows, same = MemoryRows(GOLDEN_RNG.integers(-127, 127, (n, 40)).astype(np.int8)), np.ones(n)
            number = build_pipeline({"name": name, "byzantine": byzantine}, None, "t")
            assert (blocks.aggregate(rule, rows, same) == blocks.aggregate(number, rows, same)).all()


@pytest.mark.parametrize("mixed", [False, True])
def test_few_rows_are_averaged_by_the_root_of_their_samples_with_a_share(mixed: bool) -> None:
    mixing = {"name": "nearest_neighbour_mixing", "byzantine": 0.3} if mixed else None
    share = build_pipeline({"name": "trimmed_mean", "byzantine": 0.3}, mixing, "t")
    for n in (1, 3, 6):
        rows, roots = GOLDEN_RNG.integers(-127, 127, (n, 40)).astype(np.int8), np.arange(1, n + 1, dtype=np.float64)
        made = blocks.aggregate(share, MemoryRows([*rows]), roots**2)
        assert np.abs(made - np.average(rows, axis=0, weights=roots)).max() < 0.01
        assert share.holds(n) == 0
    rows = GOLDEN_RNG.integers(-127, 127, (7, 40)).astype(np.int8)
    rows[0] = 127  # of seven, a claim does not weigh
    claimed, same = (blocks.aggregate(share, MemoryRows([*rows]), w) for w in (np.array([1e6, *[1.0] * 6]), np.ones(7)))
    assert (claimed == same).all()


def test_few_rows_are_not_mixed_by_a_share() -> None:
    share = build_mixing({"name": "nearest_neighbour_mixing", "byzantine": 0.3}, "t")
    for n in (2, 6, 7):
        gram = np.array(GOLDEN_RNG.normal(size=(n, 5)))
        made = share.mix(gram @ gram.T, n, 0)
        assert made.divisor == (5 if n == 7 else 1) and (made.matrix.sum(axis=1) == made.divisor).all()
        assert n == 7 or (made.matrix == np.eye(n)).all()


def test_a_share_does_not_go_with_buckets() -> None:
    with pytest.raises(ConfigError, match=r"key 'rule.byzantine': a share .* expected a number of nodes"):
        build_pipeline({"name": "trimmed_mean", "byzantine": 0.3}, {"name": "bucketing"}, "t")


@pytest.mark.parametrize("name", RULES)
def test_each_rule_says_against_how_many_it_holds(name: str) -> None:
    rule = build_pipeline({"name": name}, None, "t")
    for n in range(rule.minimum(), 40):
        assert 0 <= rule.holds(n) < n / 2
    shares = {"trimmed_mean": [0, 0, 2, 6], "krum": [0, 1, 2, 6], "multi_krum": [0, 1, 2, 6], "bulyan": [0, 0, 1, 4]}
    others = {"median": [1, 2, 3, 9], "geometric_median": [1, 2, 3, 9], "centred_clipping": [0, 0, 0, 2]}
    if name in shares:
        rule = build_pipeline({"name": name, "byzantine": 0.3}, None, "t")
    assert [rule.holds(n) for n in (3, 5, 7, 20)] == {**shares, **others}.get(name, [0, 0, 0, 0])
