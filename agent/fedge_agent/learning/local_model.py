# SPDX-License-Identifier: Apache-2.0
"""A federation's model at this gateway: its graph, its samples as the graph sees them, its training, and what serves.

One thread owns it (`participant.py`); the main thread only reads `serving`, which is replaced as a whole. A release is
tried on held-back data against the one that serves, tuned to the machines here, and swapped in.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from fedge_models.errors import ReleaseError, StorageError
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release, max_release_bytes
from fedge_models.messages.trust_chain import Anchor, verify_release
from fedge_models.training import outliers, personal, standardise
from fedge_models.training.evaluation import row_losses
from fedge_models.training.outliers import HABIT, finite_rows
from fedge_models.training.standardise import Scale
from numpy.typing import NDArray

from ..config.schema import ModelConfig
from ..durable.releases import ChainStore
from ..durable.spool import Spool
from ..samples.baseline import LEAST_WINDOWS, Plan, Progress
from ..samples.event_book import EventBook
from ..samples.store import Kind, Rows, SampleStore
from ..samples.withholding import NORMAL, trainable
from ..types import Array
from . import stored_limits
from .canary import CANARY_MIN, clearly_worse
from .carry_over import CarryOver, decode
from .limits import UNKNOWN, Limit, margins, of_machines, threshold
from .serving import Serving, Session
from .stored_limits import made_for
from .training import Data, Trained, train, usable, with_label
from .tuning import tune
from .update import protected, update_body

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

logger = logging.getLogger(__name__)

HISTORY = 1000  # samples from which a trend is computed when another model serves
SCALE_GROWTH = 1.05
SETTLING = 20  # samples
LIMITS_S = 1.0  # between two looks for machines whose baseline has become complete


class LocalModel:
    """The model of one federation here; without a graph until `adopt`.

    fits: raises ModelError when a card and its input shape do not fit the assets; pause: called between batches; plans:
    what is learnt from each asset; events: whose windows are withheld.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        chain: ChainStore,
        samples: SampleStore,
        spool: Spool,
        labelled: bool,
        fits: Callable[[Card, tuple[int, ...]], None],
        pause: Callable[[], None],
        plans: Mapping[str, Plan] | None = None,
        events: EventBook | None = None,
    ) -> None:
        self.serving: Serving | None = None
        self.graph: TrainableGraph | None = None
        self._name, self._config, self._labelled = name, config, labelled
        self._chain, self._samples, self._spool = chain, samples, spool
        self._fits, self._pause = fits, pause
        self._file, self._digest = b"", b""  # the model file, and its SHA-256
        self._mask: personal.Mask = np.zeros(0, np.bool_)  # of the parameters that stay here
        self._served: Release | None = None
        self._tuned: Floats | None = None  # the weights of that release after tuning
        self._scale: Scale | None = None
        self._scaled_on = 0
        self._unread = False  # samples could not be read when it was made to serve
        self.doubtful: list[str] = []  # channels with many values far from all others (`outliers.doubtful`)
        self._left_out: dict[bool, int] = {}  # of the held-back part, and of the other
        self._rng = np.random.default_rng()
        self._plans, self._windows = plans or {}, dict[str, int]()  # asset -> its normal windows, when last counted
        self._events, self._accepted = events, 0  # how many alarms were accepted when the scale was fitted
        self._looked = 0.0  # monotonic, s
        self._tried: set[str] = set()  # assets whose baseline was complete at such a look

    @property
    def tuned(self) -> bool:
        """Whether the weights that serve were tuned to the machines here."""
        return self._tuned is not None

    @property
    def total(self) -> int:
        """Samples ever collected."""
        return self._samples.total.get(self._name, 0)

    @property
    def can_train(self) -> bool:
        """Whether there is a graph and a standardisation."""
        return self.graph is not None and self._scale is not None

    def adopt(self, data: bytes) -> None:
        """Load the model file. Raises ModelError when it does not fit what is configured."""
        graph = TrainableGraph.load(data, where=f"model {self._name}", schemas=False)
        self._fits(graph.card, graph.input_shape)
        self._mask = personal.local_mask(graph)
        self.graph, self._file, self._digest = graph, data, hashlib.sha256(data).digest()

    def is_of_another_release(self, data: bytes) -> bool:
        """Whether the release that is stored belongs to another model file than this one."""
        assert self.graph is not None
        found = self._chain.load("head", self.graph)
        return found is not None and found.header.graph != hashlib.sha256(data).digest()

    def drop(self) -> None:
        """Have no model file again."""
        self.graph, self._file, self._digest = None, b"", b""

    def stored_release(self) -> Release | None:
        """The newest release that was trusted before a restart; the one that served, when that is damaged."""
        return self._stored("head") or self._stored("serving")

    def _stored(self, name: str) -> Release | None:
        """A stored release of this very model file."""
        assert self.graph is not None
        found = self._chain.load(name, self.graph)
        return found if found is not None and found.header.graph == self._digest else None

    def restore(self, newest: Release | None) -> None:
        """Serve what served before a restart, or `newest` when nothing did."""
        assert self.graph is not None
        self._served = self._stored("serving") or newest
        if self._served is not None:
            self._tuned = self._chain.load_tuned(self._served.hash, len(self.graph.params))
        self.serve()

    def longest_release(self) -> int:
        """The most bytes that a release of this model may have."""
        assert self.graph is not None
        return max_release_bytes(self.graph.params.size, len(self.graph.sizes))

    def verify(self, message: bytes, key: Ed25519PublicKey, held: Release | None, now: float) -> Release:
        """Return the release in a signed message. Raises as `verify_release`; `now`: Unix time, s."""
        assert self.graph is not None
        return verify_release(message, Anchor(key, self._name, self._digest, self.graph.sizes), held, now)

    def try_release(self, release: Release) -> None:
        """Evaluate a release, store it, tune it, serve it. Raises ReleaseError when it is clearly worse here."""
        self._canary(release)
        self._chain.save("serving", release)
        self._served = release
        self.tune()
        self.serve()

    @property
    def left_out(self) -> int:
        """Stored samples that count for no limit and no training, because a value in them is wild (`outliers`)."""
        return sum(self._left_out.values())

    def usable(self, held: bool) -> Data:
        """Standardised samples to train on, without wild ones; `held`: those to evaluate with."""
        assert self.graph is not None and self._scale is not None
        task, (x, y, assets, _) = self.graph.card.task, self._load(held)
        data = usable(task, x, y, self._labelled, assets)
        # A label says what a sample is, however far away it lies; a sample without one only seems to be normal.
        keep = self._plausible(data) if task != "classify" else finite_rows(data.x)
        labelled = int(finite_rows(y).sum()) if task == "regress" else len(data.x)
        self._left_out[held] = labelled - int(keep.sum())
        return Data(self._scale(data.x[keep]), data.y[keep], data.assets[keep])

    def _plausible(self, data: Data) -> NDArray[np.bool_]:
        """Which samples (n,) are not wild. Machines of one model differ: where more than a quarter of a machine's own
        are far from those of the others, that is how this machine is."""
        assert self._scale is not None
        keep = self._scale.plausible(data.x)
        for asset in np.unique(data.assets[~keep]):
            own = data.assets == asset
            if keep[own].mean() < 1 - HABIT:
                keep[own] = finite_rows(data.x[own])
        return keep

    def train(self, base: Release, data: Data, rng: np.random.Generator) -> Trained:
        """Train on a release with `usable` data, evaluated on what is held back. Nothing that serves is changed."""
        assert self.graph is not None
        held, known = self.usable(held=True), with_label(self.graph.card.task, self._standardised(held=True))
        config, carried = self._config.training, self._carried(base)
        return train(self.graph, base, data, held, known, config, rng, self._pause, carried)

    def make_update(
        self,
        base: Release,
        trained: Trained,
        node: str,
        sequence: int,
        key: Ed25519PrivateKey,
        with_residual: bool = True,
    ) -> tuple[bytes, bytes]:
        """Return the signed update of a training, and what is carried over to the next one, encoded.

        with_residual: add the error feedback of the last update. With privacy, the residual of an update that was
        made without noise must not be added.
        """
        assert self.graph is not None
        privacy, sent, residual = self._config.privacy, trained, self._carried(base).residual
        if privacy is not None:
            sent = protected(trained, privacy, self._mask, self._config.training.min_samples)
        if not with_residual:
            residual = np.zeros_like(residual)
        body, left = update_body(
            base, sent, residual, self.graph.sizes, node, sequence, key, shorten=privacy is not None
        )
        version = base.header.version
        carried = CarryOver(left.astype(np.float32), trained.own, trained.movement, base.weights, version)
        return body, carried.encode()

    def use_own_tensors(self) -> None:
        """Serve with the tensors that the last training changed and that stay at this site, if the card names any."""
        if self._mask.any():
            self.tune()
            self.serve()

    def progress(self, asset: str) -> Progress | None:
        """How far the asset's baseline is; None where its model needs none, or is not known yet."""
        if self.graph is None or self.graph.card.task != "anomaly":
            return None
        size = int(np.prod(self.graph.input_shape))
        least = min(LEAST_WINDOWS, self._config.training.min_samples, self._samples.share(self._name, size))
        plan = self._plans.get(asset, Plan())
        covered = self._samples.covered_ns(self._name, asset)
        return Progress(covered, plan.span_ns, self._windows.get(asset, 0), least)

    def complete_baselines(self) -> None:
        """Make the limits of assets whose baseline has become complete."""
        if self.serving is None or time.monotonic() - self._looked < LIMITS_S:
            return
        self._looked = time.monotonic()
        own = {a for a, limit in self.serving.limits.items() if not limit.provisional}
        waiting = self._plans.keys() - own
        covered = {a for a in waiting if (known := self.progress(a)) and known.covered_ns >= known.span_ns}
        if covered - self._tried:
            self._tried |= covered
            self.serve()

    def rescale(self) -> None:
        """Fit the standardisation once there are samples, and again whenever they have grown by a twentieth.

        It needs no labels and no splitting, so a gateway that only decides, or whose first samples are held back, has
        one too. Windows known to be anomalous are left out.
        """
        assert self.graph is not None
        if self._unread and self._samples.tables.problem is None:
            self._unread = False
            self.serve()
        total, least = self.total, self._config.training.min_samples
        accepted = self._events.accepted if self._events else 0
        if accepted == self._accepted and total < max(least, self._grown()):
            return
        self._accepted = accepted
        x, y, *_ = self._load(None)
        if self.graph.card.task == "anomaly":
            x = usable("anomaly", x, y, self._labelled).x
        if len(x) < least:
            return
        self._scaled(standardise.fit(x, self.graph.card), total)
        self.doubtful = outliers.doubtful(x, self.graph.card)
        self._save_scale(x.shape[1:], total)
        self.tune()
        self.serve()

    def _grown(self) -> float:
        """How many samples make another fit worth while: few, while the windows of an accepted alarm come in."""
        settles = self._events is not None and any(
            h.open and h.verdict == NORMAL and h.asset in self._plans for h in self._events.holds()
        )
        grown = SCALE_GROWTH * self._scaled_on
        return min(grown, self._scaled_on + SETTLING) if settles else grown

    def tune(self) -> None:
        """Tune the release that serves to the machines here, where held-back data shows that it helps."""
        config, self._tuned = self._config.training, None
        if not config.fine_tune or self._served is None or self._scale is None or self.graph is None:
            return
        data = self.usable(held=False)
        if len(data.x) < config.min_samples:
            return
        how, start = msgspec.structs.replace(config, epochs=config.fine_tune), self._composed(self._served.weights)
        self._tuned = tune(self.graph, start, data, self.usable(held=True), how, self._rng, self._pause)
        if self._tuned is not None:
            with suppress(StorageError):  # then a restart serves the release, until it is tuned again
                self._chain.save_tuned(self._served.hash, self._tuned)

    def serve(self) -> None:
        """Make a new session with standardisation and threshold, then swap it in."""
        graph = self.graph
        if graph is None:
            return
        if self._scale is None and (stored := self._stored_scale(graph.input_shape)):
            scale, on = stored
            self._scaled(scale, 0 if scale.bounds is None and graph.card.image is None else on)
        if self._scale is None and (given := standardise.given(graph.card)):
            self._scaled(given, 0)
        if self._scale is None:
            return
        weights = graph.params if self._served is None else self._composed(self._served.weights)
        weights = weights if self._tuned is None else self._tuned
        graph.set_params(weights)
        held = self.usable(held=True)
        limit, limits = self._limits(held)
        limits = self._with_stored(limits, made_for(np.asarray(weights), self._scale))
        bounds = margins(graph, held, self._config.confidence)
        session = Session(self._file, graph.initializers(np.array(weights)))
        release = self._served.header.version if self._served else 0
        made = Serving(session, graph.card, release, self._scale, limit, graph.gives_probabilities, limits, bounds)
        made.past = self._past(made)
        self.serving = made

    def _limits(self, held: Data) -> tuple[Limit, dict[str, Limit]]:
        """The limit of assets without one of their own, and those of the others."""
        assert self.graph is not None
        train = self.usable(held=False)
        if self.graph.card.task != "anomaly" or not self._plans:
            return threshold(self.graph, held, train), {}
        self._windows = dict(Counter([*held.assets.tolist(), *train.assets.tolist()]))
        progress = {asset: known for asset in self._plans if (known := self.progress(asset)) is not None}
        return UNKNOWN, of_machines(self.graph, held, train, progress, self._plans)

    def _with_stored(self, limits: dict[str, Limit], made: bytes) -> dict[str, Limit]:
        """The limits, with those that were stored for assets whose samples are lost since; stored when there are new
        ones."""
        known = {a: v for a, v in stored_limits.decode(self._chain.load_limits(), made).items() if a in self._plans}
        found = {**known, **{a: v for a, v in limits.items() if a not in known or not v.provisional}}
        data = stored_limits.encode(made, found)
        if any(not v.provisional for v in found.values()) and data != self._chain.load_limits():
            with suppress(StorageError):  # they serve nevertheless
                self._chain.save_limits(data)
        return found

    def _standardised(self, held: bool) -> Data:
        """All samples of one part."""
        assert self._scale is not None
        x, y, assets, _ = self._load(held)
        keep = finite_rows(x)
        return Data(self._scale(x[keep]), y[keep], assets[keep])

    def _past(self, serving: Serving) -> dict[str, list[tuple[int, dict[str, float]]]]:
        """Estimates of a model that follows trends for the stored samples, by asset: (time in ns, values)."""
        found: dict[str, list[tuple[int, dict[str, float]]]] = {}
        if serving.card.task == "regress" and serving.card.targets:
            shape = serving.session.input.shape
            with suppress(StorageError):  # a trend then begins again
                since = self._samples.newest(self._name) - round(self._config.trend * 1e9)
                for asset, time_ns, x in self._samples.history(self._name, shape, since, HISTORY, self._kind()):
                    found.setdefault(asset, []).append((time_ns, serving.decide(x).values))
        return found

    def _load(self, held: bool | None) -> Rows:
        """Samples of one part or (None) all that may be learnt from, before standardisation."""
        assert self.graph is not None
        shape, targets = self.graph.input_shape, self._targets()
        try:
            found = self._samples.rows(self._name, shape, held, targets, self._kind())
            return found if self.graph.card.task != "anomaly" else self._learnable(found)
        except StorageError as e:  # it serves with what is stored beside the release
            if not self._unread:
                logger.error("model %s: %s; it decides without them", self._name, e)
            self._unread = True
            y = np.zeros((0, targets) if targets > 1 else 0, np.float64 if targets else np.int64)
            return Rows(np.zeros((0, *shape), self._kind()), y, np.zeros(0, np.str_), np.zeros(0, np.int64))

    def _learnable(self, found: Rows) -> Rows:
        """Keep the samples of an anomaly model that count as normal. Raises StorageError."""
        if self._events is None:
            return found
        keep = trainable(found.assets, found.times, found.y >= 0, self._events.holds(), self._young())
        return found if keep.all() else found.part(keep)

    def _young(self) -> dict[str, tuple[int, int]]:
        """Source time of the windows after which an alarm could still come, of assets whose baseline is complete."""
        found = {}
        for asset, last in self._samples.last_times(self._name).items():
            plan = self._plans.get(asset, Plan())
            if plan.learn_after_ns and self._samples.covered_ns(self._name, asset) >= plan.span_ns:
                found[asset] = (last - plan.learn_after_ns, last)
        return found

    def _kind(self) -> Kind:
        assert self.graph is not None
        return np.float32 if self.graph.card.image is None else np.uint8

    def _canary(self, release: Release) -> None:
        if self._served is None or self._scale is None:
            return
        held = self.usable(held=True)
        if len(held.x) < CANARY_MIN:
            return
        old, new = (self._losses(weights, held) for weights in (self._served.weights, release.weights))
        if clearly_worse(old, new, self._config.canary_tolerance):
            served = self._served.header.version
            raise ReleaseError(
                f"release {release.header.version}: held-back loss {new.mean():.4g} against {old.mean():.4g} "
                f"of release {served}, which remains in service"
            )

    def _losses(self, weights: Any, held: Data) -> Array:
        assert self.graph is not None
        self.graph.set_params(self._composed(weights))
        return row_losses(self.graph, held.x, None if self.graph.card.task == "anomaly" else held.y)

    def _composed(self, weights: Floats) -> Floats:
        """A release's weights with the tensors that stay at this site."""
        if not self._mask.any() or self.graph is None:
            return weights
        stored = self._spool.residual(self._name, self._digest)
        return personal.compose(weights, decode(stored, self.graph, self._mask).own, self._mask)

    def _carried(self, base: Release) -> CarryOver:
        """What the last training left for one on `base`."""
        assert self.graph is not None
        stored = self._spool.residual(self._name, base.header.graph)
        return decode(stored, self.graph, self._mask).before_training_on(base)

    def _targets(self) -> int:
        """How many values label a sample; 0: a class does."""
        assert self.graph is not None
        return max(1, len(self.graph.card.targets)) if self.graph.card.task == "regress" else 0

    def _stored_scale(self, shape: tuple[int, ...]) -> tuple[Scale, int] | None:
        """The standardisation that served before a restart; versions up to 0.1 stored it with the samples."""
        return self._chain.load_scale(shape) or self._samples.scale(self._name, shape)

    def _save_scale(self, shape: tuple[int, ...], on: int) -> None:
        """Store the standardisation beside what serves: samples may be lost, and the model must see the same."""
        assert self._scale is not None
        try:
            self._chain.save_scale(shape, self._scale, on)
        except StorageError as e:  # it serves nevertheless, and is fitted again after a restart
            logger.warning("model %s: %s", self._name, e)

    def _scaled(self, scale: Scale, on: int) -> None:
        self._scale, self._scaled_on = scale, on
