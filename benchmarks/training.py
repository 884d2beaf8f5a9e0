# SPDX-License-Identifier: Apache-2.0
"""Training speed and memory; with --peers against PyTorch at its best (eager or fused optimiser, one or two threads).

The same graphs, batches of 32, random data, whole epochs. Ours and every peer take turns, so that a machine that slows
down slows down all of them; a ratio is the median over the turns, against the peer for which it is worst.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit

BATCH = 32
Epoch = Callable[[], object]


def card(outputs: int, channels: int = 1, length: int = 1) -> Card:
    """Return a card for a classifier."""
    names = tuple(Channel(f"c{i}") for i in range(channels))
    return Card("classify", names, WindowSpec(1, length, 1), labels=tuple(f"l{i}" for i in range(outputs)))


# Name to model, shape of a sample, classes, rows of an epoch.
GRAPHS: dict[str, tuple[Callable[[], Any], tuple[int, ...], int, int]] = {
    "mlp_small": (lambda: zoo.mlp(card(4), 32, (64, 32)), (32,), 4, 2048),
    "mlp_wide": (lambda: zoo.mlp(card(10), 128, (256, 128)), (128,), 10, 2048),
    "cnn1d": (lambda: zoo.cnn1d(card(4, 3, 256), (16, 32), (7, 5)), (3, 256), 4, 1024),
    "cnn2d": (lambda: zoo.cnn2d(card(7), (1, 64, 64), (8, 16, 32)), (1, 64, 64), 7, 512),
}


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return random rows and labels."""
    _, shape, classes, rows = GRAPHS[name]
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, *shape)).astype(np.float32), rng.integers(0, classes, rows)


def ours(name: str, optimizer: str) -> Epoch:
    """Return an epoch of fedge."""
    graph, (x, y) = TrainableGraph.load(GRAPHS[name][0]().SerializeToString()), data(name)
    config = TrainingConfig(batch=BATCH, epochs=1, optimizer=optimizer, learning_rate=0.001, proximal_mu=0.0)
    return lambda: fit(graph, x, y, config, np.random.default_rng(0))


def peers(name: str, optimizer: str) -> dict[str, Epoch]:
    """Return epochs of PyTorch, in each way that might be its fastest."""
    return {
        f"{threads} threads, {'fused' if fused else 'eager'}": _torch_epoch(name, optimizer, threads, fused)
        for threads in (1, 2)
        for fused in (False, True)
    }


def _torch_epoch(name: str, optimizer: str, threads: int, fused: bool) -> Epoch:
    import torch

    net = _torch(name, torch)
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    extra = {} if optimizer == "adam" else {"momentum": 0.9}
    step = kind(net.parameters(), lr=0.001, fused=fused, **extra)
    x, y = (torch.from_numpy(a) for a in data(name))

    def epoch() -> None:
        torch.set_num_threads(threads)
        order = torch.randperm(len(x))
        sx, sy = x[order], y[order]
        for i in range(0, len(sx), BATCH):
            step.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(sx[i : i + BATCH]), sy[i : i + BATCH]).backward()
            step.step()

    return epoch


def _torch(name: str, torch: Any) -> Any:
    n = torch.nn
    if name == "cnn1d":
        return n.Sequential(
            n.Conv1d(3, 16, 7), n.ReLU(), n.MaxPool1d(2), n.Conv1d(16, 32, 5), n.ReLU(),
            n.AdaptiveAvgPool1d(1), n.Flatten(), n.Linear(32, 4),
        )  # fmt: skip
    if name == "cnn2d":
        return n.Sequential(
            n.Conv2d(1, 8, 3, padding=1), n.ReLU(), n.MaxPool2d(2), n.Conv2d(8, 16, 3, padding=1), n.ReLU(),
            n.MaxPool2d(2), n.Conv2d(16, 32, 3, padding=1), n.ReLU(), n.AdaptiveAvgPool2d(1), n.Flatten(),
            n.Linear(32, 7),
        )  # fmt: skip
    a, b, c, d = (32, 64, 32, 4) if name == "mlp_small" else (128, 256, 128, 10)
    return n.Sequential(n.Linear(a, b), n.ReLU(), n.Linear(b, c), n.ReLU(), n.Linear(c, d))


def turns(epochs: Mapping[str, Epoch], count: int) -> dict[str, np.ndarray]:
    """Return the seconds of each epoch in each turn, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for turn in range(count + 1):
        for name, epoch in epochs.items():
            began = time.perf_counter()
            epoch()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: np.array(seconds) for name, seconds in times.items()}


def peak_rss_mb(name: str) -> float:
    """Return the peak of a process that trains this graph and does nothing else, MiB."""
    command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def own_peak_mb() -> float:
    """Return the peak of this process, MiB. Not from getrusage: a child's starts at its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    rows, figures = [], {}
    for name in GRAPHS:
        for optimizer, suffix in (("sgd", ""), ("adam", "_adam")):
            others = peers(name, optimizer) if args.peers else {}
            times = turns({"ours": ours(name, optimizer), **others}, 3 if args.quick else 9)
            mine = times.pop("ours")
            figures[f"{name}{suffix}_samples_per_s"] = GRAPHS[name][3] / float(np.median(mine))
            ratios = {peer: float(np.median(seconds / mine)) for peer, seconds in times.items()}
            best = min(ratios, key=lambda peer: ratios[peer]) if ratios else ""
            if best:
                figures[f"{name}{suffix}_vs_torch"] = ratios[best]
            ratio = [f"{ratios[best]:.2f}", best] if best else ["-", "-"]
            rows.append([name, optimizer, f"{figures[f'{name}{suffix}_samples_per_s']:,.0f}", *ratio])
    table(["graph", "optimizer", "samples/s", "times PyTorch", "at its best"], rows)
    for key, name in (("peak_rss_mb_mlp", "mlp_small"), ("peak_rss_mb_cnn1d", "cnn1d")):
        figures[key] = peak_rss_mb(name)
        print(f"{key} {figures[key]:.1f}")
    finish("training", figures, args.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        ours(sys.argv[2], "adam")()
        print(own_peak_mb())
    else:
        main()
