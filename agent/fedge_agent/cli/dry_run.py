# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent start --once`: the real agent on a copy of its state folder, without outputs and without an identity.

Promises: no event goes to an output, no update to the aggregator, and nothing is stored in the state folder, so that it
may run beside the agent. Sources connect under other names and move no file (`Source.leave_no_trace`); what only one
program can open (a camera) is refused while the agent runs, and said. What is learnt goes with the copy.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
from fedge_models.errors import FedgeError
from fedge_models.graph.card import Card
from fedge_models.graph.channels import with_formulas
from fedge_models.graph.derived import DerivedChannels
from fedge_models.system.text import counted, printable
from fedge_models.system.worker import Worker
from numpy.typing import NDArray

from ..app import App
from ..config.schema import Config
from ..durable.known_databases import KnownDatabases
from ..durable.releases import ChainStore
from ..federation import identity
from ..federation.uplink import Uplink
from ..machines.asset import Asset, Glance
from ..protocols.opcua.connection import FOLDER as OPCUA
from ..samples.tables import SAMPLES_FILE
from ..types import Array, Batch, Reading
from ..windows.facts import example
from ..windows.features import bridge, without_value
from .check import problems_besides_sources
from .status_assets import lines

COPIED = ("models", "sources", "stations", OPCUA)  # folders of the state folder that decide what is seen
LOOK_S = 0.2
LEAST_S, MOST_S = 2.0, 300.0
STOP_S = 5.0
SHOWN = 8  # features of a window that are printed
TAGS = 50  # of a source


class Seen:
    """The last reading of each tag, and how many there were."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], Reading] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def take(self, batch: Batch) -> None:
        """Remember the readings of a batch."""
        for reading in batch.readings:
            key = batch.source, reading.tag
            self._counts[key] = self._counts.get(key, 0) + 1
            value = reading.value
            self._last[key] = reading if isinstance(value, (int, float)) else reading._replace(value=example(value))

    def lines(self, source: str) -> list[str]:
        """A line for each tag of a source."""
        last, counts = dict(self._last), dict(self._counts)
        return [
            f"  {tag}: {counts[of, tag]} readings, last {r.value} ({r.quality.name.lower()})"
            for (of, tag), r in last.items()
            if of == source
        ]


def run(config: Config, path: Path, seconds: float | None) -> int:
    """Look for so long, or until each asset has shown a window. Returns the exit code."""
    logging.basicConfig(level="WARNING", format="%(levelname)s %(name)s: %(message)s")
    os.environ.pop("NOTIFY_SOCKET", None)  # this is not the service
    failed = [(what, problems) for what, problems in problems_besides_sources(config, str(path)) if problems]
    with tempfile.TemporaryDirectory(prefix="fedge-dry-run-") as folder:
        state = Path(folder) / "state"
        for line in _copy(config, state):
            click.echo(line)
        agent = msgspec.structs.replace(config.agent, state=state, status="127.0.0.1:0")
        seen = Seen()
        app = App(msgspec.structs.replace(config, agent=agent, output={}), path, seen.take)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: app.stop())
        watch = Watch(app, seconds)
        watch.start()
        app.run()
        watch.stop()
        _report(watch.status, seen)
        for what, problems in failed:
            click.echo("\n".join(printable(f"PROBLEM {what}: {problem}") for problem in problems))
        if watch.problem is not None:
            click.echo(f"this look ended early: {watch.problem}")
            return 1
        return 0 if len(watch.printed) == len(config.asset) and not failed else 1


def _copy(config: Config, state: Path) -> list[str]:
    """Copy what decides what is seen; what could not be copied, in words."""
    live, said = config.agent.state, []
    state.mkdir(mode=0o700)
    for name in COPIED:
        if (live / name).is_dir():
            shutil.copytree(live / name, state / name)
    if (live / SAMPLES_FILE).exists():
        try:
            source = sqlite3.connect(f"file:{live / SAMPLES_FILE}?mode=ro", uri=True)
            with closing(source), closing(sqlite3.connect(state / SAMPLES_FILE)) as copy:
                source.backup(copy)
        except sqlite3.Error as e:
            said.append(f"{live / SAMPLES_FILE}: cannot be read ({e}); its baselines are missing here")
    KnownDatabases(state).note()  # what is not copied is not lost
    return [*said, *_fetch(config, state)]


def _fetch(config: Config, state: Path) -> list[str]:
    """Fetch models that the agent has not fetched yet; they serve as delivered, without a release."""
    said, joined = [], identity.load(config.agent.state)
    for name, model in config.model.items():
        folder = state / "models" / name
        if joined is None or name not in joined.federations or model.file or (folder / "graph.onnx").exists():
            continue
        uplink = Uplink(joined)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ChainStore(folder).save_graph(uplink.fetch_model(name))
            said.append(f"model {name}: fetched from {joined.url} for this look; it serves as it was delivered")
        except FedgeError as e:
            said.append(f"model {name}: {e}")
        uplink.close()
    return said


class Watch:
    """Prints each new window until the time is over, or the agent ends; then ends the agent."""

    def __init__(self, app: App, seconds: float | None) -> None:
        self.printed: dict[str, int] = {}  # asset -> the newest window that was printed
        self.status: dict[str, Any] = {}  # the last
        self._app, self._seconds, self._began = app, seconds, time.monotonic()
        self._worker = Worker("watch", self._look)

    @property
    def problem(self) -> str | None:
        """Why it ended early."""
        return self._worker.problem

    def start(self) -> None:
        """Look from now on."""
        self._began = time.monotonic()
        self._worker.start()

    def stop(self) -> None:
        """Look no more."""
        self._worker.stop(STOP_S)

    def _look(self) -> float | None:
        """Look once; seconds until the next time, None when it is enough. Whatever goes wrong ends the agent."""
        try:
            if not self._is_enough(time.monotonic() - self._began):
                self.status = self._app.status()
                self._print()
                return LOOK_S
        except FedgeError:  # the agent ends, and has closed its files
            self._app.stop()
            return None
        except BaseException:
            self._app.stop()
            raise
        self._app.stop()
        return None

    def _is_enough(self, passed: float) -> bool:
        if self._seconds is not None:
            return passed > self._seconds
        return passed > MOST_S or (passed > LEAST_S and len(self.printed) == len(self._app.assets()))

    def _print(self) -> None:
        for name, asset in self._app.assets().items():
            if asset.newest is not None and asset.newest.window.end_ns != self.printed.get(name):
                self.printed[name] = asset.newest.window.end_ns
                for line in _window(name, asset, asset.newest):
                    click.echo(line)


def _window(name: str, asset: Asset, glance: Glance) -> list[str]:
    """A window, its features and its decision."""
    graph, window = asset.participant.graph, glance.window
    if graph is None:
        return []
    made = [
        f"asset {name}: a window of {counted(window.values.shape[-1], 'sample')}, {100 * window.missing:.0f} % missing"
    ]
    if graph.card.image is None:
        made += [
            f"  {channel.name}: {value_range(row)}"
            for channel, row in zip(graph.card.channels, window.values, strict=False)
        ]
        made += _derived(graph.card, window.values)
    made += [f"  features: {_features(graph.card, glance)}"] if graph.card.features else []
    with suppress(IndexError):
        decision = asset.decisions[-1][0]
        limit = f"of {decision.threshold:.4g}" if math.isfinite(decision.threshold) else "without a limit"
        if decision.time_ns == window.end_ns:
            made.append(f"  decision: {decision.label}, score {decision.score:.4g} {limit}")
    return made


def _derived(card: Card, values: Array) -> list[str]:
    """The derived channels of the graph's input, in a window."""
    if not card.derive:
        return []
    windows = values[: len(card.channels)]
    rows = DerivedChannels(msgspec.structs.replace(card, features=()))(bridge(windows), without_value(windows))[0]
    names = [c.name for c in card.input_channels if c.name in card.derive]
    return [
        f"  {said}: {value_range(row)}"
        for said, row in zip(with_formulas(card.derive, names), rows[-len(names) :], strict=True)
    ]


def value_range(row: NDArray[Any]) -> str:
    """The smallest and the largest value, with the digits in which they differ."""
    known = row[np.isfinite(row)]
    if not len(known):
        return "no value"
    low, high = float(known.min()), float(known.max())
    digits = _digits(max(abs(low), abs(high)), high - low)
    return f"{low:.{digits}g} to {high:.{digits}g}"


def _digits(size: float, spread: float) -> int:
    """How many digits show a number of this size to its last whole one, and where it changes: four at least."""
    whole = math.floor(math.log10(size)) + 1 if 1 <= size < math.inf else 0
    changing = math.ceil(math.log10(size / spread)) + 2 if spread > 0 else 0
    return min(17, max(4, min(whole, 15), changing))


def _features(card: Card, glance: Glance) -> str:
    """The first features with their names, if each name is one number; else the numbers alone."""
    values = np.ravel(glance.features).tolist()
    channels, varying = card.input_channels, len(card.input_channels) - card.numbers
    labels = [f"{c.name} {f} " for c in channels[:varying] for f in card.features]
    labels += [f"{c.name} " for c in channels[varying:]]
    labels = labels if len(labels) == len(values) else [""] * len(values)
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    shown = zip(labels[:SHOWN], values[:SHOWN], strict=True)
    return ", ".join(f"{label}{value:.{_digits(abs(value), 0.0)}g}" for label, value in shown) + more


def _report(status: dict[str, Any], seen: Seen) -> None:
    """What came of each source and asset."""
    for source, entry in status.get("sources", {}).items():
        problems = "".join(f"; PROBLEM {subject}: {text}" for subject, text in entry["problems"].items())
        counts = "".join(f", {n} {what}" for what, n in entry["counts"].items())
        click.echo(f"source {source}: {entry['readings']} readings{counts}{problems}")
        for line in seen.lines(source)[:TAGS]:
            click.echo(line)
    for said, wrong in lines(status.get("assets", {})):
        click.echo("; ".join(part for part in (said, *(f"PROBLEM {p}" for p in wrong)) if part))
    click.echo("nothing was sent, and nothing stored")
