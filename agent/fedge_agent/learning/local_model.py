"""A federation's model as this gateway has it: the graph, its samples as the graph sees them, and what serves.

One thread owns it (`participant.py`); the main thread only reads `serving`, which is replaced whole. A release is tried
on held-back data against the one that serves, tuned to the machines here, and swapped in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from fedge_models.errors import ReleaseError
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release
from fedge_models.training import personal
from fedge_models.training.evaluation import row_losses

from ..config.schema import ModelConfig
from ..durable.releases import ChainStore
from ..durable.spool import Spool
from ..samples.store import Kind, SampleStore
from ..types import Array
from ..windows import standardise
from ..windows.standardise import Scale
from .carry_over import decode
from .serving import Serving, Session
from .training import Data, margins, threshold, usable
from .tuning import tune

CANARY_MIN = 20  # held-back samples, else a release is not judged
SMALL_LOSS = 0.05  # nats of cross entropy, or squared standard deviations: a model this good has nothing to improve
PAST = 1000  # samples that a trend is told from, when another model serves
SCALE_GROWTH = 1.05


def clearly_worse(old: Array, new: Array, tolerance: float) -> bool:
    """Whether the losses (n,) of the same rows rose by more than the tolerated fraction, and by more than chance.

    Chance: twice the standard error of the paired differences. A loss near zero doubles by nothing at all, so the
    fraction is never taken of less than `SMALL_LOSS`. Losses that are not finite are worse.
    """
    difference = new - old
    rise = float(difference.mean())
    if not np.isfinite(rise):
        return True
    return (
        rise > tolerance * max(float(old.mean()), SMALL_LOSS)
        and rise > 2 * float(difference.std()) / len(difference) ** 0.5
    )


class LocalModel:
    """The model of one federation here; without a graph until `adopt`."""

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
    ) -> None:
        self.serving: Serving | None = None
        self.graph: TrainableGraph | None = None
        self.digest = b""  # SHA-256 of the model file
        self.mask: personal.Mask = np.zeros(0, np.bool_)  # of the tensors that stay here
        self.scaled = False
        self._name, self._config, self._labelled = name, config, labelled
        self._chain, self._samples, self._spool = chain, samples, spool
        self._fits, self._pause = fits, pause
        self._file = b""
        self._served: Release | None = None
        self._tuned: Floats | None = None  # what that has become here
        self._scale: Scale | None = None
        self._scaled_on = 0
        self._rng = np.random.default_rng()

    @property
    def tuned(self) -> bool:
        """Whether what serves was tuned to the machines here."""
        return self._tuned is not None

    @property
    def total(self) -> int:
        """Samples ever collected."""
        return self._samples.total.get(self._name, 0)

    def adopt(self, data: bytes) -> None:
        """Take the model file. Raises ModelError when it does not fit what is configured."""
        graph = TrainableGraph.load(data, where=f"model {self._name}", schemas=False)
        self._fits(graph.card, graph.input_shape)
        self.mask = personal.local_mask(graph)
        self.graph, self._file, self.digest = graph, data, hashlib.sha256(data).digest()

    def restore(self, head: Release | None) -> None:
        """Serve what served before a restart; `head` where nothing did."""
        assert self.graph is not None
        self._served = self._chain.load("serving", self.graph) or head
        if self._served is not None:
            self._tuned = self._chain.load_tuned(self._served.hash, len(self.graph.params))
        self.serve()

    def release(self, head: Release) -> None:
        """Try a release, keep it, tune it, serve it. Raises ReleaseError when it is clearly worse than what serves."""
        self._canary(head)
        self._chain.save("serving", head)
        self._served = head
        self.tune()
        self.serve()

    def usable(self, held: bool) -> Data:
        """What may be trained on (`held`: judged by)."""
        assert self.graph is not None
        return usable(self.graph.card.task, *self.samples(held), self._labelled)

    def samples(self, held: bool) -> Data:
        """All samples of one part, standardised."""
        assert self.graph is not None and self._scale is not None
        x, y = self._load(held)
        return Data(self._scale(x), y)

    def rescale(self) -> None:
        """Fit the standardisation once there are samples, and again whenever they have grown by a twentieth.

        It needs no labels and no splitting: a gateway that only decides, or whose first samples are held back, has one
        too. Windows known to be anomalous are left out.
        """
        assert self.graph is not None
        total, least = self.total, self._config.training.min_samples
        if total < max(least, SCALE_GROWTH * self._scaled_on):
            return
        x, y = self._load(None)
        if self.graph.card.task == "anomaly":
            x = usable("anomaly", x, y, self._labelled).x
        if len(x) < least:
            return
        self._scaled(self._samples.fit_scale(self._name, x, self.graph.card), total)
        self.tune()
        self.serve()

    def tune(self) -> None:
        """Make what serves fit the machines here, if it can be seen to help."""
        config, self._tuned = self._config.training, None
        if not config.fine_tune or self._served is None or self._scale is None or self.graph is None:
            return
        data = self.usable(held=False)
        if len(data.x) < config.min_samples:
            return
        how, start = msgspec.structs.replace(config, epochs=config.fine_tune), self._composed(self._served.weights)
        self._tuned = tune(self.graph, start, data, self.usable(held=True), how, self._rng, self._pause)
        if self._tuned is not None:
            self._chain.save_tuned(self._served.hash, self._tuned)

    def serve(self) -> None:
        """Make what decides, anew: session, standardisation, threshold; then swap."""
        graph = self.graph
        if graph is None:
            return
        if self._scale is None and (kept := self._samples.scale(self._name, graph.input_shape)):
            self._scaled(*kept)
        if self._scale is None and (given := standardise.given(graph.card)):
            self._scaled(given, 0)
        if self._scale is None:
            return
        weights = graph.params if self._served is None else self._composed(self._served.weights)
        weights = weights if self._tuned is None else self._tuned
        graph.set_params(weights)
        limit = threshold(graph, self.usable(held=True), self.usable(held=False))
        bounds = margins(graph, self.usable(held=True), self._config.confidence)
        session = Session(self._file, graph.initializers(np.array(weights)))
        release = self._served.header.version if self._served else 0
        made = Serving(
            session, graph.card, release, self._scale, limit.score, graph.gives_probabilities, limit.usual, bounds
        )
        made.past = self._past(made)
        self.serving = made

    def _past(self, serving: Serving) -> dict[str, list[tuple[int, dict[str, float]]]]:
        """What a model that follows trends says of the samples that are kept, by asset."""
        found: dict[str, list[tuple[int, dict[str, float]]]] = {}
        if serving.card.task == "regress" and serving.card.targets:
            shape = serving.session.input.shape
            since = self._samples.newest(self._name) - round(self._config.trend * 1e9)
            for asset, time_ns, x in self._samples.history(self._name, shape, since, PAST, self._kind()):
                found.setdefault(asset, []).append((time_ns, serving.decide(x).values))
        return found

    def _load(self, held: bool | None) -> tuple[Any, Any]:
        """Samples of one part or (None) all, before standardisation."""
        assert self.graph is not None
        return self._samples.load(self._name, self.graph.input_shape, held, self._targets(), self._kind())

    def _kind(self) -> Kind:
        assert self.graph is not None
        return np.float32 if self.graph.card.image is None else np.uint8

    def _canary(self, head: Release) -> None:
        if self._served is None or self._scale is None:
            return
        held = self.usable(held=True)
        if len(held.x) < CANARY_MIN:
            return
        old, new = (self._losses(weights, held) for weights in (self._served.weights, head.weights))
        if clearly_worse(old, new, self._config.canary_tolerance):
            raise ReleaseError(
                f"release {head.header.version}: held-back loss {new.mean():.4g} against {old.mean():.4g} of release "
                f"{self._served.header.version}, which goes on serving"
            )

    def _losses(self, weights: Any, held: Data) -> Array:
        assert self.graph is not None
        self.graph.set_params(self._composed(weights))
        return row_losses(self.graph, held.x, None if self.graph.card.task == "anomaly" else held.y)

    def _composed(self, weights: Floats) -> Floats:
        """A release's weights with the tensors that this site keeps for itself."""
        if not self.mask.any() or self.graph is None:
            return weights
        kept = self._spool.residual(self._name, self.digest)
        return personal.compose(weights, decode(kept, self.graph, self.mask).own, self.mask)

    def _targets(self) -> int:
        """How many values a sample is taught with; 0: a class."""
        assert self.graph is not None
        return max(1, len(self.graph.card.targets)) if self.graph.card.task == "regress" else 0

    def _scaled(self, scale: Scale, on: int) -> None:
        self._scale, self._scaled_on, self.scaled = scale, on, True
