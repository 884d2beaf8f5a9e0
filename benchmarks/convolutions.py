# SPDX-License-Identifier: Apache-2.0
"""Training networks of convolutions: steps a second and memory; with --peers against PyTorch on one thread.

The same graphs, weights and batches; CPU seconds; fedge and PyTorch take turns, and a ratio is the median over the
turns. PyTorch has its fused optimiser, and of its two memory layouts the faster one.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from _convolutions import CLASSES, LAYOUTS, NETS, resnet18, torch_step
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import malloc
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit

MEMORY = {"resnet18": (64, 8), "resnet18_224": (224, 8), "resnet18_224_batch_2": (224, 2)}  # side, batch


def rows(shape: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random rows and labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, *shape)).astype(np.float32), rng.integers(0, CLASSES, count)


def epochs(name: str, optimizer: str, peers: bool) -> dict[str, Callable[[], object]]:
    """Return an epoch of each side."""
    make, batch, batches = NETS[name]
    net = make()
    graph, (x, y) = TrainableGraph.load(net.model()), rows(net.shape, batch * batches)
    config = TrainingConfig(batch=batch, epochs=1, optimizer=optimizer, learning_rate=0.001)
    found: dict[str, Callable[[], object]] = {"ours": lambda: fit(graph, x, y, config, np.random.default_rng(0))}
    for layout in LAYOUTS if peers else ():
        found[layout] = partial(_torch_epoch, torch_step(net, optimizer, layout), x, y, batch)
    return found


def _torch_epoch(step: Callable[[np.ndarray, np.ndarray], object], x: np.ndarray, y: np.ndarray, batch: int) -> None:
    for i in range(0, len(x), batch):
        step(x[i : i + batch], y[i : i + batch])


def measure(name: str, optimizer: str, peers: bool, turns: int) -> dict[str, np.ndarray]:
    """Return the CPU seconds of a step, in each turn after one that does not count."""
    who = epochs(name, optimizer, peers)
    times: dict[str, list[float]] = {side: [] for side in who}
    for turn in range(turns + 1):
        for side, epoch in who.items():
            began = time.process_time()
            epoch()
            if turn:
                times[side].append((time.process_time() - began) / NETS[name][2])
    return {side: np.array(found) for side, found in times.items()}


def peak_rss_mb(name: str) -> float:
    """Return the peak of a process that trains this graph and does nothing else, MiB."""
    command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def child(name: str) -> None:
    """Train with Adam, set up as the agent is, and print this process's own peak."""
    malloc.return_large_blocks()
    side, batch = MEMORY[name]
    net = resnet18(side)
    graph = TrainableGraph.load(net.model(), schemas=False)
    shape = net.shape
    del net
    config = TrainingConfig(batch=batch, epochs=1, optimizer="adam")
    fit(graph, *rows(shape, 2 * batch), config, np.random.default_rng(0))
    status = Path("/proc/self/status").read_text()
    print(int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024)


def main() -> None:
    """Print the tables."""
    args = arguments(__doc__ or "")
    lines, figures = [], {}
    for name in NETS:
        for optimizer, suffix in (("sgd", ""),) if args.quick else (("sgd", ""), ("adam", "_adam")):
            times = measure(name, optimizer, args.peers, 3 if args.quick else 9)
            figures[f"{name}{suffix}_step_ms"] = float(np.median(times["ours"])) * 1000
            mine = times.pop("ours")
            if args.peers:
                figures[f"{name}{suffix}_vs_torch"] = min(float(np.median(theirs / mine)) for theirs in times.values())
            ratio = f"{figures[f'{name}{suffix}_vs_torch']:.2f}" if args.peers else ""
            lines.append([name, optimizer, f"{figures[f'{name}{suffix}_step_ms']:.1f}", ratio])
    table(["net", "optimizer", "ms a step", "times PyTorch"], lines)
    for name in MEMORY:
        figures[f"peak_rss_mb_{name}"] = peak_rss_mb(name)
        print(f"peak_rss_mb_{name} {figures[f'peak_rss_mb_{name}']:.0f}")
    finish("convolutions", figures, args.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        child(sys.argv[2])
    else:
        main()
