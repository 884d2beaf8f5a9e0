"""What a decision costs beside its bare `session.run`, idle and while a model trains in the same process.

The whole way of the main thread: readings pushed into the window assembler, features, standardisation, ONNX Runtime,
alert, sample queued. `p99_ms_training` is taken with one core (as on a small board), from the scheduled time of each
window, at 100 windows a second.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from fedge_agent import standardise
from fedge_agent.alerts import AlertState
from fedge_agent.app import SWITCH_INTERVAL_S
from fedge_agent.assets import Asset
from fedge_agent.config import AssetConfig, ModelConfig, TagConfig, When
from fedge_agent.health import Latency
from fedge_agent.inference import Serving, Session
from fedge_agent.participant import NICE
from fedge_agent.samples import SampleStore
from fedge_agent.types import Batch, Reading
from fedge_models import zoo
from fedge_models.card import Card, Channel, WindowSpec
from fedge_models.graph import TrainableGraph
from fedge_models.training import TrainingConfig, fit

CHANNELS, HZ = 8, 100.0
CARD = Card(
    "anomaly", tuple(Channel(f"c{i}") for i in range(CHANNELS)), WindowSpec(HZ, 60, 1), ("mean", "std", "slope")
)


def asset(folder: Path) -> tuple[Asset, Serving, TrainableGraph, np.ndarray]:
    """An asset as the agent makes it, with a model that serves."""
    model = zoo.autoencoder(CARD, 3 * CHANNELS, (16, 4)).SerializeToString()
    graph = TrainableGraph.load(model)
    x = np.random.default_rng(0).normal(size=(2000, 3 * CHANNELS)).astype(np.float32)
    serving = Serving(Session(model, graph.initializers(graph.params.copy())), CARD, 1, standardise.fit(x), 1e9)
    samples = SampleStore(folder / "samples.sqlite", {"m": 20_000})
    samples.start()
    participant = SimpleNamespace(graph=graph, serving=serving, config=ModelConfig())
    tags = {c.name: TagConfig(source="plc", tag=c.name) for c in CARD.channels}
    config = AssetConfig(model="m", channels=tags, when=When())
    made = Asset("gw", "m", config, participant, samples, Latency(), AlertState(), lambda *_: None)  # type: ignore[arg-type]
    return made, serving, graph, x


def push(made: Asset, tick: int, values: np.ndarray, stamp: int) -> None:
    """One reading of every channel: completes one window."""
    readings = [Reading(f"c{i}", round(tick * 1e9 / HZ), float(v)) for i, v in enumerate(values)]
    made.push(Batch("plc", readings, None, stamp))


def scheduled(made: Asset, count: int, values: np.ndarray, first: int) -> np.ndarray:
    """Seconds from each window's scheduled time to its decision."""
    times, begin = np.empty(count), time.perf_counter() + 0.01
    for k in range(count):
        due = begin + k / HZ
        time.sleep(max(0.0, due - time.perf_counter()))
        push(made, first + k, values[k % len(values)], time.monotonic_ns())
        times[k] = time.perf_counter() - due
    return times


def median_us(call: Callable[[], object], count: int = 2000) -> float:
    """Median time of a call, microseconds."""
    times = np.empty(count)
    for i in range(count):
        began = time.perf_counter()
        call()
        times[i] = time.perf_counter() - began
    return float(np.median(times) * 1e6)


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    count = 500 if args.quick else 2000
    with tempfile.TemporaryDirectory() as folder:
        made, serving, graph, x = asset(Path(folder))
        values = np.random.default_rng(1).normal(size=(500, CHANNELS))
        row = serving.scale(x[0])[None]
        bare = median_us(lambda: serving.session.run(row))
        ticks = iter(range(1, 1 << 30))
        whole = median_us(lambda: push(made, next(ticks), values[0], time.monotonic_ns()))
        idle = scheduled(made, count, values, 10_000)
        stop = threading.Event()

        def train() -> None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
            while not stop.is_set():
                fit(graph, x, None, TrainingConfig(epochs=1), np.random.default_rng(0))

        trainer = threading.Thread(target=train)
        trainer.start()
        training = scheduled(made, count, values, 100_000)
        stop.set()
        trainer.join()
        made._samples.stop()
    figures = {
        "session_run_us": bare,
        "overhead_vs_session_run": whole / bare,
        "p50_ms": 1e3 * float(np.median(idle)),
        "p99_ms": 1e3 * float(np.quantile(idle, 0.99)),
        "p50_ms_training": 1e3 * float(np.median(training)),
        "p99_ms_training": 1e3 * float(np.quantile(training, 0.99)),
    }
    table(["figure", "value"], [[k, f"{v:.3f}"] for k, v in figures.items()])
    finish("latency", figures, args.json)


if __name__ == "__main__":
    main()
