# SPDX-License-Identifier: Apache-2.0
"""Wiring of the agent: the only file that knows everyone.

Start order: the lock on the state folder, spool, inbox, samples and labels, the page; then outputs, the writers of
progress and events, models (they serve the release that was stored). Then the readings in the inbox are replayed.
Sources are last, so that the first reading finds everything ready; then READY.

Stop order, the reverse: sources first (nothing new comes in); the main thread decides on what they left in the queue;
models (a training at hand is dropped, its samples stay); events, then progress (it makes samples and labels durable
first); outputs (what is not delivered stays in the spool); the page; labels, samples, inbox, spool; the lock last. An
exception in one asset never stops another.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedge_models.errors import ConfigError, IdentityError, StorageError
from fedge_models.graph.card import Card
from fedge_models.system import files, service

from .config.schema import Config, Inspection
from .durable.event_queue import SPOOL_FILE
from .durable.event_writer import EventWriter
from .durable.inbox import Inbox, Progress
from .durable.progress_writer import ProgressWriter
from .durable.replay_guard import ReplayGuard
from .durable.spool import Spool
from .durable.state_folder import StateFolder
from .federation import identity as identities
from .federation.identity import Identity
from .federation.participant import Participant
from .federation.uplink import Uplink
from .health import PROGRAM, STATUS_FILE, Latency, Metrics, rss_mib
from .machines.alerts import new_run
from .machines.asset import Asset
from .machines.asset_windows import FOREVER_NS
from .machines.condition import Condition, SourceFacts
from .machines.condition_words import plain
from .machines.fit import check_fit
from .machines.holding import Held, Holding
from .machines.routing import Routes
from .outputs import registry as outputs
from .outputs.host import HostedOutput
from .samples.baseline import plan
from .samples.event_book import EventBook
from .samples.inspection import Mistake, Verdicts
from .samples.label_book import Follower, LabelBook, Subject
from .samples.store import SampleStore
from .samples.tables import SAMPLES_FILE
from .sources import registry as sources
from .sources.host import HostedSource, Queue
from .sources.naming import Names
from .types import Batch, Decision, Event, EventState, Label

logger = logging.getLogger(__name__)

IDLE_S = 0.5
STUCK_S = 30.0
PROGRESS_S = 1.0  # how often progress is written
HOLD_S = 0.05  # how often it is looked whether a source has to wait
RESTORE_S = 30.0  # how long a replay, and then the sources, wait for stored models to serve
SWITCH_INTERVAL_S = 0.0005  # how long the training thread may hold the interpreter while a decision waits


class App:
    """A running agent."""

    def __init__(self, config: Config, path: Path, look: Callable[[Batch], None] | None = None) -> None:
        """Open what the configuration names. Raises ConfigError or StorageError, and then leaves nothing open.

        look: called with each batch; with it the sources leave no trace.
        """
        self._look = look
        self.config = config
        state = config.agent.state
        where = service.parse_loopback(config.agent.status, f"{path}: key 'agent.status'")
        self.latency = Latency()
        self._started = self._beat = time.monotonic()
        self._failures = 0  # batches that an asset could not use
        self._stop = threading.Event()
        self._shown: dict[str, Decision] = {}  # asset -> its newest decision that outputs were shown
        self._unseen: set[str] = set()  # assets whose last decision outputs show no more
        self._done: dict[str, int] = {}  # source -> the newest row of the inbox that was taken in
        self._reported: dict[str, int] = {}  # the same, when progress was last handed to its writer
        self._marks: dict[str, tuple[bool, int]] = {}  # asset -> what it had to store then
        self._run = new_run()
        self._routes = Routes(config.source, config.asset)
        with ExitStack() as opened:  # closed in reverse order
            self._folder = StateFolder(state, PROGRAM)
            opened.callback(self._folder.release)
            self._open_databases(state, opened)
            self._identity = self._load_identity(state)
            self._uplink = Uplink(self._identity) if self._identity else None
            self._models = {name: self._participant(name, state) for name in config.model}
            self._assets = {name: self._asset(name) for name in config.asset}
            self._open_labels(state, opened)
            self._open_ends(str(path), state)
            self._begin_holding()
            self._events = EventWriter(self._spool, list(self._outputs), self._wake_outputs)
            self._progress = ProgressWriter(self._inbox, self._make_durable)
            held = {"/held-orders": self._spool.held_in_memory, "/held-events": self._book.held}
            more = {"/decisions": self._decisions, "/orders": self._orders, **held}
            self._page = service.Page(where, Metrics(self).text, self.status, self._healthy, more)
            self._opened = opened.pop_all()

    def _load_identity(self, state: Path) -> Identity | None:
        """This gateway's identity; None before `join`, and while a damaged one is a problem that `status` states."""
        self._identity_problem: str | None = None
        try:
            return identities.load(state)
        except (IdentityError, ConfigError) as e:
            logger.error("this gateway decides without its aggregator: %s", e)
            self._identity_problem = str(e)
            return None

    def _open_databases(self, state: Path, opened: ExitStack) -> None:
        agent, models = self.config.agent, self.config.model
        self._spool = Spool(state / SPOOL_FILE)
        opened.callback(self._spool.close)
        self._inbox = Inbox(state / "inbox.sqlite", agent.inbox_bytes, float(agent.inbox_age))
        opened.callback(self._inbox.close)
        limits, sizes = (
            {n: m.max_samples for n, m in models.items()},
            {n: m.max_sample_bytes for n, m in models.items()},
        )
        assets = self.config.asset
        self._plans = {n: {a: plan(c) for a, c in assets.items() if c.model == n} for n in models}
        self._samples = SampleStore(state / SAMPLES_FILE, limits, sizes, self._plans)
        opened.callback(self._samples.stop)
        before = {a: p.learn_after_ns for plans in self._plans.values() for a, p in plans.items()}
        self._book = EventBook(
            state / SAMPLES_FILE, before, self._samples.tables, self._share, lambda event: self._events.put(event, None)
        )
        opened.callback(self._book.stop)

    def _open_labels(self, state: Path, opened: ExitStack) -> None:
        self._subjects = subjects = {name: self._subject(name) for name in self.config.asset}
        self._labels = LabelBook(
            state / SAMPLES_FILE, subjects, self._samples.count_as_new, self._samples.tables, self._book.tables
        )
        opened.callback(self._labels.stop)
        looks = {n: a.inspection for n, a in self.config.asset.items() if a.inspection}
        self._verdicts = {n: Verdicts(n, look) for n, look in looks.items() if look.verdict}
        files.try_folder(state / "stations")
        self._followed = self._station_files({n: look for n, look in looks.items() if look.path}, state / "stations")

    def _open_ends(self, where: str, state: Path) -> None:
        """Build sources and outputs in their hosts. Raises ConfigError."""
        config, folder = self.config, state / "outputs"
        self._queue = Queue(config.agent.queue_batches)
        built_sources = {n: sources.build(n, t, where, state) for n, t in config.source.items()}
        for source in built_sources.values() if self._look else ():
            source.leave_no_trace()
        self._sources = {
            n: HostedSource(n, s, self._routes.tags(n), self._queue, state, self._inbox, Names(self._routes.users(n)))
            for n, s in built_sources.items()
        }
        files.try_folder(folder)
        built_outputs = {n: outputs.build(n, t, where, state) for n, t in config.output.items()}
        self._outputs = {n: HostedOutput(n, o, self._spool, folder, self._take_label) for n, o in built_outputs.items()}

    def _begin_holding(self) -> None:
        windows = {name: self._routes.window_sources(name) for name in self._assets}
        self._holding = Holding(windows, [n for n, s in self._sources.items() if s.can_wait and self._look is None])
        self._held, self._looked = Held({}, frozenset(), {}), -math.inf
        self._stored: dict[str, deque[tuple[Batch, bool]]] = {}  # of the inbox, of sources that are held
        self._guard: ReplayGuard | None = None

    def run(self) -> None:
        """Start everything, decide until `stop`, end everything."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        with self._opened as ending:  # ends in reverse order of what follows, then closes what was opened
            self._samples.start()
            self._labels.start(self._followed)
            self._book.start()
            ending.callback(self._page.stop)
            self._page.start()
            self._folder.publish(STATUS_FILE, self._page.address)
            for output in self._outputs.values():
                output.start()
                ending.callback(output.stop, 2)
            self._progress.start()
            ending.callback(self._progress.stop)
            self._events.start()
            ending.callback(self._events.stop)
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

    def assets(self) -> dict[str, Asset]:
        """The machines, for who looks at their windows."""
        return self._assets

    def stop(self) -> None:
        """Ask `run` to end; safe in a signal handler."""
        self._stop.set()

    def status(self) -> dict[str, Any]:
        """The status page, as plain data."""
        identity, conditions = self._identity, self._conditions()
        lost = {
            "events": self._events.lost,
            "failures": self._failures,
            "batches": self._queue.dropped,
            "samples": self._samples.lost,
            "kept": self._inbox.dropped,
            "labels": self._labels.lost,
            "book": self._book.lost,
        }
        return {
            "name": self.config.agent.name,
            "node": identity.node if identity else None,
            "aggregator": identity.url if identity else self._identity_problem or "not joined",
            "uptime_s": round(time.monotonic() - self._started, 1),
            "rss_mib": round(rss_mib(), 1),
            "latency": self.latency.status(),
            "sources": {n: s.status() for n, s in self._sources.items()},
            "assets": {n: {**a.status(), "condition": plain(conditions[n])} for n, a in self._assets.items()},
            "models": {n: m.status() for n, m in self._models.items()},
            "outputs": {n: o.status(self._events.overflowed[n]) for n, o in self._outputs.items()},
            "inbox": {**self._inbox.status(), "problem": self._progress.problem},
            "labels": self._labels.status(),
            "event_book": self._book.status(),
            "storage": self._storage(),
            "unwritten_events": {"waiting": self._events.waiting, "problem": self._events.problem},
            "lost": lost,
            "bytes_up": self._uplink.bytes_up if self._uplink else 0,
            "bytes_down": self._uplink.bytes_down if self._uplink else 0,
        }

    def _storage(self) -> dict[str, Any]:
        """Which files of the state folder cannot be written now, and which were damaged."""
        outputs = {f"outputs/{n}": o.storage_problem for n, o in self._outputs.items()}
        files_ = {
            "spool": self._spool.problem,
            "inbox": self._inbox.problem,
            "samples": self._samples.tables.problem,
            "labels": self._labels.problem,
            "event book": self._book.problem,
            "state folder": self._folder.problem,
            **outputs,
        }
        return {
            "problems": {name: text for name, text in files_.items() if text},
            "in_memory": self._spool.in_memory,
            "identity": self._identity_problem,
            "moved": self._folder.moved,
            "damaged": self._folder.damaged(),
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
            any(a.labelled for a in assets.values()),
            fits,
            self.latency.slow,
            self._plans[name],
            self._book,
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
            self._run,
            self._spool.silence_state(name),
            self._book,
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

    def _loop(self) -> None:
        watchdog = service.watchdog_interval()
        notified = reported = time.monotonic()
        while not self._stop.is_set():
            self._hold()
            batch = self._queue.get(0 if self._push_stored() else IDLE_S)
            self._beat = time.monotonic()
            if batch is not None:
                self._push(batch)
                del batch  # it may be a picture of many MB, and the next one may be long in coming
            if self._beat - reported > PROGRESS_S:
                for asset in self._assets.values():
                    asset.look(self._facts, self._beat)
                    self._show_unseen(asset)
                self._report_progress()
                self._folder.retry()
                reported = self._beat
            if watchdog and self._beat - notified > min(watchdog, IDLE_S * 2):
                service.notify("WATCHDOG=1")
                notified = self._beat

    def _hold(self) -> None:
        """Look which sources are to be read no further, and decide on windows that waited."""
        now = time.monotonic()
        waiting = [asset for asset in self._assets.values() if asset.pending]
        if not self._holding.assets or (now - self._looked < HOLD_S and not waiting):
            return
        self._looked, before = now, self._held
        held = self._held = self._holding.update({n: self._assets[n].lacks() for n in self._assets}, now)
        for source, text in held.sources.items():
            if source not in before.sources:
                logger.info("source %s is read no further: %s", source, text)
        for source in before.given_up | held.given_up:
            self._sources[source].problem("backlog", held.given_up.get(source))
        for name in self._holding.assets:
            self._assets[name].can_wait = name in held.assets or self._assets[name].lacks() is None
        for asset in waiting:
            asset.catch_up()
            self._show_newest(asset)
        stored = dict.fromkeys(self._stored, "what was stored before the restart comes first")
        self._queue.hold(stored | held.sources)

    def _push_stored(self) -> bool:
        """Push one batch that was stored before the restart, of a source that is held no more; whether there was."""
        source = next((name for name in self._stored if name not in self._held.sources), None)
        if source is None:
            return False
        batch, decided = self._stored[source].popleft()
        if self._guard is not None:
            self._guard.mark(batch.inbox_row)
        self._push(batch._replace(received_ns=time.monotonic_ns()), decided)
        if not self._stored[source]:
            del self._stored[source]
            self._looked = -math.inf
            self._end_replay()
        return True

    def _end_replay(self) -> None:
        """What comes to an asset is new from now on, unless something stored for it is still to come."""
        replayed = {asset for source in self._stored for asset in self._routes.assets(source)}
        for asset in self._assets.values():
            if asset.name not in replayed:
                asset.live()
        if not self._stored and self._guard is not None:
            self._guard.end()
            self._guard = None

    def _drain(self) -> None:
        """Decide on what the sources left in the queue; write how long each machine has been silent."""
        while (batch := self._queue.get(0)) is not None:
            self._push(batch)
        self._marks = {}
        self._report_progress()

    def _report_progress(self) -> None:
        """Have written how far this thread has decided, if anything came since, and what is silent."""
        now = time.monotonic()
        marks = {n: a.mark(now) for n, a in self._assets.items()}
        if self._done == self._reported and (marks == self._marks):
            return
        if any(asset.pending for asset in self._assets.values()):  # a restart decides on what waits
            return
        self._reported, self._marks = dict(self._done), marks
        needed = {
            source: min((self._assets[name].needed_ns() for name in self._routes.assets(source)), default=FOREVER_NS)
            for source in self._done
        }
        self._progress.put(Progress(dict(self._done), {n: a.checkpoint() for n, a in self._assets.items()}, needed))

    def _replay(self) -> None:
        """Push the readings in the inbox through the windows again; decide on what was not decided before."""
        for name, asset in self._assets.items():
            asset.resume(self._checkpoint(name))
        for model in self._models.values():  # before sources start: a picture that meets no model is decided by nobody
            model.restored.wait(RESTORE_S)
        self._guard = ReplayGuard(self.config.agent.state)
        try:
            for stored in self._inbox.replay(self._guard):
                if stored.source in self._routes:
                    now = time.monotonic_ns()
                    batch = Batch(stored.source, stored.readings, stored.alive_ns, now, stored.fresh, stored.id)
                    self._push_or_hold(batch, stored.decided)
        except StorageError as e:
            logger.error("the readings that were stored cannot be used: %s", e)
        self._end_replay()
        self._looked = -math.inf
        self._hold()  # before the first source reads
        self._report_progress()  # after another kill soon, the replay begins here

    def _push_or_hold(self, batch: Batch, decided: bool) -> None:
        """Push a stored batch, or hold it while a machine cannot decide on it."""
        self._hold()
        if batch.source in self._stored or batch.source in self._held.sources:
            self._stored.setdefault(batch.source, deque()).append((batch, decided))
        else:
            self._push(batch, decided)

    def _checkpoint(self, asset: str) -> bytes | None:
        """What the asset resumes from; None while the inbox cannot be read."""
        try:
            return self._inbox.checkpoint(asset)
        except StorageError as e:
            logger.error("asset %s: windows begin again: %s", asset, e)
            return None

    def _make_durable(self) -> bool:
        """Make samples, labels and events durable; whether they are. Called in the progress writer's thread."""
        self._samples.flush()
        self._labels.flush()
        self._book.flush()
        return self._events.waiting == 0

    def _push(self, batch: Batch, decided: bool = False) -> None:
        """Give each asset of the source its own readings."""
        if self._look is not None:
            self._look(batch)
        for part in self._routes.divide(batch):
            asset = self._assets[part.asset]
            try:
                asset.push(part.windows, part.context, decided)
                if part.inspection is not None:
                    self._take_verdicts(part.asset, part.inspection)
            except Exception:
                self._failures += 1
                logger.exception("asset %s: a batch of %s could not be used", asset.name, batch.source)
            self._show_newest(asset)
        if batch.inbox_row:
            self._done[batch.source] = batch.inbox_row

    def _take_verdicts(self, name: str, batch: Batch) -> None:
        """Put an inspection's verdicts on an asset into the label book."""
        for found in self._verdicts[name].take(batch):
            if isinstance(found, Mistake):
                self._labels.count_malformed(name, found.text)
            else:
                self._labels.offer(found)

    def _show_newest(self, asset: Asset) -> None:
        """Show the asset's newest decision to the outputs that show decisions."""
        if not asset.decisions or (newest := asset.decisions[-1][0]) is self._shown.get(asset.name):
            return
        self._shown[asset.name] = newest
        self._unseen.discard(asset.name)
        for output in self._outputs.values():
            output.show(newest)

    def _show_unseen(self, asset: Asset) -> None:
        """Let no output go on showing the last decision of an asset that decides no more."""
        nothing = asset.unseen(self._beat)
        if nothing is None or asset.name in self._unseen:
            return
        self._unseen.add(asset.name)
        for output in self._outputs.values():
            output.show(nothing)

    def _raise_event(self, event: Event, state: EventState) -> None:
        asset, what = event.decision.asset, event.reason or f"score {event.worst:.4g}"
        logger.info("asset %s: event %s %s, %s", asset, event.key, event.state, what)
        self._events.put(event, state, self._book.note(event))

    def _take_label(self, label: Label) -> None:
        """Store a label that became known at an output's target; a closed order also decides on its event's windows."""
        self._labels.put(label)
        subject = self._subjects.get(label.asset)
        card = subject.card() if subject else None
        if subject is None or card is None or card.task != "anomaly" or label.origin != "mes":
            return
        normal = subject.target_value(card, label.value) == 0
        self._book.close_order(label.asset, label.start_ns, label.end_ns, normal)

    def _share(self, asset: str) -> int:
        """How many samples the asset may have."""
        model = self.config.asset[asset].model
        graph = self._models[model].graph
        return self._samples.share(model, math.prod(graph.input_shape) if graph else 1)

    def _wake_outputs(self) -> None:
        for output in self._outputs.values():
            output.wake()

    def _orders(self) -> dict[str, Any]:
        """Events that failed and are tried again, by output: what `fedge-agent order` cannot read from the spool."""
        return {name: output.failing() for name, output in self._outputs.items()}

    def _decisions(self) -> dict[str, Any]:
        return {name: list(asset.recent()) for name, asset in self._assets.items()}

    def _healthy(self) -> bool:
        """Whether the main thread runs, and any asset decides or waits for its model or baseline."""
        conditions = self._conditions().values()
        return time.monotonic() - self._beat < STUCK_S and (not conditions or any(c.well for c in conditions))

    def _conditions(self) -> dict[str, Condition]:
        """What each asset can say now."""
        now, facts = time.monotonic(), self._facts()
        return {n: a.condition(facts, now) for n, a in self._assets.items()}

    def _facts(self) -> dict[str, SourceFacts]:
        """What the readings of each source do not say."""
        return {n: s.facts() for n, s in self._sources.items()}
