"""One federation on this gateway: a thread of its own that does, in this order and for ever, what concerns its model:
hand over a waiting update, fetch and verify the newest release, try it on held-back local data, serve it, train.

One thread, so there is nothing to lock: the main thread only reads `serving`, which is replaced whole. The thread is
niced, and training pauses between batches while recent decisions are late. Without an aggregator it serves what it has.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.errors import FedgeError, IdentityError, ModelError, RefusedError, ReleaseError, RetryError
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.release import Release, max_release_bytes
from fedge_models.messages.trust_chain import Anchor, verify_release
from fedge_models.privacy import budget
from fedge_models.privacy.budget import Spent

from ..config.schema import ModelConfig
from ..durable.releases import ChainStore
from ..durable.spool import Spool
from ..learning.carry_over import Memory, decode
from ..learning.local_model import LocalModel
from ..learning.serving import Serving
from ..learning.training import Data, Schedule, Trained, protected, train, update_body
from ..samples.store import SampleStore
from .identity import Identity
from .uplink import Uplink

logger = logging.getLogger(__name__)

LONGEST_BACKOFF_S = 300.0
NICE = 10
LONGEST_PAUSE_S = 0.05
REFUSED = "refused: "  # how the outcome of an update that the aggregator did not take begins


def give_way() -> None:
    """Let go of the interpreter's lock, between batches. A niced thread that only lets go when asked to may not be
    given the core to do so while others wait: that cost 2 to 3 ms in the slowest hundredth of decisions."""
    time.sleep(0)


class Participant:
    """This gateway in one federation."""

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        folder: Path,
        samples: SampleStore,
        spool: Spool,
        identity: Identity | None,
        uplink: Uplink | None,
        labelled: bool,
        fits: Callable[[Card, tuple[int, ...]], None],
        slow: Callable[[float], bool],
    ) -> None:
        self.name, self.config = name, config
        self.problem: str | None = None
        self.refused: dict[int, str] = {}  # release -> why the canary refused it
        self.trainings: list[dict[str, Any]] = []  # the last few
        self.last_contact: float | None = None  # Unix time, s
        self.restored = threading.Event()  # what was kept serves, as far as there was anything
        self._chain = ChainStore(folder)
        self._samples, self._spool = samples, spool
        self._identity, self._uplink = identity, uplink
        self._slow = slow
        self._model = LocalModel(name, config, self._chain, samples, spool, labelled, fits, self._pause)
        self._schedule = Schedule(config.training)
        self._head: Release | None = None
        self._next_poll, self._failures = 0.0, 0
        self._stopped: str | None = None
        self._rng = np.random.default_rng()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"model-{name}", daemon=True)

    @property
    def serving(self) -> Serving | None:
        """What decides; replaced whole."""
        return self._model.serving

    @property
    def graph(self) -> TrainableGraph | None:
        """The model; only this thread touches it, but for its card and shapes."""
        return self._model.graph

    def start(self) -> None:
        """Serve what was kept, then go on in the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch or call at hand."""
        self._stop.set()
        self._thread.join(5)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        update, privacy = self._spool.update(self.name), self.config.privacy
        return {
            "release": self.serving.release if self.serving else None,
            "head": self._head.header.version if self._head else None,
            "threshold": self.serving.threshold if self.serving else None,
            "fine_tuned": self._model.tuned,
            "provider": self.serving.session.provider if self.serving else None,
            "waits_for": self._waits_for(),
            "samples": self._samples.labels(self.name),
            "trainings": self.trainings,
            "refused_releases": {str(k): v for k, v in self.refused.items()},
            "update": None
            if update is None
            else {"base": update.base, "sequence": update.sequence, "outcome": update.outcome or "waiting"},
            "privacy": budget.status(self._spool.privacy_spent(self.name), privacy, self.name) if privacy else None,
            "asked": self._asked(),
            "reachable": self._failures == 0,
            "last_contact": self.last_contact,
            "problem": self.problem,
        }

    def _waits_for(self) -> str | None:
        """What is missing before it can decide."""
        if self.serving is not None:
            return None
        if self.graph is None:
            return "a model"
        needed = self.config.training.min_samples
        return f"{needed} windows to standardise by (has {self._model.total})"

    # the thread

    def _run(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        self._guard(self._restore)
        self.restored.set()
        while not self._stop.is_set():
            self._guard(self._step)
            self._stop.wait(min(0.2, float(self.config.poll)))

    def _guard(self, step: Callable[[], None]) -> None:
        """Nothing that goes wrong here ends the thread; it is stated, and tried again later."""
        try:
            step()
        except (RetryError, IdentityError) as e:
            self._failures += 1
            self._state(str(e))
            self._next_poll = time.monotonic() + self._backoff()
        except FedgeError as e:
            self._state(str(e))
            self._next_poll = time.monotonic() + self._backoff()
        except Exception as e:
            logger.exception("model %s", self.name)
            self._state(f"unexpected {type(e).__name__}: {e}; see the log")
            self._next_poll = time.monotonic() + self._backoff()

    def _backoff(self) -> float:
        wait = min(float(self.config.poll) * 2.0 ** min(self._failures, 10), LONGEST_BACKOFF_S)
        return wait * random.uniform(0.75, 1.25)

    def _state(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            logger.warning("model %s: %s", self.name, problem)
        self.problem = problem

    def _restore(self) -> None:
        """Serve what was kept before the aggregator is asked for anything."""
        data = self._chain.graph_bytes()
        if data is None and self.config.file is not None:
            try:
                data = self.config.file.read_bytes()
            except OSError as e:
                raise ModelError(f"{self.config.file}: cannot be read: {e.strerror}") from e
        if data is None:
            return
        self._model.adopt(data)
        assert self.graph is not None
        self._head = self._chain.load("head", self.graph)
        pending = self._spool.update(self.name)
        if pending is not None:
            self._schedule.trained_base = pending.base
            self._schedule.vain = (pending.outcome or "").startswith(REFUSED) and not self.config.privacy
        self._model.restore(self._head)

    def _step(self) -> None:
        if self._uplink is not None and time.monotonic() >= self._next_poll:
            self._uplink.keep_certificate(time.time())
            self._send()
            self._fetch()
            self._failures, self.last_contact = 0, time.time()
            self._state(None)
            self._next_poll = time.monotonic() + float(self.config.poll)
        if self.graph is not None:
            self._model.rescale()
            self._learn()

    def _send(self) -> None:
        """Hand over the update that waits, if one does."""
        pending = self._spool.update(self.name)
        if self._uplink is None or pending is None or pending.body is None:
            return
        if self.config.privacy and pending.sequence != self._spool.privacy_spent(self.name).sequence:
            self._spool.finish_update(self.name, pending.sequence, "withheld: made before privacy was set")
            return
        try:
            self._uplink.submit(self.name, pending.body)
        except RefusedError as e:
            logger.warning("model %s: update %d refused: %s", self.name, pending.sequence, e)
            self._spool.finish_update(self.name, pending.sequence, f"{REFUSED}{e}")
            self._schedule.vain = not self.config.privacy  # each try is paid for
        else:
            self._spool.finish_update(self.name, pending.sequence, "accepted")

    def _fetch(self) -> None:
        """Ask for a newer release, verify it, keep it, try it, serve it."""
        assert self._uplink is not None and self._identity is not None
        if self.graph is None or (self._head is None and self._chain.graph_bytes() is None):
            data = self._uplink.fetch_model(self.name)
            self._model.adopt(data)
            self._chain.save_graph(data)
        graph = self.graph
        assert graph is not None
        have = self._head.header.version if self._head else 0
        body = self._uplink.fetch_release(self.name, have, max_release_bytes(graph.params.size, len(graph.sizes)))
        if body is None:
            return
        anchor = Anchor(self._identity.release_key, self.name, self._model.digest, graph.sizes)
        head = verify_release(body, anchor, self._head, time.time())
        self._chain.save("head", head)
        self._head = head
        try:
            self._model.release(head)
        except ReleaseError as e:
            self.refused = {**dict(list(self.refused.items())[-9:]), head.header.version: str(e)}
            logger.warning("model %s: %s", self.name, e)

    def _learn(self) -> None:
        """Train if it is time, and put the signed update into the spool."""
        head, graph, identity = self._head, self.graph, self._identity
        if head is None or graph is None or identity is None or not self._model.scaled or not self._asked():
            return
        total, now = self._model.total, time.monotonic()
        if not self._schedule.due(head.header.version, total, total, now):
            return
        spent, privacy = self._spool.privacy_spent(self.name), self.config.privacy
        if privacy and (why := budget.why_stopped(spent, privacy, self.name)):
            self._stop_learning(why)
            return
        data = self._model.usable(held=False)
        if not self._schedule.due(head.header.version, len(data.x), total, now):
            return
        held, known = self._model.usable(held=True), self._model.samples(held=True)
        told = known.y >= 0 if graph.card.task != "regress" else np.isfinite(known.y)
        known = Data(known.x[told], known.y[told])
        memory = decode(self._spool.residual(self.name, head.header.graph), graph, self._model.mask).on(head)
        trained = train(graph, head, data, held, known, self.config.training, self._rng, self._pause, memory)
        self._schedule.trained(head.header.version, total, now)
        self._note(head, trained, time.monotonic() - now)
        if trained.delta is None:
            self._schedule.vain = True
            self._state(f"training on release {head.header.version} diverged; nothing is sent")
            return
        self._keep(head, trained, memory, spent, identity)
        if self._model.mask.any():
            self._model.tune()
            self._model.serve()  # with the site's own tensors as they are now
        self._next_poll = 0.0 if self._failures == 0 else self._next_poll

    def _keep(self, head: Release, trained: Trained, memory: Memory, spent: Spent, identity: Identity) -> None:
        """Sign the update and put it into the spool; with privacy only what is paid for there."""
        assert self.graph is not None
        privacy, residual, told = self.config.privacy, memory.residual, trained
        if privacy:
            told = protected(trained, privacy, self._model.mask, self.config.training.min_samples)
            pending = self._spool.update(self.name)
            if pending is None or pending.sequence != spent.sequence:
                residual = np.zeros_like(residual)  # what an update without noise left is not noised either
        sequence, sizes = self._spool.reserve_sequence(self.name), self.graph.sizes
        body, left = update_body(
            head, told, residual, sizes, identity.node, sequence, identity.key, privacy is not None
        )
        base = head.header.version
        kept = Memory(left.astype(np.float32), trained.own, trained.movement, head.weights, base).encode()
        charge = budget.charge(privacy) if privacy else None
        self._spool.put_update(self.name, base, sequence, body, head.header.graph, kept, charge)

    def _stop_learning(self, why: str) -> None:
        """Say once that the privacy budget allows no more."""
        if why != self._stopped:
            logger.warning("model %s: %s", self.name, why)
        self._stopped = why

    def _asked(self) -> bool:
        """Whether an update is wanted in this round; the aggregator may ask only some of its nodes."""
        return self._uplink is None or self._uplink.asked(self.name)

    def _note(self, head: Release, trained: Any, seconds: float) -> None:
        entry = {
            "base": head.header.version,
            "rows": trained.report.rows,
            "dropped": trained.report.dropped,
            "diverged": trained.report.diverged,
            "seconds": round(seconds, 3),
            "base_figures": trained.before,
            "local_figures": trained.after,
        }
        self.trainings = [*self.trainings[-9:], entry]

    def _pause(self) -> None:
        """Between batches: let inference go first, and let a stop through."""
        give_way()
        waited = 0.0
        while self._slow(float(self.config.training.latency_budget)) and waited < LONGEST_PAUSE_S:
            time.sleep(0.005)
            waited += 0.005
        if self._stop.is_set():
            raise RetryError("stopped while training")
