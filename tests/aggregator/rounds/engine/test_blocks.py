# SPDX-License-Identifier: Apache-2.0
"""The engine: the same bits whatever the blocks, threads and places of rows; memory bounded by the block."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.rounds.engine import blocks, update_rows
from fedge_aggregator.rounds.engine.gram import CHUNK, Lengths, WithReference, gram_of, unite
from fedge_aggregator.rounds.engine.runner import split
from fedge_aggregator.rounds.engine.threads import Threads
from fedge_aggregator.rounds.engine.update_rows import ChosenRows, FileRows, MemoryRows, RowsWriter, choose, each_block
from fedge_aggregator.rounds.rules import bisection, order, sorting_network
from fedge_aggregator.rounds.rules.combine import EXACT, combine
from fedge_aggregator.rounds.rules.combine import split as split_weights
from fedge_aggregator.rounds.rules.mixing import Mixed
from fedge_aggregator.rounds.rules.registry import build_pipeline
from fedge_aggregator.rounds.rules.rule import squared_distances
from fedge_models.errors import StorageError
from fedge_models.messages.quantize import Codes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import rule_references as references

BLOCKS = arrays(np.int8, st.tuples(st.integers(1, 40), st.integers(1, 9)), elements=st.integers(-127, 127))
by_name: dict[str, Any] = {"ids": lambda t: t["name"] if t else "alone"}
mixed = pytest.mark.parametrize("mixing", [None, *references.MIXINGS], **by_name)


def some(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, (n, d)).astype(np.int8)


def run_network(block: np.ndarray, exchanges: tuple[sorting_network.Exchange, ...]) -> np.ndarray:
    return np.stack(sorting_network.run(block.copy(), exchanges))


def written(path: Path, codes: np.ndarray, capacity: int = 0) -> RowsWriter:
    writer = RowsWriter(path, codes.shape[1], capacity or len(codes)).__enter__()
    for row in codes:
        writer.append(row)
    return writer


@mixed
@pytest.mark.parametrize("table", references.TABLES, **by_name)
def test_blocks_threads_and_places_give_the_same_bits(
    table: dict[str, object], mixing: dict[str, object] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, pipeline = some(14, 9000), build_pipeline(table, mixing, "t")
    before = np.random.default_rng(1).normal(0, 30, 9000).astype(np.float32)
    weights, scale = np.arange(1.0, 15), np.linspace(0.2, 1, 14)

    def run(where: update_rows.Rows, threads: int) -> np.ndarray:
        runner = Threads(threads)
        return blocks.aggregate(pipeline, where, weights, reference=before, scale=scale, seed=7, runner=runner)

    whole = run(MemoryRows(codes), 1)
    assert np.isfinite(whole).all() and whole.dtype == np.float32
    for size in (1, 14 * 640, 14 * 3008):
        monkeypatch.setattr(update_rows, "BLOCK_BYTES", size)
        for threads in (1, 3):
            assert (run(MemoryRows(list(codes)), threads) == whole).all()
        writer = written(tmp_path / "rows", codes, capacity=20)
        assert (run(writer.rows(), 2) == whole).all()
        writer.__exit__()


@mixed
@pytest.mark.parametrize("table", references.TABLES, **by_name)
def test_a_gram_matrix_that_the_caller_has_changes_nothing(
    table: dict[str, object], mixing: dict[str, object] | None
) -> None:
    pipeline, held, scale = build_pipeline(table, mixing, "t"), MemoryRows(some(14, 300)), np.linspace(0.2, 1, 14)
    given = blocks.gram_matrix(held)
    for factors in (None, scale):
        with_it = blocks.aggregate(pipeline, held, np.ones(14), gram=given, scale=factors)
        assert (with_it == blocks.aggregate(pipeline, held, np.ones(14), scale=factors)).all()


def test_chosen_rows_are_rows() -> None:
    codes, chosen = some(14, 3000), (3, 5, 6, 9, 11, 12, 13)
    for table in references.TABLES:
        pipeline = build_pipeline(table, None, "t")
        got = blocks.aggregate(pipeline, ChosenRows(MemoryRows(codes), chosen), np.ones(7))
        assert (got == blocks.aggregate(pipeline, MemoryRows(codes[list(chosen)]), np.ones(7))).all()


def test_blocks_come_one_after_the_other_from_memory_and_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_rows, "BLOCK_BYTES", 7 * 512)
    codes = some(7, 3000)
    writer = written(tmp_path / "rows", codes)
    for held in (
        MemoryRows(list(codes)),
        writer.rows(),
        choose(MemoryRows(codes), range(7)),
        choose(writer.rows(), range(7)),
    ):
        spans = [(first, last, block.copy()) for first, last, block in each_block(held, 512, 2800)]
        assert [first for first, _, _ in spans] == list(range(512, 2800, 512)) and spans[-1][1] == 2800
        assert (np.concatenate([block for _, _, block in spans], axis=1) == codes[:, 512:2800]).all()
    writer.__exit__()


@given(d=st.integers(1, 5000), width=st.integers(1, 700), parts=st.integers(1, 40))
def test_spans_cover_all_columns_once(d: int, width: int, parts: int) -> None:
    spans = split(d, width, parts)
    assert len(spans) <= parts and spans[0][0] == 0 and spans[-1][1] == d
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(spans))
    assert all(start % width == 0 for start, _ in spans)


@given(BLOCKS, st.data())
def test_network_and_bisection_find_what_a_sort_finds(block: np.ndarray, data: st.DataObject) -> None:
    n = len(block)
    low = data.draw(st.integers(0, n - 1))
    high = data.draw(st.integers(low, n - 1))
    wanted, ordered = tuple(sorted({low, high})), np.sort(block, axis=0)
    assert (run_network(block, sorting_network.ordering(n, wanted))[list(wanted)] == ordered[list(wanted)]).all()
    middle = run_network(block, sorting_network.partition(n, low, high + 1))[low : high + 1]
    assert (np.sort(middle, axis=0) == ordered[low : high + 1]).all()
    assert (bisection.kth(block, low, -127, 127) == ordered[low]).all()
    for wide in (block, block.astype(np.int16) * 3, block.astype(np.int32) * 70_000):
        first, last = order.order_statistics(wide.copy(), low, high)
        assert (first == np.sort(wide, axis=0)[low]).all() and (last == np.sort(wide, axis=0)[high]).all()
        assert (order.total(wide) == wide.astype(np.int64).sum(axis=0)).all()
        cut = min(low, (n - 1) // 2)
        assert (order.middle_sum(wide.copy(), cut) == np.sort(wide, axis=0)[cut : n - cut].sum(axis=0)).all()


@pytest.mark.parametrize("n", range(1, 34))
def test_network_sorts_every_zero_one_input_it_could_meet(n: int) -> None:
    block = (np.random.default_rng(n).random((n, 500)) < 0.5).astype(np.int8)  # the 0-1 principle
    assert (run_network(block, sorting_network.ordering(n, tuple(range(n)))) == np.sort(block, axis=0)).all()


@pytest.mark.parametrize("n", [127, 128, 129, 300, 1000])
def test_many_rows_have_the_order_of_a_sort(n: int) -> None:
    block = some(n, 40)
    ordered = np.sort(block, axis=0)
    first, last = order.order_statistics(block.copy(), n // 5, n - n // 5 - 1)
    assert (first == ordered[n // 5]).all() and (last == ordered[n - n // 5 - 1]).all()
    assert (order.total(block) == block.sum(axis=0, dtype=np.int64)).all()
    assert (order.middle_sum(block, n // 5) == ordered[n // 5 : n - n // 5].sum(axis=0, dtype=np.int64)).all()


def test_sums_of_extreme_codes_do_not_overflow() -> None:
    for value in (-127, 127):
        assert (order.total(np.full((1000, 3), value, np.int8)) == 1000 * value).all()


@pytest.mark.parametrize(
    ("name", "n", "mixing", "shared"),
    [
        ("median", 20, None, False),
        ("median", 200, None, True),
        ("median", 20, {"name": "nearest_neighbour_mixing", "byzantine": 2}, True),
        ("fedavg", 20, None, True),
    ],
)
def test_threads_share_what_is_long_calls(name: str, n: int, mixing: dict[str, object] | None, shared: bool) -> None:
    seen, rule = set(), build_pipeline({"name": name}, mixing, "test")

    class Seen(MemoryRows):
        def block(self, start: int, stop: int, out: Codes | None = None) -> Codes:
            seen.add(threading.current_thread().name.partition("_")[0])
            return super().block(start, stop, out)

    wide = Seen(some(n, 4 * update_rows.columns_per_block(n)))
    blocks.aggregate(rule, wide, np.ones(n), gram=blocks.gram_matrix(MemoryRows(some(n, 64))), runner=Threads(2))
    assert seen == {"blocks" if shared else "MainThread"}


def test_gram_matrix_is_exact_where_codes_are_largest() -> None:
    codes = np.full((3, 5 * CHUNK + 17), 127, np.int8)
    codes[1] = -127
    codes[2, ::2] = 126
    expected = codes.astype(np.int64) @ codes.astype(np.int64).T
    assert (blocks.gram_matrix(MemoryRows(codes)) == expected).all()
    assert (gram_of(MemoryRows(codes), 0, codes.shape[1]) == expected).all()


@pytest.mark.parametrize("largest", [13, 15, 29, 63, 127])  # their squares pass 2^24 after 97, 73, 20, 5 and 2 chunks
@pytest.mark.parametrize("chunks", [1, 2, 4, 5, 19, 20, 72, 73, 85])
def test_gram_matrix_is_exact_around_what_a_float_holds(largest: int, chunks: int) -> None:
    codes = np.random.default_rng(largest).integers(-largest, largest + 1, (3, chunks * CHUNK)).astype(np.int8)
    codes[0] = largest
    expected = codes.astype(np.int64) @ codes.astype(np.int64).T
    assert (gram_of(MemoryRows(codes), 0, codes.shape[1]) == expected).all()


def test_distances_of_rows_that_are_nearly_alike_are_exact() -> None:
    codes = np.full((4, 200_000), 100, np.int8)
    codes[1, 0], codes[2, :2], codes[3, :3] = 101, 101, 101
    expected = ((codes[:, None, :4].astype(float) - codes[None, :, :4]) ** 2).sum(axis=2)
    assert (squared_distances(blocks.gram_matrix(MemoryRows(codes))) == expected).all()


@pytest.mark.parametrize("hubs", [0, 2])
@pytest.mark.parametrize("d", [1, 1023, 1024, 40_000])
def test_lengths_are_the_gram_matrix_where_they_are_not_zero(hubs: int, d: int) -> None:
    codes = some(6, d)
    codes[:, : d // 2] = 127
    whole, there = codes.astype(np.int64) @ codes.T.astype(np.int64), np.eye(6, dtype=bool)
    there[:, 6 - hubs :] = there[6 - hubs :] = True
    assert (Lengths(hubs)(MemoryRows(codes), 0, d) == np.where(there, whole, 0)).all()


@pytest.mark.parametrize(
    "table",
    [{"name": "norm_clipping"}, *({"name": "centred_clipping", "iterations": k} for k in (1, 2))],
    ids=["lengths", "one step", "two steps"],
)
def test_a_rule_sees_all_that_it_asks_for(table: dict[str, object]) -> None:
    codes, pipeline = some(9, 5000), build_pipeline(table, None, "t")
    before = np.random.default_rng(1).normal(0, 30, 5000).astype(np.float32)
    held = WithReference(MemoryRows(codes), before) if pipeline.rule.reference else MemoryRows(codes)
    gram, to_rows = blocks.gram_matrix(held), unite(9) if pipeline.rule.reference else np.eye(9)
    weights = pipeline.rule.select(to_rows @ gram @ to_rows.T, np.ones(9)) @ to_rows
    expected = combine(held.block(0, 5000), weights)
    assert (blocks.aggregate(pipeline, MemoryRows(codes), np.ones(9), reference=before) == expected).all()


def test_reference_is_rounded_to_a_part_of_a_step() -> None:
    codes = some(3, 5000)
    reference = np.random.default_rng(2).normal(0, 90, 5000).astype(np.float32)
    both = WithReference(MemoryRows(codes), reference)
    together = unite(3) @ both.block(0, 5000)
    assert (together[:3] == codes).all()
    np.testing.assert_allclose(together[3], np.clip(reference, -127, 127), atol=1 / 256 + 1e-6)


@given(BLOCKS, st.integers(0, 2**32), st.sampled_from([1e-30, 1.0, 1e6]))
def test_combine_is_the_weighted_sum(block: np.ndarray, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.random(len(block)) * (rng.random(len(block)) < 0.7) * size
    expected = weights @ block.astype(np.float64)
    np.testing.assert_allclose(
        combine(block, weights), expected, rtol=1e-6, atol=2e-6 * 127 * max(weights.sum(), 1e-99)
    )


@pytest.mark.parametrize("n", [1, 2, 50, 256])
def test_weights_are_split_so_that_no_sum_is_rounded(n: int) -> None:
    weights = np.random.default_rng(n).random(n) ** 4
    coarse, fine, unit, part = split_weights(weights)
    for whole in (coarse, fine):
        assert (whole == np.rint(whole)).all() and np.abs(whole).sum(dtype=np.float64) * 127 <= EXACT
    together = (coarse.astype(np.float64) + fine.astype(np.float64) * part) * unit
    assert np.abs(together - weights).sum() * 127 <= 1e-3 * weights.sum()


def test_a_mean_of_thousands_loses_less_than_a_thousandth_of_a_step() -> None:
    codes, weights = some(5000, 40), np.random.default_rng(3).random(5000) ** 4
    weights /= weights.sum()
    np.testing.assert_allclose(combine(codes, weights), weights @ codes.astype(np.float64), atol=1e-3)


@given(BLOCKS, st.integers(1, 5000))
def test_mixed_blocks_are_exact(block: np.ndarray, divisor: int) -> None:
    matrix = np.random.default_rng(divisor).multinomial(divisor, np.ones(len(block)) / len(block), 6)
    assert (Mixed(matrix, divisor).of(block) == matrix @ block.astype(np.int64)).all()


def test_a_divisor_that_would_round_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 132104"):
        Mixed(np.full((1, 2), 66_053), 132_106).of(some(2, 3))


@given(BLOCKS, st.integers(0, 5), st.data())
def test_file_rows_are_what_was_written(block: np.ndarray, spare: int, data: st.DataObject) -> None:
    import tempfile

    codes = np.tile(block, (1, 300))
    n, d = codes.shape
    with tempfile.TemporaryDirectory() as folder, RowsWriter(Path(folder) / "rows", d, n + spare) as writer:
        for row in codes:
            writer.append(row)
        got = writer.rows()
        assert (got.n, got.d) == (n, d)
        start = data.draw(st.integers(0, d - 1))
        stop = data.draw(st.integers(start + 1, d))
        assert (got.block(start, stop) == codes[:, start:stop]).all()


def test_rows_are_gathered_before_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_rows, "BUFFER_BYTES", 3 * 2048)
    codes = some(10, 2000)
    with RowsWriter(tmp_path / "rows", 2000, 10) as writer:
        for k, row in enumerate(codes):
            writer.append(row)
            assert (writer.rows().block(0, 2000) == codes[: k + 1]).all()
    assert not (tmp_path / "rows").exists()


def test_a_row_too_many_or_of_another_length_is_refused(tmp_path: Path) -> None:
    with RowsWriter(tmp_path / "rows", 10, 1) as writer:
        with pytest.raises(ValueError, match="10 int8"):
            writer.append(np.zeros(11, np.int8))
        writer.append(np.zeros(10, np.int8))
        with pytest.raises(ValueError, match="room for 1 rows"):
            writer.append(np.zeros(10, np.int8))
    with pytest.raises(ValueError, match="one length"):
        MemoryRows([np.zeros(3, np.int8), np.zeros(4, np.int8)])


def test_a_file_cut_short_is_an_error_not_a_result(tmp_path: Path) -> None:
    writer = written(tmp_path / "rows", some(5, 3000))
    got = writer.rows()
    with (tmp_path / "rows").open("r+b") as f:
        f.truncate(1000)
    with pytest.raises(StorageError, match="expected"):
        blocks.aggregate(build_pipeline({"name": "median"}, None, "t"), got, np.ones(5))
    writer.__exit__()
    with pytest.raises(StorageError, match="cannot be read"):
        got.block(0, 1)


def test_file_rows_travel_to_other_processes(tmp_path: Path) -> None:
    import pickle

    writer = written(tmp_path / "rows", some(5, 3000))
    sent = pickle.dumps(writer.rows())
    assert len(sent) < 500
    assert isinstance(pickle.loads(sent), FileRows)
    writer.__exit__()


MEMORY = """
import json, re, sys
from pathlib import Path
import numpy as np
from fedge_aggregator.rounds.engine import blocks
from fedge_aggregator.rounds.engine.update_rows import RowsWriter
from fedge_aggregator.rounds.rules.registry import build_pipeline
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
n, d, tables = 400, 100_000, json.loads(sys.argv[2])
rng, out = np.random.default_rng(0), {}
with RowsWriter(Path(sys.argv[1]), d, n) as writer:
    for _ in range(n):
        writer.append(rng.integers(-127, 128, d).astype(np.int8))
    rows, writer._buffer = writer.rows(), None
    start = peak()
    for table in tables:
        assert np.isfinite(blocks.aggregate(build_pipeline(table, None, "t"), rows, np.ones(n))).all()
        out[table["name"]] = peak() - start
print(json.dumps(out))
"""


def test_memory_is_bounded_by_the_block_and_not_by_the_updates(tmp_path: Path) -> None:
    tables = [{**t, "byzantine": 40} if "byzantine" in t else t for t in references.TABLES if t["name"] != "bulyan"]
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "rows"), json.dumps(tables)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"OPENBLAS_NUM_THREADS": "1"})
    grown = json.loads(done.stdout)
    assert max(grown.values()) < 32, grown  # of 40 MB of updates, 160 MB as floats
