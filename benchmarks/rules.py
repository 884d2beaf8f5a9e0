# SPDX-License-Identifier: Apache-2.0
"""Aggregation of n updates of a million parameters: speed, and memory beyond the updates themselves.

With --peers against ByzFL (NumPy; PyTorch on one and two threads) and Flower on the same values as float32, as they
would have received them. Ours and every peer take turns, so that a machine that slows down slows down all of them; a
ratio is the median over the turns, against the peer for which it is worst. A peer that takes more than SLOW_S has one.
Iterative rules go as far as the peer goes by default: three steps to the geometric median, one of centred clipping.
"""

from __future__ import annotations

from functools import partial

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fedge_aggregator.rounds.engine import blocks
from fedge_aggregator.rounds.engine.update_rows import MemoryRows, Rows, RowsWriter
from fedge_aggregator.rounds.rules.registry import build_pipeline

D = 1_000_000
SLOW_S = 3.0
QUIET_S = 0.05  # before each call: threads of the one before it may still be looking for work
RULES = ("median", "trimmed_mean", "krum", "geometric_median", "centred_clipping")
COUNTS = (50, 100)
MEMORY = (*RULES, "fedavg", "multi_krum", "bulyan", "norm_clipping")
Call = Callable[[], object]


def tables(f: int) -> dict[str, dict[str, object]]:
    """Return each rule's table for f of n."""
    by_f: dict[str, dict[str, object]] = {
        name: {"name": name, "byzantine": f} for name in ("trimmed_mean", "krum", "multi_krum", "bulyan")
    }
    radius: dict[str, object] = {"name": "centred_clipping", "radius": 100.0, "iterations": 1}
    return {
        **{name: {"name": name} for name in MEMORY},
        **by_f,
        "centred_clipping": radius,
        "geometric_median": {"name": "geometric_median", "iterations": 3},
    }


def updates(n: int, d: int = D) -> np.ndarray:
    """Return codes (n, d) of nodes that agree to a third."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 10, d).astype(np.float32)
    out = np.empty((n, d), np.int8)
    for row in out:
        row[:] = np.rint(np.clip(rng.normal(0, 30, d).astype(np.float32) + common, -127, 127))
    return out


def ours(name: str, rows: Rows, f: int) -> Call:
    """Return an aggregation of fedge."""
    pipeline, weights = build_pipeline(tables(f)[name], None, "benchmark"), np.ones(rows.n)
    return lambda: blocks.aggregate(pipeline, rows, weights)


def peers(name: str, values: np.ndarray, f: int) -> dict[str, Call]:
    """Return the same by the peers that have the rule, in each way that might be its fastest."""
    import torch

    tensor = torch.from_numpy(values)

    def with_threads(threads: int) -> object:
        torch.set_num_threads(threads)
        return byzfl_rule(name, f)(tensor)

    calls: dict[str, Call] = {"ByzFL NumPy": lambda: byzfl_rule(name, f)(values)}
    for threads in (1, 2):
        calls[f"ByzFL PyTorch, {threads} threads"] = partial(with_threads, threads)
    if flower := flower_rule(name, f):
        results = [([row], 1) for row in values]
        calls["Flower"] = lambda: flower(results)
    return calls


def byzfl_rule(name: str, f: int) -> Any:
    """ByzFL's rule, without what the package imports for its experiments (a torchvision of PyTorch's own build)."""
    if "byzfl" not in sys.modules and (spec := importlib.util.find_spec("byzfl")):
        sys.modules["byzfl"] = importlib.util.module_from_spec(spec)
    byzfl = importlib.import_module("byzfl.aggregators")
    made = {
        "median": byzfl.Median,
        "trimmed_mean": lambda: byzfl.TrMean(f),
        "krum": lambda: byzfl.Krum(f),
        "geometric_median": byzfl.GeometricMedian,
        "centred_clipping": byzfl.CenteredClipping,
    }
    return made[name]()


def flower_rule(name: str, f: int) -> Callable[[Any], object] | None:
    """Return Flower's function over [(layers, samples)], where it has one."""
    from flwr.server.strategy import aggregate as flower

    return {
        "median": flower.aggregate_median,
        "trimmed_mean": lambda results: flower.aggregate_trimmed_avg(results, (f + 0.5) / len(results)),
        "krum": lambda results: flower.aggregate_krum(results, f, 0),
    }.get(name)


def turns(calls: dict[str, Call], count: int) -> dict[str, np.ndarray]:
    """Return the seconds of each call in each turn, after one that does not count (slow calls: that one alone)."""
    times: dict[str, list[float]] = {name: [_timed(call)] for name, call in calls.items()}
    quick = [name for name, seconds in times.items() if seconds[0] <= SLOW_S or name == "ours"]
    for _ in range(count):
        for name in quick:
            times[name].append(_timed(calls[name]))
    return {name: np.array(seconds[1:] or seconds) for name, seconds in times.items()}


def _timed(call: Call) -> float:
    time.sleep(QUIET_S)
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(n: int, names: tuple[str, ...], with_peers: bool, count: int) -> tuple[list[list[str]], dict[str, float]]:
    """Return rows of the table, and figures."""
    codes, f, lines, figures = updates(n), n // 5, [], {}
    rows = MemoryRows(list(codes))
    values = codes.astype(np.float32) * np.float32(0.01) if with_peers else np.empty(0)
    for name in names:
        others = peers(name, values, f) if with_peers else {}
        times = turns({"ours": ours(name, rows, f), **others}, count)
        mine = times.pop("ours")
        suffix = "_int8" if name in {"median", "trimmed_mean"} else ""
        figures[f"{name}{suffix}_n{n}_ms"] = float(np.median(mine)) * 1e3
        line = [name, str(n), f"{np.median(mine) * 1e3:.0f}"]
        if times:
            ratios = {  # a slow peer's one turn is held against our median
                peer: float(np.median(s / mine) if len(s) == count else s[0] / np.median(mine))
                for peer, s in times.items()
            }
            best = min(ratios, key=lambda peer: ratios[peer])
            figures[f"{name}{suffix}_n{n}_vs_best_peer"] = ratios[best]
            line += [f"{ratios[best]:.1f}", best, ", ".join(f"{p} {r:.1f}" for p, r in ratios.items() if p != best)]
        lines.append(line)
    return lines, figures


def peak_mb(which: str) -> dict[str, float]:
    """Return what each rule adds to the peak in a process of its own, in turn; MiB."""
    command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", which]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def reset_peak() -> float:
    """Forget the peak of this process so far; return what it holds now, MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return own_peak_mb()


def own_peak_mb() -> float:
    """Return the peak of this process so far, MiB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def in_memory() -> dict[str, float]:
    """Return what each rule adds to 100 updates in memory; the peak never falls, so the first rule pays for all."""
    codes = updates(100)
    rows, before, grown = MemoryRows(codes), reset_peak(), {}
    for name in MEMORY:
        ours(name, rows, 20)()
        grown[name] = own_peak_mb() - before
    return grown


def in_a_file() -> dict[str, float]:
    """Return the peak and the seconds of a process that aggregates 1,000 updates which arrive one by one."""
    rng, out = np.random.default_rng(0), {}
    with tempfile.TemporaryDirectory() as folder, RowsWriter(Path(folder) / "rows", D, 1000) as writer:
        common = rng.integers(-127, 128, D, np.int8)
        for k in range(1000):
            writer.append(np.roll(common, 997 * k))
        rows = writer.rows()
        for name in ("median", "trimmed_mean", "geometric_median"):
            began = time.perf_counter()
            ours(name, rows, 200)()
            out[f"{name}_s"] = time.perf_counter() - began
        out["peak_rss_mb"] = own_peak_mb()
    return out


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for n in COUNTS[:1] if args.quick else COUNTS:
        more, found = measure(n, RULES, args.peers, 3 if args.quick else 7)
        lines += more
        figures |= found
    table(["rule", "n", "ms", "times the best peer", "which", "others"][: 6 if args.peers else 3], lines)
    grown = peak_mb("memory")
    figures["peak_mb_n100"] = max(grown.values())
    print("MiB beyond 100 updates in memory, at most:", f"{figures['peak_mb_n100']:.1f}", grown)
    if not args.quick:
        large = peak_mb("file")
        figures |= {f"n1000_{key}": value for key, value in large.items()}
        print("1,000 updates in a file:", ", ".join(f"{key} {value:.1f}" for key, value in large.items()))
    finish("rules", figures, args.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        print(json.dumps(in_memory() if sys.argv[2] == "memory" else in_a_file()))
    else:
        main()
