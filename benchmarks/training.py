"""Training speed and memory; with --peers against PyTorch at its best (eager or fused optimiser, one or two threads).

The same graphs, batches of 32, random data; samples per second of whole epochs, medians of several.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from fedge_models import zoo
from fedge_models.card import Card, Channel, WindowSpec
from fedge_models.graph import TrainableGraph
from fedge_models.training import TrainingConfig, fit

ROWS, BATCH = 2048, 32


def card(outputs: int, channels: int = 1, length: int = 1) -> Card:
    """A card for a classifier."""
    names = tuple(Channel(f"c{i}") for i in range(channels))
    return Card("classify", names, WindowSpec(1, length, 1), labels=tuple(f"l{i}" for i in range(outputs)))


GRAPHS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "mlp_small": (zoo.mlp(card(4), 32, (64, 32)), (32,), 4),
    "mlp_wide": (zoo.mlp(card(10), 128, (256, 128)), (128,), 10),
    "cnn1d": (zoo.cnn1d(card(4, 3, 256), (16, 32), (7, 5)), (3, 256), 4),
}


def rate(epoch: Callable[[], object], rows: int, runs: int) -> float:
    """Median samples per second."""
    epoch()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - began)
    return rows / float(np.median(times))


def ours(model: Any, x: np.ndarray, y: np.ndarray, optimizer: str, runs: int) -> float:
    """fedge."""
    graph = TrainableGraph.load(model.SerializeToString())
    config = TrainingConfig(batch=BATCH, epochs=1, optimizer=optimizer, learning_rate=0.001, proximal_mu=0.0)
    return rate(lambda: fit(graph, x, y, config, np.random.default_rng(0)), len(x), runs)


def peers(name: str, x: np.ndarray, y: np.ndarray, optimizer: str, runs: int) -> float:
    """PyTorch at its best."""
    import torch

    best = 0.0
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for fused in (False, True):
            net = _torch(name, torch)
            kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
            extra = {} if optimizer == "adam" else {"momentum": 0.9}
            step = kind(net.parameters(), lr=0.001, fused=fused, **extra)
            tx, ty = torch.from_numpy(x), torch.from_numpy(y)

            def epoch(net: Any = net, step: Any = step, tx: Any = tx, ty: Any = ty) -> None:
                order = torch.randperm(len(tx))
                sx, sy = tx[order], ty[order]
                for i in range(0, len(sx), BATCH):
                    step.zero_grad(set_to_none=True)
                    torch.nn.functional.cross_entropy(net(sx[i : i + BATCH]), sy[i : i + BATCH]).backward()
                    step.step()

            best = max(best, rate(epoch, len(x), runs))
    return best


def _torch(name: str, torch: Any) -> Any:
    n = torch.nn
    if name == "cnn1d":
        return n.Sequential(
            n.Conv1d(3, 16, 7), n.ReLU(), n.MaxPool1d(2), n.Conv1d(16, 32, 5), n.ReLU(),
            n.AdaptiveAvgPool1d(1), n.Flatten(), n.Linear(32, 4),
        )  # fmt: skip
    a, b, c, d = (32, 64, 32, 4) if name == "mlp_small" else (128, 256, 128, 10)
    return n.Sequential(n.Linear(a, b), n.ReLU(), n.Linear(b, c), n.ReLU(), n.Linear(c, d))


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    runs, rng, rows, figures = 3 if args.quick else 7, np.random.default_rng(0), [], {}
    for name, (model, shape, classes) in GRAPHS.items():
        x = rng.normal(size=(ROWS, *shape)).astype(np.float32)
        y = rng.integers(0, classes, ROWS)
        for optimizer, suffix in (("sgd", ""), ("adam", "_adam")):
            mine = ours(model, x, y, optimizer, runs)
            figures[f"{name}{suffix}_samples_per_s"] = mine
            ratio = "-"
            if args.peers:
                figures[f"{name}{suffix}_vs_torch"] = mine / peers(name, x, y, optimizer, runs)
                ratio = f"{figures[f'{name}{suffix}_vs_torch']:.2f}"
            rows.append([name, optimizer, f"{mine:,.0f}", ratio])
    if not args.peers:
        figures["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(["peak RSS, MiB", "", f"{figures['peak_rss_mb']:.0f}", "-"])
    table(["graph", "optimizer", "samples/s", "times PyTorch"], rows)
    finish("training", figures, args.json)


if __name__ == "__main__":
    main()
