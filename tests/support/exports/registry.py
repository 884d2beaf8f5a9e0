# SPDX-License-Identifier: Apache-2.0
"""All networks of the table, and how they are run: two processes, each with one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from support.counterparts import counterpart

from .exporting import WAYS, Way
from .network import Network
from .pictures import PICTURES
from .series import SERIES
from .tables import TABLES
from .verdict import Outcome, outcome
from .waves import WAVES

torch = counterpart("torch")
GROUPS: dict[str, dict[str, Network]] = {
    "features of a window": TABLES,
    "windows, channels first": WAVES,
    "windows, time first (recurrent, transformers)": SERIES,
    "pictures": PICTURES,
}
NETWORKS: dict[str, Network] = {name: network for group in GROUPS.values() for name, network in group.items()}
LARGE, FEW = "torchvision", (WAYS[0], WAYS[3], WAYS[4])  # networks that take long, and how they are exported
PROCESSES = 2
Case = tuple[str, Way]


def cases() -> list[Case]:
    """Every network with every way that it is exported in, the large ones first."""
    large = [(n, way) for n in NETWORKS if n.startswith(LARGE) for way in FEW]
    return large + [(n, way) for n in NETWORKS if not n.startswith(LARGE) for way in WAYS]


def some() -> list[Case]:
    """Every network in one of its ways, each way equally often: what fits into each run of CI."""
    ways: dict[str, list[Way]] = {}
    for name, way in cases():
        ways.setdefault(name, []).append(way)
    return [(name, ways[name][i % len(ways[name])]) for i, name in enumerate(ways)]


def run(chosen: Sequence[Case], processes: int = PROCESSES) -> Iterator[Outcome]:
    """Export and try them; outcomes come in the order of the cases."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(one, chosen)


def one(case: Case) -> Outcome:
    """Export and try one network in one way."""
    name, way = case
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fedge-") as folder:
        return outcome(name, NETWORKS[name], way, Path(folder))
