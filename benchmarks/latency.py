# SPDX-License-Identifier: Apache-2.0
"""What a decision costs beside its bare `session.run`, idle and while a model trains in the same process.

`overhead_vs_session_run`: from a complete window to its decision (features, standardisation, ONNX Runtime, alert,
sample queued). `p99_ms` and `p99_ms_training`: the whole way from the tick at which another process sends the readings,
100 times a second, over a source's thread and the queue to the decision; the agent has one core, as on a small board,
and the sender the other; `…_floor` is the same way with nothing at its end: what the machine needs to wake two threads.
`vision_p99_ms`: the same way for a picture of 64 x 64 pixels, 20 a second, from the bytes of its PNG file over decoding
to the decision of a small CNN; `vision_vga_p99_ms`: for one of 640 x 480 in colour, cut down to 64 x 64 in grey.
`tags_per_s_per_core`: scalar tags from an OPC UA server into windows, by the agent's CPU time.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import asyncio
import io
import logging
import math
import multiprocessing
import os
import resource
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
from fedge_agent.app import SWITCH_INTERVAL_S
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, When
from fedge_agent.federation.participant import NICE, give_way
from fedge_agent.health import Latency
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.mixture import Mixing
from fedge_agent.learning.serving import MixedSession, Serving, Session
from fedge_agent.machines.asset import Asset
from fedge_agent.samples.store import SampleStore
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.types import AlertState, Batch, Reading, Window
from fedge_agent.windows.assembler import Assembler
from fedge_agent.windows.pictures import decode
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import standardise
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit

CHANNELS, HZ = 8, 100.0
CORE = max(os.sched_getaffinity(0))  # of the agent
spawn = multiprocessing.get_context("spawn")
CARD = Card(
    "anomaly", tuple(Channel(f"c{i}") for i in range(CHANNELS)), WindowSpec(HZ, 60, 1), ("mean", "std", "slope")
)


def asset(folder: Path) -> tuple[Asset, Serving, TrainableGraph, np.ndarray, SampleStore]:
    """Build an asset as the agent does, with a model that serves."""
    model = zoo.autoencoder(CARD, 3 * CHANNELS, (16, 4)).SerializeToString()
    graph = TrainableGraph.load(model)
    x = np.random.default_rng(0).normal(size=(2000, 3 * CHANNELS)).astype(np.float32)
    serving = Serving(both(model, graph), CARD, 1, standardise.fit(x), Limit(1e9))
    samples = SampleStore(folder / "samples.sqlite", {"m": 20_000})
    samples.is_fine("m", not serving.scale.is_wide)
    samples.start()
    participant = SimpleNamespace(graph=graph, serving=serving, config=ModelConfig())
    tags = {c.name: TagConfig(source="plc", tag=c.name) for c in CARD.channels}
    config = AssetConfig(model="m", channels=tags, when=When())
    made = Asset("gw", "m", config, participant, samples, Latency(), AlertState(), lambda *_: None)  # type: ignore[arg-type]
    return made, serving, graph, x, samples


def both(model: bytes, graph: TrainableGraph) -> MixedSession:
    """Return the session of an agent by default: a release and the site's own model, which counts 0.4."""
    own, release = (
        Session(model, graph.initializers(graph.params * part)) for part in (np.float32(0.9), np.float32(1))
    )
    return MixedSession(own, release, Mixing(graph.card.task, 0.4, probabilities=graph.gives_probabilities))


def batch(tick: int, values: np.ndarray) -> Batch:
    """Return one reading of every channel, which completes one window."""
    readings = [Reading(f"c{i}", round(tick * 1e9 / HZ), float(v)) for i, v in enumerate(values)]
    return Batch("plc", readings, None, time.monotonic_ns())


def send_ticks(wire: Connection, count: int, hz: float) -> None:
    """In the other process: send the time of each tick at that time (spinning, so that no sleep blurs it)."""
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - {CORE} or {CORE})
    begin = time.perf_counter() + 0.1
    for k in range(count):
        due = begin + k / hz
        while time.perf_counter() < due:
            pass
        wire.send_bytes(struct.pack("d", due))


def scheduled(push: Callable[[Batch], None], count: int, make: Callable[[int], Batch], hz: float = HZ) -> np.ndarray:
    """Return the seconds from each tick to the end of `push`, over a receiving thread and the agent's queue."""
    ours, theirs = spawn.Pipe(duplex=False)
    sender = spawn.Process(target=send_ticks, args=(theirs, count, hz), daemon=True)
    sender.start()
    queue, due = Queue(64), np.empty(count)

    def receive() -> None:
        for k in range(count):
            (due[k],) = struct.unpack("d", ours.recv_bytes())
            queue.put(make(k))

    threading.Thread(target=receive, daemon=True).start()
    times = np.empty(count)
    for k in range(count):
        while (one := queue.get(1.0)) is None:
            continue
        push(one)
        times[k] = time.perf_counter() - due[k]
    sender.join()
    return times


def seen(folder: Path, shape: tuple[int, ...], count: int) -> np.ndarray:
    """Return the seconds from each tick, at which a PNG of `shape` appears, to the decision on it."""
    card = Card("classify", (Channel("c"),), WindowSpec(20, 1, 1), labels=("a", "b"), image=ImageSpec(64, 64))
    model = zoo.cnn2d(card).SerializeToString()
    graph = TrainableGraph.load(model)
    x = np.random.default_rng(0).integers(0, 256, (200, 1, 64, 64), dtype=np.uint8)
    serving = Serving(both(model, graph), card, 1, standardise.fit(x, card), Limit(0.5))
    samples = SampleStore(folder / f"{math.prod(shape)}.sqlite", {"m": 20_000})
    samples.start()
    participant = SimpleNamespace(graph=graph, serving=serving, config=ModelConfig())
    config = AssetConfig(model="m", channels={"c": TagConfig(source="cam", tag="*")})
    made = Asset("gw", "m", config, participant, samples, Latency(), AlertState(), lambda *_: None)  # type: ignore[arg-type]
    files = [png(shape, key) for key in range(20)]

    def take(k: int) -> Batch:
        return Batch("cam", [Reading("*", k, decode(files[k % len(files)]))], None, time.monotonic_ns())

    times = scheduled(made.push, count, take, 20.0)
    assert len(made.decisions) == count
    samples.stop()
    return times


def png(shape: tuple[int, ...], key: int) -> bytes:
    """Return a PNG with structure and some noise, as a camera's."""
    from PIL import Image

    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).reshape(shape[0], shape[1], *[1] * (len(shape) - 2))
    noise = np.random.default_rng(key).integers(0, 16, shape)
    file = io.BytesIO()
    Image.fromarray((ramp % 200 + noise).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def serve_tags(wire: Connection, tags: int) -> None:
    """In the other process: an OPC UA server whose tags all change as fast as it can."""
    from asyncua import Server, ua

    logging.disable(logging.CRITICAL)

    async def serve() -> None:
        server = Server()
        await server.init()
        server.set_endpoint("opc.tcp://127.0.0.1:0/")
        space = await server.register_namespace("urn:fedge:benchmark")
        nodes = [await server.nodes.objects.add_variable(ua.NodeId(f"t{i}", space), f"t{i}", 0.0) for i in range(tags)]
        async with server:
            wire.send(server.bserver._server.sockets[0].getsockname()[1])
            value = 0.0
            while not wire.poll():
                value += 1.0
                now = datetime.now(timezone.utc)
                for node in nodes:
                    await server.write_attribute_value(
                        node.nodeid, ua.DataValue(ua.Variant(value), SourceTimestamp=now)
                    )
                await asyncio.sleep(0)

    asyncio.run(serve())


def tags_per_s(seconds: float, tags: int = 1000) -> float:
    """Return the tags a second of this process's CPU time, from the socket into windows of 1 Hz."""
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve_tags, args=(theirs, tags), daemon=True)
    server.start()
    source = OpcuaSource("plc", OpcuaConfig(f"opc.tcp://127.0.0.1:{ours.recv()}"))
    queue, names = Queue(1000), [f"ns=2;s=t{i}" for i in range(tags)]
    hosted = HostedSource("plc", source, names, queue)
    follow = {name: TagConfig(source="plc", tag=name) for name in names}
    assembler = Assembler("m", follow, [], 1.0, 60, 10, 3.0, 2.0)
    hosted.start()

    def take(until: float) -> None:
        while time.monotonic() < until:
            one = queue.get(0.1)
            if one is not None:
                assembler.push(one)

    take(time.monotonic() + 2.0)
    spent, seen = cpu_s(), assembler.counters.readings
    take(time.monotonic() + seconds)
    spent, seen = cpu_s() - spent, assembler.counters.readings - seen
    ours.send("stop")
    hosted.join(5)
    server.join(10)
    return seen / spent


def cpu_s() -> float:
    """Return the CPU time of this process, s."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def bare_run_us(x: np.ndarray) -> float:
    """Return the median time of a plain `session.run` of the same model, microseconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = zoo.autoencoder(CARD, len(x), (16, 4)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x[None]}
    return median_us(lambda: session.run(None, feed))


def median_us(call: Callable[[], object], count: int = 2000) -> float:
    """Return the median time of a call, microseconds."""
    times = np.empty(count)
    for i in range(count):
        began = time.perf_counter()
        call()
        times[i] = time.perf_counter() - began
    return float(np.median(times) * 1e6)


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    logging.disable(logging.CRITICAL)  # asyncua tells how a connection ends
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORE})
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    count = 500 if args.quick else 2000
    with tempfile.TemporaryDirectory() as folder:
        made, serving, graph, x, samples = asset(Path(folder))
        values = np.random.default_rng(1).normal(size=(500, CHANNELS))
        for tick in range(CARD.window.length):
            made.push(batch(tick, values[tick]))
        bare = bare_run_us(serving.scale(x[0]))
        shape = (CHANNELS, CARD.window.length)
        window = np.random.default_rng(2).normal(size=shape).astype(np.float32)
        ends = iter(range(0, 1 << 60, round(1e9 / HZ)))
        whole = median_us(lambda: made.decide(Window("m", next(ends), window, 0.0, None, time.monotonic_ns())))
        model = zoo.autoencoder(CARD, 3 * CHANNELS, (16, 4)).SerializeToString()
        alone = Serving(Session(model, graph.initializers(graph.params)), CARD, 1, serving.scale, Limit(1e9))
        spared = median_us(lambda: serving.decide(x[0])) - median_us(lambda: alone.decide(x[0]))

        def tick_from(first: int) -> Callable[[int], Batch]:
            return lambda k: batch(first + k, values[k % len(values)])

        floor = scheduled(lambda _: None, count, tick_from(0))
        idle = scheduled(made.push, count, tick_from(10_000))
        stop = threading.Event()

        def train() -> None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
            while not stop.is_set():
                fit(graph, x, None, TrainingConfig(epochs=1), np.random.default_rng(0), give_way)

        trainer = threading.Thread(target=train)
        trainer.start()
        training = scheduled(made.push, count, tick_from(100_000))
        stop.set()
        trainer.join()
        samples.stop()
        small, vga = (seen(Path(folder), pixels, count // 4) for pixels in ((64, 64), (480, 640, 3)))
    os.sched_setaffinity(0, cores)
    figures = {
        "session_run_us": bare,
        "overhead_vs_session_run": whole / bare,
        "overhead_of_release_alone": (whole - spared) / bare,
        "p50_ms_floor": 1e3 * float(np.median(floor)),
        "p99_ms_floor": 1e3 * float(np.quantile(floor, 0.99)),
        "p50_ms": 1e3 * float(np.median(idle)),
        "p99_ms": 1e3 * float(np.quantile(idle, 0.99)),
        "p50_ms_training": 1e3 * float(np.median(training)),
        "p99_ms_training": 1e3 * float(np.quantile(training, 0.99)),
        "vision_p50_ms": 1e3 * float(np.median(small)),
        "vision_p99_ms": 1e3 * float(np.quantile(small, 0.99)),
        "vision_vga_p50_ms": 1e3 * float(np.median(vga)),
        "vision_vga_p99_ms": 1e3 * float(np.quantile(vga, 0.99)),
        "tags_per_s_per_core": tags_per_s(5.0 if args.quick else 20.0),
    }
    table(["figure", "value"], [[k, f"{v:.3f}"] for k, v in figures.items()])
    finish("latency", figures, args.json)


if __name__ == "__main__":
    main()
