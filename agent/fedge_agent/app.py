# SPDX-License-Identifier: Apache-2.0
"""Wiring of the agent: the only file that knows everyone.

Start order: the lock on the state folder, spool, inbox, samples and labels, the page; then outputs, the writers of
progress and events, models (they serve the release that was stored). Then the readings in the inbox are replayed.
Sources are last, so that the first reading finds everything ready; then READY.

Stop order, the reverse: sources first (nothing new comes in); the main thread decides on what they left in the queue;
models (a training at hand is dropped, its samples stay); events, then progress (it makes samples and labels durable
first); outputs (what is not delivered stays in the spool); the page; labels, samples, inbox, spool; the lock last.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.errors import ModelError, StorageError
from fedge_models.graph.card import Card
from fedge_models.system import files, service
from numpy.typing import NDArray

from .config import claims
from .config.schema import Config, Inspection
from .durable.event_queue import SPOOL_FILE
from .durable.event_writer import EventWriter
from .durable.inbox import INBOX_FILE, Inbox
from .durable.progress_writer import ProgressWriter
from .durable.replay_guard import ReplayGuard
from .durable.spool import Spool
from .durable.state_folder import StateFolder
from .federation import identity as identities
from .federation.identity import Identity
from .federation.participant import Participant
from .federation.uplink import Uplink
from .health import PROGRAM, STATUS_FILE, Latency, Metrics
from .learning.asking import Asker, learnt_limits
from .learning.serving import Serving
from .machines import enough, label_names
from .machines.asset import Asset
from .machines.backlog import Backlog
from .machines.condition import SourceFacts
from .machines.event_names import new_run
from .machines.fit import check_fit
from .machines.lost_spool import LostSpool
from .machines.main_loop import MainLoop
from .machines.questions import event_of
from .machines.routing import Routes
from .outputs import registry as outputs
from .outputs.host import HostedOutput
from .overview import Overview
from .samples.baseline import plan
from .samples.event_book import EventBook
from .samples.inspection import Mistake, Verdicts
from .samples.label_book import Follower, LabelBook, Subject
from .samples.question_book import QuestionBook
from .samples.reservoir import Reservoir
from .samples.store import SampleStore
from .samples.tables import SAMPLES_FILE
from .sources import registry as sources
from .sources.host import HostedSource, Queue
from .sources.naming import Names
from .types import Batch, Decision, Event, EventState, Label

logger = logging.getLogger(__name__)

RESTORE_S = 30.0  # how long a replay, and then the sources, wait for stored models to serve
IDENTITY_S = 10.0  # how often an identity that cannot be read is looked for
SWITCH_INTERVAL_S = 0.0005  # how long the training thread may hold the interpreter while a decision waits


class App:
    """A running agent."""

    def __init__(self, config: Config, path: Path, look: Callable[[Batch], None] | None = None) -> None:
        """Open what the configuration names. Raises ConfigError or StorageError, and then leaves nothing open.

        look: called with each batch; with it the sources leave no trace.
        """
        self._look = look
        self.config = config
        state, started = config.agent.state, time.monotonic()
        where = service.parse_loopback(config.agent.status, f"{path}: key 'agent.status'")
        self._latency = Latency()
        self._stop = threading.Event()
        self._run = new_run()
        self._routes = Routes(config.source, config.asset)
        with ExitStack() as opened:  # closed in reverse order
            self._folder = StateFolder(state, PROGRAM, _databases(config))
            opened.callback(self._folder.release)
            self._open_databases(state, opened)
            self._identity = self._load_identity(state)
            self._uplink = Uplink(self._identity) if self._identity else None
            self._reservoirs = {name: Reservoir(name) for name in config.asset}
            self._models = {name: self._participant(name, state) for name in config.model}
            self._assets = {name: self._asset(name) for name in config.asset}
            self._open_labels(state, opened)
            self._open_ends(str(path), state)
            self._events = EventWriter(
                self._spool,
                list(self._outputs),
                self._wake_outputs,
                self._asking,
            )
            self._progress = ProgressWriter(self._inbox, self._make_durable)
            self._loop = MainLoop(
                self._routes,
                self._assets,
                self._backlog(),
                self._queue.get,
                self._facts,
                self._take_verdicts,
                self._show,
                self._progress.put,
                look,
            )
            self._overview = seen = self._view(started)
            held = {"/held-orders": self._spool.held_in_memory, "/held-events": self._book.held}
            more = {"/decisions": seen.decisions, "/orders": seen.orders, "/comparison": seen.comparison, **held}
            self._page = service.Page(where, Metrics(seen).text, seen.status, seen.healthy, more)
            self._opened = opened.pop_all()

    def _load_identity(self, state: Path) -> Identity | None:
        """This gateway's identity; None before `join`, and while a damaged one is a problem that `status` states."""
        identity, self._identity_problem = identities.try_load(state)
        self._looked_for_identity = time.monotonic()
        if self._identity_problem:
            logger.error("this gateway decides without its aggregator: %s", self._identity_problem)
        return identity

    def _look_for_identity(self) -> None:
        """Look again for an identity that could not be read, every now and then."""
        if self._identity_problem is None or time.monotonic() - self._looked_for_identity < IDENTITY_S:
            return
        self._looked_for_identity = time.monotonic()
        identity, problem = identities.try_load(self._folder.path)
        again = f"{self._folder.path / 'identity'} can be read again: restart the agent, so that it is used"
        self._identity_problem = again if identity else problem

    def _open_databases(self, state: Path, opened: ExitStack) -> None:
        agent, models = self.config.agent, self.config.model
        self._spool = Spool(state / SPOOL_FILE)
        opened.callback(self._spool.close)
        self._inbox = Inbox(state / INBOX_FILE, agent.inbox_bytes, float(agent.inbox_age))
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
        self._questions = QuestionBook(
            state / SAMPLES_FILE,
            {name: model.questions for name, model in models.items()},
            self._samples.tables,
            self._book.tables,
            lambda asked: self._events.put(event_of(asked), None),
            lambda: self._events.waiting == 0,
        )
        opened.callback(self._questions.stop)
        lost = SPOOL_FILE in self._folder.lost
        self._lost_spool = LostSpool(self._spool, self._book, lost, lambda event: self._events.put(event, None))

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
        claims.check(where, state, claims.parts(built_sources, built_outputs), claims.read_by(config, Path(where)))
        self._outputs = {n: HostedOutput(n, o, self._spool, folder, self._take_label) for n, o in built_outputs.items()}

    def _backlog(self) -> Backlog:
        can_wait = [n for n, s in self._sources.items() if s.can_wait and self._look is None]

        def problem(source: str, text: str | None) -> None:
            self._sources[source].problem("backlog", text)

        return Backlog(self._routes, self._assets, can_wait, self._queue.hold, problem)

    def _view(self, started: float) -> Overview:
        """What the status page shows; started: monotonic s."""
        return Overview(
            name=self.config.agent.name,
            started=started,
            identity=self._identity,
            identity_problem=lambda: self._identity_problem,
            uplink=self._uplink,
            latency=self._latency,
            sources=self._sources,
            facts=self._facts,
            queue=self._queue,
            assets=self._assets,
            loop=self._loop,
            models=self._models,
            outputs=self._outputs,
            events=self._events,
            progress=self._progress,
            folder=self._folder,
            spool=self._spool,
            inbox=self._inbox,
            samples=self._samples,
            labels=self._labels,
            book=self._book,
            questions=self._questions,
            unknown_labels=self._unknown_labels,
        )

    def run(self) -> None:
        """Start everything, decide until `stop`, end everything."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        with self._opened as ending:  # ends in reverse order of what follows, then closes what was opened
            self._samples.start()
            self._labels.follow(self._followed)
            self._labels.start()
            self._book.start()
            self._questions.start()
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
            ending.callback(self._loop.drain)
            for source in self._sources.values():
                source.start()
                ending.callback(source.join, 2)
            service.notify("READY=1")
            logger.info(
                "%s: %d assets, status page on %s", self.config.agent.name, len(self._assets), self._page.address
            )
            self._loop.run(self._stop, self._each_second)
            service.notify("STOPPING=1")

    def _each_second(self) -> None:
        self._lost_spool.look(self._assets.values())
        self._folder.retry()
        self._look_for_identity()

    def assets(self) -> dict[str, Asset]:
        """The machines, for who looks at their windows."""
        return self._assets

    def stop(self) -> None:
        """Ask `run` to end; safe in a signal handler."""
        self._stop.set()

    def status(self) -> dict[str, Any]:
        """The status page, as plain data."""
        return self._overview.status()

    def _unknown_labels(self) -> list[str]:
        """Labels in the configuration that no model knows."""
        graphs = {n: (a, self._models[a.model].graph) for n, a in self.config.asset.items()}
        return label_names.unknown(self.config.output, {n: (a, g.card) for n, (a, g) in graphs.items() if g})

    def _participant(self, name: str, state: Path) -> Participant:
        assets = {n: a for n, a in self.config.asset.items() if a.model == name}

        def fits(card: Card, shape: tuple[int, ...]) -> None:
            for asset, config in assets.items():
                check_fit(asset, config, card, shape)
            for problem in enough.impossible(name, self.config.model[name], assets, card, shape):
                raise ModelError(problem)

        return Participant(
            name,
            self.config.model[name],
            state / "models" / name,
            self._samples,
            self._spool,
            self._identity,
            self._uplink,
            fits,
            self._latency.slow,
            self._plans[name],
            self._book,
            Asker(self.config.agent.name, name, self._samples, self._questions, self._book, self._limits_of),
            {n: self._reservoirs[n] for n in assets},
        )

    def _limits_of(self, asset: str, serving: Serving, ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the limits of stored windows by their ends (n,); the learnt limit if the asset is not configured."""
        known = self._assets.get(asset)
        return learnt_limits(asset, serving, ends) if known is None else known.limits_of(serving, ends)

    def _asset(self, name: str) -> Asset:
        config = self.config.asset[name]
        return Asset(
            self.config.agent.name,
            name,
            config,
            self._models[config.model],
            self._samples,
            self._latency,
            self._lost_spool.alert_state(self.config.agent.name, config.model, name),
            self._raise_event,
            self._run,
            self._spool.silence_state(name),
            self._book,
            len(self.config.asset),
            self._reservoirs[name],
            self._spool.drift_state(name),
            lambda: self._labels.closings.get(name, ()),
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

    def _replay(self) -> None:
        """Push the readings in the inbox through the windows again; decide on what was not decided before."""
        for name, asset in self._assets.items():
            asset.resume(self._checkpoint(name))
            self._lost_spool.resume(asset)
        for model in self._models.values():  # before sources start: a picture that meets no model is decided by nobody
            model.restored.wait(RESTORE_S)
        with suppress(StorageError):  # then limits are moved within a second
            self._labels.look_at_closings()
        guard = ReplayGuard(self.config.agent.state)
        try:
            self._loop.replay(self._inbox.replay(guard), guard)
        except StorageError as e:
            logger.error("the readings that were stored cannot be used: %s", e)
        self._loop.end_replay()

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

    def _take_verdicts(self, name: str, batch: Batch) -> None:
        """Put an inspection's verdicts on an asset into the label book."""
        for found in self._verdicts[name].take(batch):
            if isinstance(found, Mistake):
                self._labels.count_malformed(name, found.text)
            else:
                self._labels.offer(found)

    def _show(self, decision: Decision) -> None:
        """Have the outputs that show decisions show this one."""
        for output in self._outputs.values():
            output.show(decision)

    def _raise_event(self, event: Event, state: EventState | None) -> None:
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
        if self._questions.is_about(label.asset, label.start_ns, label.end_ns):
            return  # the answer to a question is of its window, and decides on no event
        normal = subject.target_value(card, label.value) == 0
        self._book.close_order(label.asset, label.start_ns, label.end_ns, normal)

    def _asking(self, event: Event) -> list[str]:
        """The outputs that get a question: somebody there can answer it with a label that the model knows."""
        subject, found = self._subjects.get(event.decision.asset), list[str]()
        card = subject.card() if subject else None
        if subject is None or card is None:
            return found
        for name, output in self._outputs.items():
            if any(subject.target_value(card, label) is not None for label in output.answers):
                found.append(name)
            elif output.answers:
                output.asks_not_of.add(event.decision.model)
        return found

    def _share(self, asset: str) -> int:
        """How many samples the asset may have."""
        model = self.config.asset[asset].model
        graph = self._models[model].graph
        return self._samples.share(model, math.prod(graph.input_shape) if graph else 1)

    def _wake_outputs(self) -> None:
        for output in self._outputs.values():
            output.wake()

    def _facts(self) -> dict[str, SourceFacts]:
        """What the readings of each source do not say."""
        return {n: s.facts() for n, s in self._sources.items()}


def _databases(config: Config) -> list[str]:
    """Files of the state folder that are missed if they are gone, and folders of such files."""
    outputs_, folders = [f"outputs/{n}.sqlite" for n in config.output], [f"sources/{n}" for n in config.source]
    return [SPOOL_FILE, INBOX_FILE, SAMPLES_FILE, *outputs_, *folders]
