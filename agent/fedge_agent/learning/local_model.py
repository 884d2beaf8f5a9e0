# SPDX-License-Identifier: Apache-2.0
"""A federation's model at this gateway: from samples and releases to what serves.

Data flows one way: samples (`training_set`) give the standardisation, both tune the weights of a release
(`site_weights`), all three give the limits (`baselines`), and together they are what serves. A release is first tried
on held-back data against the one that serves. One thread owns it (`participant`); the main thread only reads `serving`,
which is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from fedge_models.errors import ReleaseError, StorageError
from fedge_models.graph.card import Card
from fedge_models.graph.recipe import recipe
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release, max_release_bytes
from fedge_models.messages.trust_chain import Anchor, verify_release
from fedge_models.training.outliers import finite_rows
from fedge_models.training.standardise import Scale

from ..config.schema import ModelConfig
from ..durable.releases import ChainStore, Learnt
from ..durable.spool import Spool
from ..samples.baseline import Plan, Progress
from ..samples.event_book import EventBook
from ..samples.label_order import order_of
from ..samples.machine_recipe import machine_recipe
from ..samples.store import SampleStore
from ..samples.units import Summary
from . import label_worth, model_age
from .baselines import Baselines
from .calibrate import Calibrated
from .canary import CANARY_MIN, Outcome, outcome, refusal
from .input_references import InputReferences
from .intervals import Intervals, intervals, of_other_sites, reported
from .kept_calibration import KeptCalibration
from .kept_choice import KeptChoice
from .mixture import Blend
from .moved_limit import below_faults
from .own_model import OwnModel
from .readiness import Readiness
from .reference import Reference
from .serving import MixedSession, Serving, Session
from .site_weights import SiteWeights
from .standardisation import Standardisation
from .stored_limits import made_for
from .training import Data, Trained, train
from .training_set import TrainingSet
from .tuning import complete

logger = logging.getLogger(__name__)

LOOK_S, LOOK_SAMPLES, LOOK_GROWTH = 600.0, 20, 1.2  # between two looks at whether the data is fit to train on
SOON_S, FEW = 5.0, 500  # the same while there are so few samples that a look costs little
MOST_FAULTS = 500  # windows of confirmed faults whose scores bound what moves limits

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class _Adopted(NamedTuple):
    """A model file, and what is known of it at this site."""

    graph: TrainableGraph
    file: bytes
    digest: bytes  # the SHA-256 of the file
    data: TrainingSet
    standardisation: Standardisation
    weights: SiteWeights
    own: OwnModel
    choice: KeptChoice
    calibration: KeptCalibration
    baselines: Baselines
    inputs: InputReferences


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
        fits: Callable[[Card, tuple[int, ...]], None],
        pause: Callable[[], None],
        plans: Mapping[str, Plan] | None = None,
        events: EventBook | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.serving: Serving | None = None
        self.samples_before = 0  # stored samples that were made otherwise, and are left out
        self._name, self._config = name, config
        self._chain, self._samples, self._spool = chain, samples, spool
        self._fits, self._pause = fits, pause
        self._plans, self._events = plans or {}, events
        self._rng = np.random.default_rng() if rng is None else rng
        self._adopted: _Adopted | None = None
        self._is_making = False  # a standardisation or limit
        self.readiness = Readiness()
        self._looked_at, self._looked_on = -math.inf, 0  # at the data: monotonic, s; samples
        self._served_since = 0.0  # monotonic, s: of the release that decides
        self._by_one_before = 0  # see `decided_by_one`; with what served before
        self.own_share: float | None = None  # how much the site's own model counts in what serves; None: there is none
        self.left_to_release: dict[str, float] = {}  # labels that it says nothing of; see `Blend`
        self.blend: Blend | None = None  # what serves, for who asks what each of the two says
        self.intervals: Intervals | None = None  # how far estimates of what serves may be off
        self.calibrated: Calibrated | None = None  # how probabilities are made to fit this site

    @property
    def graph(self) -> TrainableGraph | None:
        """The graph, if there is a model file."""
        return self._adopted.graph if self._adopted else None

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the model file; empty without one."""
        return self._adopted.digest if self._adopted else b""

    @property
    def tuned(self) -> bool:
        """Whether the weights that serve were tuned to the machines here."""
        return self._adopted is not None and self._adopted.weights.tuned

    @property
    def start_value(self) -> str | None:
        """Whether updates offer the tensors that stay here as a start for new sites; see `SiteWeights`."""
        return self._adopted.weights.start_value if self._adopted else None

    @property
    def total(self) -> int:
        """Samples ever collected."""
        return self._samples.total.get(self._name, 0)

    @property
    def left_out(self) -> int:
        """Stored samples that count for no limit and no training, because a value in them is wild."""
        return self._adopted.data.left_out if self._adopted else 0

    @property
    def without_label(self) -> int:
        """Stored samples that lost their label since the start, as the model file has none of that name."""
        return self._samples.without_label[self._name]

    @property
    def too_few(self) -> int | None:
        """How many of the samples the standardisation could be fitted to, when these were too few; else None."""
        return self._adopted.standardisation.too_few if self._adopted else None

    def own_status(self) -> dict[str, Any]:
        """Of the site's own model: whether it is trained, how many trainings there were since the start and how many
        were undone, and whether it does not count yet: the file is trained, and there is no whole unit to judge by."""
        model = self._adopted
        if model is None:
            return {"trained": False, "trainings": 0, "undone": 0, "guarded": False}
        own, guarded = model.own, self._guarded and not self.judged_by.held
        return {
            "trained": own.weights is not None,
            "trainings": own.trainings,
            "undone": own.undone,
            "guarded": own.weights is not None and guarded,
        }

    @property
    def _guarded(self) -> bool:
        """Whether what the own model is compared with is a trained file (`champion`)."""
        return self._model.weights.release is None and not self._model.graph.untrained

    @property
    def judged_by(self) -> Summary:
        """The units of this site that models are judged by."""
        return self._adopted.data.divided.summary if self._adopted else Summary()

    @property
    def decided_by_one(self) -> int:
        """Windows on which the own model or the release decided alone, as the other overflowed there."""
        return self._by_one_before + (self.serving.session.by_one if self.serving else 0)

    def age(self, now: float) -> dict[str, Any]:
        """How old what decides is, see `model_age`; now: Unix time, s."""
        model = self._adopted
        release = model.weights.release if model else None
        learnt = model.own.learnt if model else None
        made = None if release is None else model_age.of_release(release.header.created, now)
        served_s = None if release is None else round(time.monotonic() - self._served_since, 1)
        own = None
        with suppress(StorageError):
            own = None if learnt is None else model_age.of_own(learnt.newest_ns, self._samples.newest(self._name))
        return model_age.status(made, served_s, own)

    @property
    def doubtful(self) -> list[str]:
        """Channels with many values far from all others."""
        return self._adopted.standardisation.doubtful if self._adopted else []

    @property
    def can_train(self) -> bool:
        """Whether there is a graph and a standardisation."""
        return self._adopted is not None and self._adopted.standardisation.scale is not None

    @property
    def has_own(self) -> bool:
        """Whether there is a trained model of this site alone."""
        return self._adopted is not None and self._adopted.own.weights is not None

    @property
    def learnt_total(self) -> int:
        """Samples ever collected when the own model was trained last, also before a restart."""
        learnt = self._model.own.learnt
        new = self._samples.count_after(self._name, 0 if learnt is None else learnt.last)
        return self.total - new

    @property
    def _model(self) -> _Adopted:
        """The adopted model file; calling what needs one before `adopt` is a mistake of the caller."""
        assert self._adopted is not None
        return self._adopted

    # a model file

    def adopt(self, data: bytes) -> None:
        """Load the model file. Raises ModelError when it does not fit what is configured."""
        graph = TrainableGraph.load(data, where=f"model {self._name}", schemas=False)
        card, shape = graph.card, graph.input_shape
        self._fits(card, shape)
        name, chain, samples, plans = self._name, self._chain, self._samples, self._plans
        self.samples_before = self._begin(card)
        digest, least = hashlib.sha256(data).digest(), self._config.training.min_samples
        standardisation = Standardisation(name, card, shape, chain, samples, least, plans, self._events)
        start = graph.params.copy()  # training changes the graph's
        self._adopted = _Adopted(
            graph,
            data,
            digest,
            TrainingSet(name, card, shape, samples, plans, self._events, self._config.training.holdout),
            standardisation,
            SiteWeights(name, graph, digest, self._config, chain, self._spool, start, self._rng),
            OwnModel(graph, digest, self._config.training, chain, start, self._rng),
            KeptChoice(graph, chain),
            KeptCalibration(chain),
            Baselines(name, graph, chain, samples, plans, least),
            InputReferences(card, shape, standardisation.recipe, chain, plans),
        )

    def would_begin_anew(self, data: bytes) -> bool:
        """Whether there is a model, and this file makes samples otherwise. Raises ModelError as `adopt`."""
        if self._adopted is None:
            return False
        other = TrainableGraph.load(data, where=f"model {self._name}", schemas=False)
        self._fits(other.card, other.input_shape)
        here = self._adopted.graph.card
        return recipe(other.card) != recipe(here) or order_of(other.card) != order_of(here)

    def _begin(self, card: Card) -> int:
        """Leave out stored samples that were made in another way; how many."""
        try:
            own = {asset: machine_recipe(card, plan.own) for asset, plan in self._plans.items()}
            left = self._samples.begin(self._name, recipe(card), own, order_of(card))
        except StorageError as e:
            logger.warning(
                "model %s: %s; samples that were made otherwise are found with the next one that is stored",
                self._name,
                e,
            )
            return 0
        if unmarked := self._samples.unmarked.pop(self._name, 0):
            logger.warning(
                "model %s: stored samples of a version that did not note how they were made: %d. They are used as if "
                "made with this card. If its channels, formulas, features or windows changed with the update, start "
                "once with the card as it was: samples that were made otherwise are left out from then on",
                self._name, unmarked,
            )  # fmt: skip
        if left:
            logger.warning(
                "model %s: stored samples left out: %d. They were made of other channels, formulas, features or "
                "windows, or of another bearing", self._name, left,
            )  # fmt: skip
        return left

    def drop(self) -> None:
        """Have no model file again."""
        self._adopted = None

    def is_of_another_release(self) -> bool:
        """Whether the release that is stored belongs to another model file than this one."""
        found = self._chain.load("head", self._model.graph)
        return found is not None and found.header.graph != self._model.digest

    # releases

    def stored_release(self) -> Release | None:
        """The newest release that was trusted before a restart; the one that served, when that is damaged."""
        weights = self._model.weights
        return weights.stored_release("head") or weights.stored_release("serving")

    def restore(self, newest: Release | None) -> None:
        """Serve what served before a restart, or `newest` when nothing did."""
        self._model.weights.restore(newest)
        self._served_since = time.monotonic()
        self.serve()

    def longest_release(self) -> int:
        """The most bytes that a release of this model may have."""
        graph = self._model.graph
        return max_release_bytes(graph.params.size, len(graph.sizes))

    def verify(self, message: bytes, key: Ed25519PublicKey, held: Release | None, now: float) -> Release:
        """Return the release in a signed message. Raises as `verify_release`; `now`: Unix time, s."""
        anchor = Anchor(key, self._name, self._model.digest, self._model.graph.sizes)
        return verify_release(message, anchor, held, now)

    def try_release(self, release: Release) -> None:
        """Evaluate a release, store it, tune it, serve it. Raises ReleaseError when it is clearly worse here."""
        self._canary(release)
        self._model.weights.take(release)
        self._served_since = time.monotonic()
        self._tune()
        self.serve()

    # training

    def usable(self, held: bool, divided_now: bool = True) -> Data:
        """Standardised samples to train on, without wild ones; `held`: those to evaluate with. As `TrainingSet`'s."""
        scale = self._model.standardisation.scale
        assert scale is not None  # `can_train`
        return self._model.data.usable(scale, held, divided_now)

    def train(self, base: Release, data: Data, rng: np.random.Generator) -> Trained:
        """Train on a release with `usable` data, evaluated on what is held back. Nothing that serves is changed."""
        model, scale = self._model, self._model.standardisation.scale
        assert scale is not None  # `can_train`
        held, known = self.usable(held=True), model.data.labelled(scale)
        carried = model.weights.carried(base)
        found = train(model.graph, base, data, held, known, self._config.training, rng, self._pause, carried)
        found = replace(found, complete=complete(model.graph, data.y))
        if self.own_share is not None:  # said to the aggregator: how little a site needs its releases
            found.before["own_share"] = self.own_share
        if (served := model.weights.release) is not None and served.header.version != base.header.version:
            found.before["serves"] = float(served.header.version)  # the canary refused the base
        found.before.update(reported(self.intervals, model.graph.card.targets))
        return found

    def make_update(
        self, base: Release, trained: Trained, node: str, sequence: int, key: Ed25519PrivateKey, with_residual: bool
    ) -> tuple[bytes, bytes]:
        """The signed update of a training, and what is carried over to the next one; see `SiteWeights`."""
        return self._model.weights.make_update(base, trained, node, sequence, key, with_residual)

    def learn_alone(self, version: int, data: Data) -> bool:
        """Train the site's own model while that release is the newest (0: none); whether there is something new to
        serve.

        That is the own model, or tensors that a training on the release changed and that stay here, if the card names
        any.
        """
        model = self._model
        learnt = Learnt(model.data.newest_ns, model.data.last)
        changed = model.own.train(data, self.usable(held=True), version, self._pause, learnt)
        return changed or (version > 0 and model.weights.some_stay_here)

    def serve_learnt(self) -> None:
        """Serve with what `learn_alone` made."""
        if self._model.weights.some_stay_here:
            self._tune()
        self.serve()

    # what serves

    def progress(self, asset: str) -> Progress | None:
        """How far the asset's baseline is; None where its model needs none, or is not known yet."""
        return self._adopted.baselines.progress(asset) if self._adopted else None

    def reference(self, asset: str) -> Reference | None:
        """What was learnt of the asset's inputs, by now. Any thread."""
        return self._adopted.inputs.of.get(asset) if self._adopted else None

    def learn_inputs(self) -> None:
        """Learn what the inputs of the machines are, from the samples that came since."""
        model = self._model
        if self.serving is not None and model.inputs.is_due(self.total):
            model.inputs.learn(self.total, model.data.inputs())

    def look_at_data(self) -> None:
        """Judge whether the samples are fit to train on, when there are enough new ones, and every ten minutes; what is
        said to be missing follows new samples within seconds."""
        now, total = time.monotonic(), self.total
        enough = max(self._looked_on + LOOK_SAMPLES, LOOK_GROWTH * self._looked_on)
        soon = self.readiness.lack is not None and total < FEW and now >= self._looked_at + SOON_S
        if now < self._looked_at + LOOK_S and total < enough and not (soon and total > self._looked_on):
            return
        self._looked_at, self._looked_on = now, total
        self.readiness = self._model.data.ready(list(self._plans), self._config.training.min_samples)

    def is_ready(self) -> None:
        """Note that there is enough to train on, before the data is looked at again."""
        self.readiness = self.readiness._replace(lack=None, text="")

    def complete_baselines(self) -> None:
        """Make the limits of assets whose baseline has become complete."""
        if self.serving is None:
            return
        with self._making():
            if self._model.baselines.became_complete(self.serving.limits):
                self.serve()

    def is_due(self, asset: str) -> bool:
        """Whether what decides on the asset is being made, or will be from the windows that were put: it needs no more.

        A stored past that waits for that is decided on alike whenever and however fast it is read. Called in the
        main thread.
        """
        making, model, serving = self._is_making, self._adopted, self.serving  # in this order: what is made then serves
        if model is None:
            return False
        if making or model.standardisation.is_due(self._samples.all_collected(self._name)):
            return True
        if serving is None:
            return model.standardisation.scale is not None  # the release is being tried
        limit = serving.limits.get(asset)
        lacks_limit = limit is None or limit.provisional
        return lacks_limit and model.baselines.is_covered(asset) and not model.baselines.was_complete(asset)

    def rescale(self) -> None:
        """Fit the standardisation when that is due, and serve with it.

        It needs no labels and no splitting, so a gateway that only decides, or whose first samples are held back, has
        one too. Windows known to be anomalous are left out.
        """
        data = self._model.data
        if data.readable_again:
            data.unread = False
            self.serve()
        if self._model.standardisation.is_due(self.total):
            with self._making():
                if self._model.standardisation.refit(self.total, data.to_scale):
                    self._tune()
                    self.serve()

    @contextmanager
    def _making(self) -> Iterator[None]:
        """While this lasts, what may be made of the samples is not there yet (`is_due`)."""
        self._is_making = True
        try:
            yield
        finally:
            self._is_making = False

    def serve(self) -> None:
        """Make a new session with standardisation and limits, then swap it in."""
        model = self._adopted
        if model is None:
            return
        model.standardisation.restore()
        scale = model.standardisation.scale
        if scale is None:
            return
        graph, weights, release = model.graph, model.weights.current().copy(), model.weights.release
        held, others = self.usable(held=True), self.usable(held=False, divided_now=False)
        own, recipe = model.own.weights, model.standardisation.recipe
        units = self.judged_by.held if self._guarded else None
        blend = model.choice.blend(weights, own, scale, recipe, others, held, units)
        made_of = made_for(blend.identity, scale, recipe)
        limit, limits = model.baselines.limits(blend, held, others, made_of, model.data.accepted)
        calibrated = model.calibration.of(blend, held, others, self.judged_by, made_of)
        elsewhere = of_other_sites(graph.card, release.header.figures) if release else {}
        bounds = intervals(blend, held, self.judged_by, self._config.confidence, elsewhere)
        version = release.header.version if release else 0
        sure, session = bounds or Intervals(), self._session(blend)
        how = None if calibrated is None else calibrated.calibration
        made = Serving(session, graph.card, version, scale, limit, graph.gives_probabilities, limits, sure, how)
        made.scale_of_scores = made_of.hex()[:16]
        made.past, made.below = self._past(made), self._below_faults(blend, scale)
        self._by_one_before, made.session.by_one = self.decided_by_one, 0
        self.own_share, self.left_to_release = None if blend.own is None else blend.share, blend.left_to_release
        self.intervals, self.calibrated, self.blend = bounds, calibrated, blend
        self.serving = made

    def _session(self, blend: Blend) -> Session | MixedSession:
        """The session of what decides: of the release, of the own model, or of both."""
        file, graph = self._model.file, blend.graph
        if blend.alone is not None:
            return Session(file, graph.initializers(blend.alone))
        assert blend.own is not None
        own, release = (Session(file, graph.initializers(w)) for w in (blend.own, blend.release))
        return MixedSession(own, release, blend.mixing(graph.gives_probabilities))

    def _tune(self) -> None:
        if self.can_train:
            self._model.weights.tune(self.usable, self._pause)

    def _past(self, serving: Serving) -> dict[str, list[tuple[int, dict[str, float]]]]:
        """Estimates of a model that follows trends for the stored samples, by asset: (time in ns, values)."""
        found: dict[str, list[tuple[int, dict[str, float]]]] = {}
        if serving.card.task == "regress" and serving.card.targets:
            with suppress(StorageError):  # a trend then begins again
                for asset, time_ns, x in self._model.data.history(float(self._config.trend)):
                    found.setdefault(asset, []).append((time_ns, serving.decide(x).values))
        return found

    def _below_faults(self, blend: Blend, scale: Scale) -> dict[str, float]:
        """What no move lifts the limits of an anomaly model above, by stored windows that are labelled as faults."""
        if blend.card.task != "anomaly":
            return {}
        with suppress(StorageError):  # then only the events themselves say it
            shape, kind = blend.input_shape, np.float32 if blend.card.image is None else np.uint8
            most = label_worth.most_windows(shape, MOST_FAULTS)
            x, assets, when = self._samples.of_value(self._name, shape, 1, most, kind)
            if (sound := finite_rows(x)).any():  # a score that is no number would be no bound
                inputs = scale(x[sound])
                scores = label_worth.says(blend.card, blend.predict(inputs), inputs)
                return below_faults([a for a, s in zip(assets, sound, strict=True) if s], when[sound], scores)
        return {}

    def _canary(self, release: Release) -> None:
        """Raise ReleaseError for a release that is clearly worse here than the one that serves."""
        served = self._model.weights.release
        if served is None or not self.can_train:
            return
        held = self.usable(held=True)
        if len(held.x) < CANARY_MIN:
            return
        old, new = (self._outcome(self._model.weights.at_this_site(r), held) for r in (served, release))
        if why := refusal(old, new, self._config.canary_tolerance, self._model.graph.card.labels):
            raise ReleaseError(
                f"release {release.header.version}: {why} of release {served.header.version}, which remains in service"
            )

    def _outcome(self, weights: Floats, held: Data) -> Outcome:
        self._model.graph.set_params(weights)
        return outcome(self._model.graph, held.x, held.y)
