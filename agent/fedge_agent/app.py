"""Wiring of the agent: the only file that knows everyone.

Start order: spool and samples, then models (they serve what was kept), outputs, the status page; then what the inbox
kept goes through the windows again; sources last, so that the first reading finds everything ready; then READY. Stop
order: sources first (nothing new comes in), then the main loop drains what they left, models (a training at hand is
dropped, its samples are kept), labels (what was offered is kept), samples, the recorder (what was raised is in the
spool), the settling (both are durable: so is how far they go), outputs (what is not delivered stays there), the page,
inbox and spool last. One exception to one asset never stops another.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedge_models.graph.card import Card
from fedge_models.system import files, service

from .config.schema import Config, Inspection
from .durable.event_writer import Recorder
from .durable.inbox import Inbox, Progress
from .durable.progress_writer import Settling
from .durable.spool import Spool
from .federation import identity as identities
from .federation.participant import Participant
from .federation.uplink import Uplink
from .health import Latency, Metrics, rss_mib
from .machines.asset import FOREVER_NS, Asset, check_fit
from .outputs import registry as outputs
from .outputs.host import HostedOutput
from .samples.inspection import Mistake, Verdicts
from .samples.label_book import Follower, LabelBook, Subject
from .samples.store import SAMPLES_FILE, SampleStore
from .sources import registry as sources
from .sources.host import HostedSource, Queue
from .types import AlertState, Batch, Decision, Event, Reading

logger = logging.getLogger(__name__)

STATUS_FILE = "status.addr"
IDLE_S = 0.5
STUCK_S = 30.0
SETTLE_S = 1.0  # how often it is written down how far decisions go
RESTORE_S = 30.0  # how long a replay, and then the sources, wait for the models that were kept
SWITCH_INTERVAL_S = 0.0005  # how long the training thread may hold the interpreter while a decision waits


class App:
    """A running agent."""

    def __init__(self, config: Config, path: Path) -> None:
        self.config = config
        state = config.agent.state
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        where = service.parse_loopback(config.agent.status, f"{path}: key 'agent.status'")
        built_sources = {n: sources.build(n, t, str(path), state) for n, t in config.source.items()}
        built_outputs = {n: outputs.build(n, t, str(path), state) for n, t in config.output.items()}
        self.latency = Latency()
        self._started, self._beat = time.time(), time.monotonic()
        self._failures = 0  # batches that an asset could not use
        self._stop = threading.Event()
        self._spool = Spool(state / "spool.sqlite")
        self._inbox = Inbox(state / "inbox.sqlite", config.agent.inbox_bytes, float(config.agent.inbox_age))
        self._shown: dict[str, Decision] = {}  # asset -> its newest decision that outputs were shown
        self._done: dict[str, int] = {}  # source -> the newest row of the inbox that was taken in
        self._settled: dict[str, int] = {}  # and was settled
        self._samples = SampleStore(
            state / SAMPLES_FILE,
            {n: m.max_samples for n, m in config.model.items()},
            {n: m.max_sample_bytes for n, m in config.model.items()},
        )
        self._identity = identities.load(state)
        self._uplink = Uplink(self._identity) if self._identity else None
        self._models = {name: self._participant(name, state) for name in config.model}
        self._assets = {name: self._asset(name) for name in config.asset}
        subjects = {name: self._subject(name) for name in config.asset}
        self._labels = LabelBook(state / SAMPLES_FILE, subjects, self._samples.retaught)
        looks = {n: a.inspection for n, a in config.asset.items() if a.inspection}
        self._verdicts = {n: Verdicts(n, look) for n, look in looks.items() if look.verdict}
        files.make_folder(state / "stations")
        self._followed = self._station_files({n: look for n, look in looks.items() if look.path}, state / "stations")
        self._followers, self._routes = self._routing()
        self._queue = Queue(config.agent.queue_batches)
        self._sources = {
            n: HostedSource(n, s, self._tags(n), self._queue, state, self._inbox) for n, s in built_sources.items()
        }
        folder = state / "outputs"
        files.make_folder(folder)
        self._outputs = {n: HostedOutput(n, o, self._spool, folder, self._labels.put) for n, o in built_outputs.items()}
        self._recorder = Recorder(self._spool, list(self._outputs), self._wake_outputs)
        self._settling = Settling(self._inbox, self._durable)
        more = {"/decisions": self._decisions}
        self._page = service.Page(where, Metrics(self).text, self.status, self._healthy, more)

    def run(self) -> None:
        """Start everything, decide until `stop`, end everything."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        with ExitStack() as ending:  # ends in reverse order of what follows
            ending.callback(self._spool.close)
            ending.callback(self._inbox.close)
            ending.callback(self._page.stop)
            self._page.start()
            files.write(self.config.agent.state / STATUS_FILE, self._page.address.encode())
            for output in self._outputs.values():
                output.start()
                ending.callback(output.stop, 2)
            self._settling.start()
            ending.callback(self._settling.stop)
            self._recorder.start()
            ending.callback(self._recorder.stop)
            self._samples.start()
            ending.callback(self._samples.stop)
            self._labels.start(self._followed)
            ending.callback(self._labels.stop)
            for model in self._models.values():
                model.start()
                ending.callback(model.stop)
            self._replay()
            ending.callback(self._drain)
            for source in self._sources.values():
                source.start()
                ending.callback(source.join, 2)
            service.notify("READY=1")
            logger.info(
                "%s: %d assets, status page on %s", self.config.agent.name, len(self._assets), self._page.address
            )
            self._loop()
            service.notify("STOPPING=1")

    def stop(self) -> None:
        """Ask `run` to end; safe in a signal handler."""
        self._stop.set()

    def status(self) -> dict[str, Any]:
        """The status page, as plain data."""
        identity = self._identity
        lost = {
            "events": self._recorder.lost,
            "failures": self._failures,
            "batches": self._queue.dropped,
            "samples": self._samples.lost,
            "kept": self._inbox.dropped,
            "labels": self._labels.lost,
        }
        return {
            "name": self.config.agent.name,
            "node": identity.node if identity else None,
            "aggregator": identity.url if identity else "not joined",
            "uptime_s": round(time.time() - self._started, 1),
            "rss_mib": round(rss_mib(), 1),
            "latency": self.latency.status(),
            "sources": {n: s.status() for n, s in self._sources.items()},
            "assets": {n: a.status() for n, a in self._assets.items()},
            "models": {n: m.status() for n, m in self._models.items()},
            "outputs": {n: o.status() for n, o in self._outputs.items()},
            "inbox": {**self._inbox.status(), "problem": self._settling.problem},
            "labels": self._labels.status(),
            "unwritten_events": {"waiting": self._recorder.waiting, "problem": self._recorder.problem},
            "lost": lost,
            "bytes_up": self._uplink.bytes_up if self._uplink else 0,
            "bytes_down": self._uplink.bytes_down if self._uplink else 0,
        }

    def _participant(self, name: str, state: Path) -> Participant:
        assets = {n: a for n, a in self.config.asset.items() if a.model == name}

        def fits(card: Card, shape: tuple[int, ...]) -> None:
            for asset, config in assets.items():
                check_fit(asset, config, card, shape)

        return Participant(
            name,
            self.config.model[name],
            state / "models" / name,
            self._samples,
            self._spool,
            self._identity,
            self._uplink,
            any(a.taught for a in assets.values()),
            fits,
            self.latency.slow,
        )

    def _asset(self, name: str) -> Asset:
        config = self.config.asset[name]
        return Asset(
            self.config.agent.name,
            name,
            config,
            self._models[config.model],
            self._samples,
            self.latency,
            self._spool.alert_state(name),
            self._raise_event,
        )

    def _station_files(self, looks: dict[str, Inspection], folder: Path) -> list[Follower]:
        """What follows each inspection station's file, in the label book's thread."""
        if not looks:
            return []
        from .samples.station_files import Station  # with the csv module: only where there are such files

        return [Station(name, look, folder) for name, look in looks.items()]

    def _subject(self, name: str) -> Subject:
        config = self.config.asset[name]
        model = self._models[config.model]
        return Subject(config.model, lambda: model.graph.card if model.graph else None, config.label)

    def _tags(self, source: str) -> list[str]:
        """Every tag that an asset wants of a source, once."""
        return list(self._routes[source])

    def _routing(self) -> tuple[dict[str, list[str]], dict[str, dict[str, list[str]]]]:
        """(source -> its assets, source -> tag -> the assets that want it)."""
        routes: dict[str, dict[str, list[str]]] = {source: {} for source in self.config.source}
        followers: dict[str, list[str]] = {source: [] for source in self.config.source}
        for name, asset in self.config.asset.items():
            tags = list(asset.tags().values())
            for source, tag in dict.fromkeys((t.source, t.tag) for t in tags):
                routes[source].setdefault(tag, []).append(name)
            for source in dict.fromkeys(t.source for t in tags):
                followers[source].append(name)
        return followers, routes

    def _loop(self) -> None:
        watchdog = service.watchdog_interval()
        notified = settled = time.monotonic()
        while not self._stop.is_set():
            batch = self._queue.get(IDLE_S)
            self._beat = time.monotonic()
            if batch is not None:
                self._push(batch)
            if self._beat - settled > SETTLE_S:
                self._settle()
                settled = self._beat
            if watchdog and self._beat - notified > min(watchdog, IDLE_S * 2):
                service.notify("WATCHDOG=1")
                notified = self._beat

    def _drain(self) -> None:
        """What the sources left in the queue still becomes decisions."""
        while (batch := self._queue.get(0)) is not None:
            self._push(batch)
        self._settle()

    def _settle(self) -> None:
        """Have it written down how far this thread is, if anything came since."""
        if self._done != self._settled:
            self._settled = dict(self._done)
            self._settling.put(self._progress())

    def _replay(self) -> None:
        """What the inbox kept goes through the windows again; what was not decided before is decided now."""
        for name, asset in self._assets.items():
            asset.resume(self._inbox.mark(name))
        for model in self._models.values():  # before sources start: a picture that meets no model is decided by nobody
            model.restored.wait(RESTORE_S)
        for kept in self._inbox.replay():
            if kept.source in self._routes:
                now = time.monotonic_ns()
                self._push(
                    Batch(kept.source, kept.readings, kept.alive_ns, now, kept.fresh, kept.id), decided=kept.decided
                )
        for asset in self._assets.values():
            asset.live()
        self._settle()  # who is killed again soon does not begin as far back

    def _progress(self) -> Progress:
        """How far this thread is."""
        needed = {
            source: min((self._assets[name].needed_ns() for name in self._followers[source]), default=FOREVER_NS)
            for source in self._done
        }
        return Progress(dict(self._done), {n: a.mark() for n, a in self._assets.items()}, needed)

    def _durable(self) -> bool:
        """Make samples, labels and events durable; whether they are. In the settling's thread."""
        self._samples.flush()
        self._labels.flush()
        return self._recorder.waiting == 0

    def _push(self, batch: Batch, decided: bool = False) -> None:
        """To each asset of the source its own readings; the others still learn that the source is alive."""
        wanted = self._routes[batch.source]
        parts: dict[str, list[Reading]] = {name: [] for name in self._followers[batch.source]}
        for reading in batch.readings:
            for name in wanted.get(reading.tag, ()):
                parts[name].append(reading)
        for name, readings in parts.items():
            asset, own = self._assets[name], batch._replace(readings=readings)
            try:
                asset.push(own, decided)
                if name in self._verdicts:
                    self._judge(name, own)
            except Exception:
                self._failures += 1
                logger.exception("asset %s: a batch of %s could not be used", asset.name, batch.source)
            self._show_newest(asset)
        if batch.kept:
            self._done[batch.source] = batch.kept

    def _judge(self, name: str, batch: Batch) -> None:
        """What an inspection says of an asset goes into the label book."""
        for found in self._verdicts[name].take(batch):
            if isinstance(found, Mistake):
                self._labels.mistake(name, found.text)
            else:
                self._labels.offer(found)

    def _show_newest(self, asset: Asset) -> None:
        """To the outputs that show decisions, what the asset has decided since."""
        if not asset.decisions or (newest := asset.decisions[-1][0]) is self._shown.get(asset.name):
            return
        self._shown[asset.name] = newest
        for output in self._outputs.values():
            output.show(newest)

    def _raise_event(self, event: Event, state: AlertState) -> None:
        asset = event.decision.asset
        logger.info("asset %s: event %s %s, score %.4g", asset, event.key, event.state, event.worst)
        self._recorder.put(event, state)

    def _wake_outputs(self) -> None:
        for output in self._outputs.values():
            output.wake()

    def _decisions(self) -> dict[str, Any]:
        return {name: list(asset.recent()) for name, asset in self._assets.items()}

    def _healthy(self) -> bool:
        return time.monotonic() - self._beat < STUCK_S
