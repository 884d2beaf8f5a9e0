# SPDX-License-Identifier: Apache-2.0
"""Training speed and memory; with --peers against PyTorch and JAX at their best.

The same graphs, batches of 32, random data, shuffled whole epochs, momentum or Adam in float32. PyTorch is eager or
fused, on one or two threads; JAX has each epoch compiled to one scan, on one thread. Each library has a process of its
own; they take turns, so that a machine that slows down slows down all of them. A ratio is the median over the turns,
against the way of the peer for which it is worst: of wall clock for PyTorch, of CPU seconds for JAX.
"""

from __future__ import annotations

from _common import ROOT, arguments, finish, table  # isort: skip  # sets the BLAS threads first

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import date
from importlib import metadata
from pathlib import Path
from statistics import median

from _training import GRAPHS, store
from _training_runs import INSIDE, Library, Seconds, from_start, libraries, once, serve, variants

PEERS = {"torch": "PyTorch", "jax": "JAX"}
MEASURED = {"torch": 0, "jax": 1}  # wall clock, CPU
COMPARED = {"torch": [*GRAPHS], "jax": ["mlp_small", "mlp_wide", "cnn1d"]}
TITLES = {
    "mlp_small": "MLP 32-64-32-4",
    "mlp_wide": "MLP 128-256-128-10",
    "cnn1d": "1-D CNN",
    "cnn2d": "2-D CNN, 64×64 images",
}
Row = list[str]


def turns(
    running: Mapping[str, Library], name: str, optimizer: str, quick: bool
) -> dict[tuple[str, str], list[Seconds]]:
    """Return seconds of an epoch by library and variant, a turn each, after one that does not count."""
    who = [(lib, way) for lib in running if name in COMPARED.get(lib, GRAPHS) for way in variants(lib, quick)]
    times: dict[tuple[str, str], list[Seconds]] = {key: [] for key in who}
    for turn in range(3 if quick else 10):
        for library, way in who:
            seconds = running[library].run(name, optimizer, way, 0.03 if quick else 0.1)
            if turn:
                times[library, way].append(seconds)
    return times


def compare(times: Mapping[tuple[str, str], list[Seconds]]) -> dict[str, tuple[float, str]]:
    """Return for each peer how many times as fast we are, and its way for which that is least."""
    mine = times["ours", ""]
    found: dict[str, tuple[float, str]] = {}
    for (library, way), theirs in times.items():
        if library != "ours":
            which = MEASURED[library]
            ratio = median(t[which] / m[which] for t, m in zip(theirs, mine, strict=True))
            found[library] = min(found.get(library, (ratio, way)), (ratio, way))
    return found


def epochs(peers: bool, quick: bool, figures: dict[str, float]) -> list[Row]:
    """Measure steady training."""
    rows = []
    with libraries(["ours", *(PEERS if peers else ())]) as running:
        for name in GRAPHS:
            for optimizer, suffix in (("sgd", ""), ("adam", "_adam")):
                times = turns(running, name, optimizer, quick)
                speed = GRAPHS[name][3] / median(t[0] for t in times["ours", ""])
                figures[f"{name}{suffix}_samples_per_s"] = speed
                found = compare(times)
                for library, (ratio, _) in found.items():
                    figures[f"{name}{suffix}_vs_{library}"] = ratio
                if ("jax", INSIDE) in times:
                    only = {key: times[key] for key in (("ours", ""), ("jax", INSIDE))}
                    figures[f"{name}{suffix}_vs_jax_shuffling"] = compare(only)["jax"][0]
                cells = [c for lib in PEERS for c in _cells(found, lib)]
                strongest = PEERS[min(found, key=lambda lib: found[lib][0])] if found else ""
                rows.append(
                    [TITLES[name], {"sgd": "SGD", "adam": "Adam"}[optimizer], f"{speed:,.0f}", *cells, strongest]
                )
    return rows


def _cells(found: Mapping[str, tuple[float, str]], library: str) -> Row:
    return [f"{found[library][0]:.2f}", found[library][1]] if library in found else ["", ""]


def starts(peers: bool, quick: bool, figures: dict[str, float]) -> list[Row]:
    """Measure processes that start, train the small MLP for five epochs and end."""
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as cache:
        folder = Path(made)
        who = {
            "fedge": ("ours", ""),
            "PyTorch": ("torch", ""),
            "JAX": ("jax", ""),
            "JAX, compiled before": ("jax", cache),
        }
        store("cnn1d", folder)
        figures["peak_rss_mb_cnn1d"] = from_start("ours", "cnn1d", folder)[2]
        store("mlp_small", folder)
        runs: dict[str, list[tuple[float, float, float]]] = {t: [] for t in who if peers or t == "fedge"}
        for turn in range(2 if quick else 6):
            for title, found in runs.items():
                measured = from_start(who[title][0], "mlp_small", folder, who[title][1])
                if turn:  # the first fills the caches
                    found.append(measured)
    wall, cpu, peak = ({t: median(m[k] for m in found) for t, found in runs.items()} for k in range(3))
    figures["peak_rss_mb_mlp"] = peak["fedge"]
    for library, titles in (("torch", ["PyTorch"]), ("jax", ["JAX", "JAX, compiled before"])):
        if peers:
            ratios = [kind[title] / kind["fedge"] for kind in (wall, cpu) for title in titles]
            figures[f"five_epochs_from_start_vs_{library}"] = min(ratios)
            figures[f"peak_rss_mb_mlp_{library}"] = peak[titles[0]]
    return [[t, f"{wall[t]:.2f}", f"{cpu[t]:.2f}", f"{peak[t]:.0f}"] for t in runs]


HEADER = ["net", "optimiser", "samples/s", "times PyTorch", "at its best", "times JAX", "at its best", "strongest peer"]
STARTED = ["process", "wall clock, s", "CPU, s", "peak memory, MiB"]
MEMORY = ["net", "MiB"]


def write(path: Path, rows: list[Row], started: list[Row], figures: Mapping[str, float]) -> None:
    """Write the result that docs/benchmarks.md is made from; notes are written by hand and stay."""
    memory = [
        [TITLES["mlp_small"], f"{figures['peak_rss_mb_mlp']:.0f}"],
        [TITLES["cnn1d"], f"{figures['peak_rss_mb_cnn1d']:.0f}"],
    ]
    result = {
        "benchmark": "training",
        "title": "Training",
        "command": "make bench-peers (benchmarks/training.py)",
        "date": date.today().isoformat(),
        "environment": environment(),
        "intro": [(__doc__ or "").split("\n\n", 1)[1].replace("\n", " ").strip()],
        "tables": [
            {"caption": "Epochs: how many times as fast as the peer", "columns": HEADER, "rows": rows},
            {
                "caption": "From the start of a process to the end of five epochs (MLP 32-64-32-4, Adam)",
                "columns": STARTED,
                "rows": started,
            },
            {"caption": "Peak memory of the whole process", "columns": MEMORY, "rows": memory},
        ],
        "values": {key: f"{value:.2f}" for key, value in figures.items()},
        "notes": json.loads(path.read_text("utf-8"))["notes"] if path.exists() else [],
    }
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


def environment() -> str:
    """The machine in words."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "torch", "jax"))
    kernel = os.environ.get("OPENBLAS_CORETYPE")
    pinned = f", OPENBLAS_CORETYPE={kernel} set for NumPy" if kernel else ""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    machine = f"{os.cpu_count()} {platform.machine()} cores, Python {platform.python_version()}"
    return f"{machine}, {versions}{pinned}; commit {commit.strip()}"


def main() -> None:
    """Print the tables."""
    args = arguments(__doc__ or "", _options)
    figures: dict[str, float] = {}
    rows = epochs(args.peers, args.quick, figures)
    table(HEADER, rows)
    print()
    started = starts(args.peers, args.quick, figures)
    table(STARTED, started)
    print(f"peak of a training of the 1-D CNN: {figures['peak_rss_mb_cnn1d']:.0f} MiB")
    if args.result:
        write(args.result, rows, started, figures)
    finish("training", figures, args.json)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--result", type=Path, help="write the result for the documentation, with --peers")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["--once"]:
        once(*sys.argv[2:])
    else:
        main()
