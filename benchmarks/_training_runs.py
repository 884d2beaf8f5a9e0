# SPDX-License-Identifier: Apache-2.0
"""Processes that train for benchmarks/training.py: a library each, so that none meets another's threads.

`serve` waits for orders; `once` starts from nothing, trains a stored model and ends.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from _training import EPOCHS, GRAPHS, Epochs, data, ours, stored

Seconds = tuple[float, float]  # wall clock and CPU, of an epoch
INSIDE = "shuffled inside"  # JAX sorts random numbers for it, which takes as long as the small MLP's epoch
SCRIPT = Path(__file__).with_name("training.py")


def serve(library: str) -> None:
    """Run what is ordered, line by line: [graph, optimiser, variant, seconds to fill]. Answer with Seconds."""
    made: dict[tuple[str, ...], Epochs] = {}
    for line in sys.stdin:
        *what, seconds = json.loads(line)
        if tuple(what) not in made:
            made = {**{k: v for k, v in made.items() if k[:2] == tuple(what[:2])}, tuple(what): _epochs(library, *what)}
        print(json.dumps(_timed(made[tuple(what)], EPOCHS if library == "ours" else 1, seconds)), flush=True)


def _epochs(library: str, name: str, optimizer: str, variant: str) -> Epochs:
    x, y = data(name)
    if library == "ours":
        return ours(GRAPHS[name][0]().SerializeToString(), x, y, optimizer)
    epoch: Epochs = import_module(f"_training_{library}").epoch(name, optimizer, variant, x, y)
    return epoch


def _timed(run: Epochs, epochs: int, seconds: float) -> Seconds:
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while not count or time.perf_counter() - wall < seconds:
        run()
        count += epochs
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count


class Library:
    """A process that serves one library."""

    def __init__(self, library: str) -> None:
        command = [sys.executable, str(SCRIPT), "--serve", library]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, name: str, optimizer: str, variant: str, seconds: float) -> Seconds:
        """Run epochs for so many seconds, at least once."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps([name, optimizer, variant, seconds]), file=self._process.stdin, flush=True)
        wall, cpu = json.loads(self._process.stdout.readline())
        return wall, cpu

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextmanager
def libraries(names: list[str]) -> Iterator[dict[str, Library]]:
    """Processes by library."""
    running = {name: Library(name) for name in names}
    try:
        yield running
    finally:
        for library in running.values():
            library.close()


def variants(library: str, quick: bool) -> tuple[str, ...]:
    """Ways to run a library; the one that is worst for us counts."""
    ways = {
        "ours": ("",),
        "torch": ("1 thread, eager", "1 thread, fused", "2 threads, eager", "2 threads, fused"),
        "jax": ("NumPy's order", "NumPy's order, unrolled 2", INSIDE),
    }[library]
    return ways[:2] if quick else ways  # those that were ever the worst


def once(library: str, name: str, folder: str, cache: str = "") -> None:
    """Train the stored model for five epochs with Adam; print the peak of this process, MiB."""
    x, y = stored(Path(folder))
    if library == "ours":
        ours(Path(folder, "model.onnx").read_bytes(), x, y, "adam")()
    else:
        module: Any = import_module(f"_training_{library}")
        if cache:
            module.keep_compiled(cache)
        run = module.epoch(name, "adam", variants(library, True)[0], x, y)
        for _ in range(EPOCHS):
            run()
    # Not from getrusage: a child's begins with its parent's.
    print(int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024)


def from_start(library: str, name: str, folder: Path, cache: str = "") -> tuple[float, float, float]:
    """Start a process that trains once; return its wall clock and CPU seconds, and its peak in MiB."""
    command = [sys.executable, str(SCRIPT), "--once", library, name, str(folder), *([cache] if cache else [])]
    before, began = os.times(), time.perf_counter()
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    after, wall = os.times(), time.perf_counter() - began
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu, peak
