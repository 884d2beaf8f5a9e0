# SPDX-License-Identifier: Apache-2.0
"""This gateway's part in one federation: a thread that sends updates, takes releases and trains.

Its cycle: send a waiting update, fetch and verify the newest release, evaluate it on held-back local data, serve it,
train. All of it runs in one thread, so nothing is locked; the main thread only reads `serving`, which is replaced as a
whole. The thread is niced, and training pauses between batches while recent decisions are late. Without an aggregator
the model that is stored here serves, and the site's own model is trained from it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.errors import (
    FedgeError,
    IdentityError,
    ModelError,
    RefusedError,
    ReleaseError,
    ReplayError,
    RetryError,
    StorageError,
    UnreachableError,
)
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.idle import OF_DATA, Idle
from fedge_models.messages.release import Release
from fedge_models.messages.update import renumber_update
from fedge_models.privacy import budget
from fedge_models.privacy.budget import Spent
from fedge_models.system.worker import BackOff, Worker

from ..config.schema import ModelConfig
from ..durable.releases import ChainStore
from ..durable.spool import FURTHEST_US, PendingUpdate, Spool
from ..learning.asking import Asker
from ..learning.local_model import LocalModel
from ..learning.model_file import configured_model
from ..learning.reference import Reference
from ..learning.schedule import AloneSchedule, Schedule
from ..learning.serving import Serving
from ..learning.training import Data, Trained
from ..samples.baseline import Plan, Progress
from ..samples.event_book import EventBook
from ..samples.reservoir import Reservoir
from ..samples.store import SampleStore
from .identity import Identity
from .refused import RefusedReleases
from .statistics import StatisticsPart
from .uplink import Uplink

logger = logging.getLogger(__name__)

LONGEST_BACKOFF_S = 300.0
NICE = 10
LONGEST_PAUSE_S = 0.05
TURN_S = 0.2  # between two steps
STOP_S = 5.0  # for the batch or call at hand
NO_AGGREGATOR = (
    "there is no aggregator to fetch it from; set file, or run fedge-agent join INVITATION and start the agent again"
)
REFUSED = "refused: "  # how the outcome of an update begins that the aggregator refused


def give_way() -> None:
    """Release the interpreter's lock, between batches.

    A niced thread that releases it only on request may not get the core to do so while others wait: that cost 2 to 3 ms
    in the slowest hundredth of decisions.
    """
    time.sleep(0)


class Participant:
    """This gateway in one federation.

    Its thread calls `restore` once and `step` again and again; whoever does not start it may call them.

    fits: raises ModelError when a card and its input shape do not fit the assets.
    slow: whether the slowest recent decisions took longer than so many seconds.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        folder: Path,
        samples: SampleStore,
        spool: Spool,
        identity: Identity | None,
        uplink: Uplink | None,
        fits: Callable[[Card, tuple[int, ...]], None],
        slow: Callable[[float], bool],
        plans: Mapping[str, Plan] | None = None,
        events: EventBook | None = None,
        asker: Asker | None = None,
        machines: Mapping[str, Reservoir] | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.name, self.config = name, config
        self.problem: str | None = None
        self.refused = RefusedReleases()
        self.trainings: list[dict[str, Any]] = []  # the last few
        self._contact: float | None = None  # with the aggregator, monotonic s
        self.restored = threading.Event()  # the model stored here serves, if there was one
        self._chain = ChainStore(folder)
        self._samples, self._spool = samples, spool
        self._identity, self._uplink = identity, uplink
        self._slow, self._plans = slow, plans or {}
        self._rng = np.random.default_rng() if rng is None else rng
        self.model = LocalModel(name, config, self._chain, samples, spool, fits, self._pause, plans, events, self._rng)
        self._schedule, self._alone = Schedule(config.training), AloneSchedule(config.training)
        self._asker = asker
        self._head: Release | None = None
        self.statistics = StatisticsPart(name, config, self.model, machines or {}, self._chain, spool, identity, uplink)
        self._waits_for_start = False  # for a model of the federation that makes samples otherwise than the file here
        self._changes: tuple[str, ...] = ()  # of the configured file, as it was taken in
        self._next_poll, self._reachable = 0.0, True
        self._back_off = BackOff(min(float(config.poll), LONGEST_BACKOFF_S), LONGEST_BACKOFF_S)
        self._stopped: str | None = None
        self._diverged = False  # the last training
        self._worker = Worker(f"model-{name}", self._turn)

    @property
    def unreadable(self) -> dict[str, str]:
        """Files of its folder that cannot be read, and what is lost with each."""
        return dict(self._chain.problems)

    @property
    def unwritten(self) -> str | None:
        """Why files of its folder are in memory only."""
        return self._chain.unwritten

    @property
    def serving(self) -> Serving | None:
        """What decides; replaced whole."""
        return self.model.serving

    @property
    def graph(self) -> TrainableGraph | None:
        """The model; only this thread touches it, but for its card and shapes."""
        return self.model.graph

    def baseline(self, asset: str) -> Progress | None:
        """How far the asset's baseline is; None where its model needs none, or is not known yet."""
        return self.model.progress(asset)

    def reference(self, asset: str) -> Reference | None:
        """What was learnt of the asset's inputs, by now."""
        return self.model.reference(asset)

    def is_due(self, asset: str) -> bool:
        """Whether what the asset lacks to decide is being made, from windows that are collected."""
        return self.model.is_due(asset)

    def hurry(self) -> None:
        """Look now what is due: a machine waits for it."""
        self._samples.hurry()
        self._worker.wake()

    def start(self) -> None:
        """Start the thread; it first serves the model that is stored here."""
        self._worker.start()

    def stop(self) -> None:
        """Stop the thread after its current batch or call."""
        self._worker.stop(STOP_S)
        self.statistics.keep(time.monotonic(), at_once=True)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        update, privacy = self._spool.update(self.name), self.config.privacy
        serves, head = self.serving.release if self.serving else None, self._head.header.version if self._head else None
        refused = self.refused.status(head, serves)
        return {
            "release": serves,
            "head": head,
            "threshold": self._threshold(),
            "fine_tuned": self.model.tuned,
            "own_share": self.model.own_share,
            "learns": self._learns,
            "joined": self._uplink is not None,
            "own": self.model.own_status(),
            "start_value": self.model.start_value if self._uplink is not None else None,
            "age": self.model.age(time.time()),
            "readiness": self._readiness(),
            "left_to_release": self.model.left_to_release,
            "decided_by_one": self.model.decided_by_one,
            "calibration": self._calibration(),
            "intervals": None if (known := self.model.intervals) is None else known.status(self.config.confidence),
            "file_changes": list(self._changes),
            "provider": self.serving.session.provider if self.serving else None,
            "waits_for": self._waits_for(),
            "samples": self._stored(),
            "judged_by": {**(judged := self.model.judged_by)._asdict(), "text": judged.text()},
            "left_out": self.model.left_out,
            "samples_before": self.model.samples_before,
            "samples_without_label": self.model.without_label,
            "doubtful_channels": self.model.doubtful,
            "trainings": self.trainings,
            "refused_releases": {str(k): v for k, v in self.refused.why.items()},
            "refused": refused,
            "update": None
            if update is None
            else {"base": update.base, "sequence": update.sequence, "outcome": update.outcome or "waiting"},
            "privacy": budget.status(self._spool.privacy_spent(self.name), privacy, self.name) if privacy else None,
            "asked": self._asked(),
            "statistics": self.statistics.status(),
            "reachable": self._reachable,
            "contact_age_s": None if self._contact is None else round(time.monotonic() - self._contact, 1),
            "problem": self.problem or self._worker.problem or refused["problem"],
        }

    def _calibration(self) -> dict[str, Any] | None:
        """How probabilities are calibrated; None for a task without any, or before anything serves."""
        found, card = self.model.calibrated, self.graph.card if self.graph else None
        return None if found is None or card is None else found.status(card)

    @property
    def _learns(self) -> str:
        """With whom it is trained now: "together" on the releases of an aggregator, "alone" (its own model only), or
        "not"."""
        if self._uplink is not None and self._head is not None:
            return "together"
        return "alone" if self.graph is not None and self.config.training.own_model else "not"

    @property
    def _trains(self) -> bool:
        """Whether it is trained here by now, or will be once the aggregator gives a release."""
        return self._uplink is not None or self._learns != "not"

    def _readiness(self) -> dict[str, Any]:
        """Whether the samples are fit to train on, where `trains`; else nobody looks."""
        found, idle = self.model.readiness, self._idle()
        return {
            "trains": self._trains,
            "lack": found.text,
            "remarks": {asset: list(found.remarks.get(asset, ())) for asset in self._plans},
            "idle": None if idle is None else idle.value,
        }

    def _said(self) -> Idle | None:
        """Of why there is no update, what the aggregator may know: with privacy nothing that depends on samples."""
        idle = self._idle()
        return None if self.config.privacy and idle in OF_DATA else idle

    def _older(self) -> int | None:
        """Return the older release that serves as the newest was refused; None with privacy: samples decide it."""
        serving, head = self.serving, self._head
        if self.config.privacy or serving is None or head is None or serving.release >= head.header.version:
            return None
        return serving.release

    def _idle(self) -> Idle | None:
        """Why there is no update of this gateway; None: there is or will be one, or it is not asked."""
        if self._head is not None and self._schedule.trained_base >= self._head.header.version:
            return Idle.DIVERGED if self._schedule.failed and self._diverged else None
        if self.graph is None or self._waits_for_start:
            return Idle.MODEL
        if self.config.privacy and budget.why_stopped(
            self._spool.privacy_spent(self.name), self.config.privacy, self.name
        ):
            return Idle.PRIVACY
        return self.model.readiness.lack

    def _stored(self) -> dict[str, int]:
        """How many samples have each label, by its name, or have a target; "-": none."""
        card = self.graph.card if self.graph else None
        task = card.task if card is not None else ""
        labels = card.labels if card is not None and task != "anomaly" else ("normal", "anomaly")
        found = self._samples.labels(self.name, labels if task == "multilabel" else ())
        if task == "regress":  # a few hundred values are no labels
            return {"values": sum(n for value, n in found.items() if value != "-"), "-": found.get("-", 0)}
        if task not in ("classify", "anomaly"):
            return found
        names = dict(zip(map(str, range(len(labels))), labels, strict=True))
        return {names.get(value, value): count for value, count in found.items()}

    def _threshold(self) -> float | None:
        """The limit that all assets share; of an anomaly model the highest, and None before the first is known."""
        if self.serving is None:
            return None
        known = [limit.score for limit in self.serving.limits.values()]
        return max(known) if known else self.serving.threshold

    def _waits_for(self) -> str | None:
        """What is missing before it can decide."""
        if self.serving is not None:
            return None
        if self.graph is None:
            return "a model"
        needed, total, usable = self.config.training.min_samples, self.model.total, self.model.too_few
        of = f", of which it may learn from {usable}" if usable is not None and total >= needed else ""
        return f"{needed} windows, to learn what is usual at this site (has {total}{of})"

    def progress(self) -> str:
        """How much there is of what all machines of the model together need before it can decide, in words."""
        total, needed = self.model.total, self.config.training.min_samples
        if total < needed:
            return f"{total} of {needed} windows that model {self.name} needs of all its machines together"
        return f"model {self.name} has its {needed} windows, and decides once it has learnt from them"

    # the thread

    def _turn(self) -> float:
        """Serve what is stored here first, then take a step; seconds until the next."""
        if self.restored.is_set():
            self._attempt(self.step)
        else:
            self._begin()
        return min(TURN_S, float(self.config.poll))

    def _begin(self) -> None:
        try:
            if sys.platform == "linux":
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
            self._attempt(self.restore)
        finally:
            self.restored.set()

    def _attempt(self, step: Callable[[], None]) -> None:
        """Run a step; what goes wrong stays the stated problem until the aggregator was reached (without one: until a
        step succeeds), and delays the next call."""
        try:
            step()
            return
        except FedgeError as e:
            self._reachable = self._reachable and not isinstance(e, (UnreachableError, IdentityError))
            self._state(str(e))
        except Exception as e:
            logger.exception("model %s", self.name)
            self._state(f"unexpected {type(e).__name__}: {e}; see the log")
        if time.monotonic() >= self._next_poll:  # the call failed; a training that fails delays no call
            self._next_poll = time.monotonic() + self._back_off.next()

    def _state(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            logger.warning("model %s: %s", self.name, problem)
        self.problem = problem

    def restore(self) -> None:
        """Serve the model that is stored here, before the aggregator is asked for anything."""
        data = self._chain.graph_bytes()
        is_own = data is None
        if data is None:
            data = configured_model(self.config)
        if data is None:
            if self._uplink is None:
                self._state(f"no model can come: [model.{self.name}] has no file, and {NO_AGGREGATOR}")
            return
        self.model.adopt(data)
        self._changes = self._logged_changes() if is_own else ()
        if self.model.is_of_another_release() and self._chain.has_graph():  # older state has no digest of its own
            self._chain.graph_is_damaged("it is not the model file of the stored release")
            self.model.drop()
            self.restore()
            return
        self._head = self.model.stored_release()
        if self._head is not None and not self._chain.has_copy():  # it is the file that the release names
            with suppress(StorageError):
                self._chain.save_graph(data)
        pending = self._spool.update(self.name)
        if pending is not None:
            self._schedule.trained_base = pending.base
            self._schedule.failed = (pending.outcome or "").startswith(REFUSED) and not self.config.privacy
        self.model.restore(self._head)
        self.refused.restored(self._head.header.version if self._head else None)
        if self.model.has_own:  # a restart is no reason to train it again
            version = self._head.header.version if self._head else 0
            self._alone.trained(version, self.model.learnt_total, time.monotonic())

    def _logged_changes(self) -> tuple[str, ...]:
        """What was changed in the configured file as it was taken in; each is logged, once a start."""
        found = self.graph.notes if self.graph is not None else ()
        for text in found:
            logger.info("model %s: %s: %s", self.name, self.config.file, text)
        return found

    def step(self) -> None:
        """Exchange what waits with the aggregator, if it is time, and train if it is due."""
        self._chain.write_held(time.monotonic())
        self.statistics.keep(time.monotonic())
        if self._uplink is not None and time.monotonic() >= self._next_poll:
            self._uplink.keep_certificate(time.time())
            self._send()
            self._fetch()
            self.statistics.step(time.monotonic())
            self._reachable, self._contact = True, time.monotonic()
            self._back_off.reset()
            self._state(None)
            self._next_poll = time.monotonic() + float(self.config.poll)
        if self.graph is not None:
            self.model.rescale()
            self.model.complete_baselines()
            self.model.learn_inputs()
            if self._trains:
                self.model.look_at_data()
            if self._uplink is None and self.serving is not None:  # no answer of an aggregator will withdraw it
                self._state(None)
            self._learn()
            if self._asker is not None:
                self._asker.look(self.model, time.monotonic())

    def _send(self, again: bool = False) -> None:
        """Send the update that waits, if there is one. again: its sequence number was used, and is another now."""
        pending = self._spool.update(self.name)
        if self._uplink is None or pending is None or pending.body is None:
            return
        if self.config.privacy and pending.sequence != self._spool.privacy_spent(self.name).sequence:
            self._spool.finish_update(self.name, pending.sequence, "withheld: made before privacy was set")
            return
        try:
            self._uplink.submit(self.name, pending.body)
        except RefusedError as e:
            if isinstance(e, ReplayError) and not again and self._renumber(pending, e.last):
                self._send(again=True)
                return
            logger.warning("model %s: update %d refused: %s", self.name, pending.sequence, e)
            self._spool.finish_update(self.name, pending.sequence, f"{REFUSED}{e}")
            self._schedule.failed = not self.config.privacy  # with privacy each try costs budget
        else:
            self._spool.finish_update(self.name, pending.sequence, "accepted")

    def _renumber(self, pending: PendingUpdate, last: int) -> bool:
        """Give the update that waits a number above the aggregator's last; whether that can be. Raises StorageError."""
        if self.graph is None or self._identity is None or pending.body is None or last >= FURTHEST_US:
            return False
        self._spool.raise_sequence(self.name, last)
        number = self._spool.reserve_sequence(self.name)
        body = renumber_update(pending.body, number, self._identity.key, self.graph.sizes)
        self._spool.renumber_update(self.name, pending.sequence, number, body)
        logger.warning("model %s: number %d was used; it is sent again as %d", self.name, pending.sequence, number)
        return True

    def _take(self, data: bytes) -> None:
        """Take the federation's model file. The assets make windows as the one that is here says until a restart."""
        self._waits_for_start = self.model.would_begin_anew(data)
        if not self._waits_for_start:
            self.model.adopt(data)
            self._changes = ()
        self._chain.save_graph(data)

    def _fetch(self) -> None:
        """Ask for a newer release, verify it, store it, and serve it unless it is clearly worse here."""
        assert self._uplink is not None and self._identity is not None
        if self.graph is None or not self._chain.has_graph():
            self._take(self._uplink.fetch_model(self.name))
        if self._waits_for_start:
            raise ModelError(
                f"the federation's model makes samples otherwise than {self.config.file}, which serves until the agent "
                "is started again: restart it"
            )
        have = self._head.header.version if self._head else 0
        cap = self.model.longest_release()
        message = self._uplink.fetch_release(self.name, have, cap, self._said(), self._older())
        if message is None:
            return
        release = self.model.verify(message, self._identity.release_key, self._head, time.time())
        self._chain.save("head", release)
        self._head = release
        try:
            self.model.try_release(release)
        except ReleaseError as e:
            self.refused.note(release.header.version, str(e), time.monotonic())
            logger.warning("model %s: %s", self.name, e)
        else:
            self.refused.accepted()

    def _learn(self) -> None:
        """Train if it is due: with an update where one is wanted and allowed, else the site's own model alone."""
        base, identity = self._head, self._identity
        if not self.model.can_train:
            return
        version, total, now = base.header.version if base else 0, self.model.total, time.monotonic()
        sends = base is not None and identity is not None and self._may_send(version, total, now)
        is_due = self._schedule.due if sends else self._alone.due
        if not is_due(version, total, total, now):
            return
        data = self.model.usable(held=False)
        if not is_due(version, len(data.x), total, now):
            return
        self.model.is_ready()
        if sends and base is not None and identity is not None:
            self._train_and_send(base, data, identity, total, now)
        self._alone.trained(version, total, now)
        # It takes nothing from the release, so a broken one does not stop it.
        is_new = self.model.learn_alone(version, data)
        del data  # what serves is made of all samples, which are not to be in memory twice
        if is_new:
            self.model.serve_learnt()

    def _train_and_send(self, base: Release, data: Data, identity: Identity, total: int, now: float) -> None:
        """Train on a release, and put the signed update into the spool. total: samples ever collected."""
        version = base.header.version
        trained = self.model.train(base, data, self._rng)
        self._schedule.trained(version, total, now)
        self._note(version, trained, time.monotonic() - now)
        self._diverged = trained.delta is None
        if trained.delta is None:
            self._schedule.failed = True
            self._state(f"training on release {version} diverged; nothing is sent")
            return
        self._put_update(base, trained, self._spool.privacy_spent(self.name), identity)
        self._next_poll = 0.0 if self._reachable else self._next_poll

    def _may_send(self, version: int, total: int, now: float) -> bool:
        """Whether an update is due, wanted in this round, and paid for by the privacy budget."""
        if not self._schedule.due(version, total, total, now) or not self._asked():
            return False
        privacy = self.config.privacy
        if privacy and (why := budget.why_stopped(self._spool.privacy_spent(self.name), privacy, self.name)):
            self._stop_learning(why)
            return False
        return True

    def _put_update(self, base: Release, trained: Trained, spent: Spent, identity: Identity) -> None:
        """Sign the update and put it into the spool, in one transaction with what it costs of the privacy budget."""
        privacy, pending = self.config.privacy, self._spool.update(self.name)
        with_residual = privacy is None or (pending is not None and pending.sequence == spent.sequence)
        sequence = self._spool.reserve_sequence(self.name)
        body, carried = self.model.make_update(base, trained, identity.node, sequence, identity.key, with_residual)
        charge = budget.charge(privacy) if privacy else None
        self._spool.put_update(self.name, base.header.version, sequence, body, base.header.graph, carried, charge)

    def _stop_learning(self, why: str) -> None:
        """Log once that the privacy budget allows no further update."""
        if why != self._stopped:
            logger.warning("model %s: %s", self.name, why)
        self._stopped = why

    def _asked(self) -> bool:
        """Whether an update is wanted in this round; the aggregator may ask only some of its nodes."""
        return self._uplink is None or self._uplink.asked(self.name)

    def _note(self, version: int, trained: Trained, seconds: float) -> None:
        """Add a training to the status page's list."""
        entry = {
            "base": version,
            "rows": trained.report.rows,
            "dropped": trained.report.dropped,
            "diverged": trained.report.diverged,
            "seconds": round(seconds, 3),
            "base_figures": trained.before,
            "local_figures": trained.after,
        }
        self.trainings = [*self.trainings[-9:], entry]

    def _pause(self) -> None:
        """Wait between batches while decisions are slow. Raises RetryError when the thread is to stop."""
        give_way()
        waited = 0.0
        while self._slow(float(self.config.training.latency_budget)) and waited < LONGEST_PAUSE_S:
            time.sleep(0.005)
            waited += 0.005
        if self._worker.stopping:
            raise RetryError("stopped while training")
