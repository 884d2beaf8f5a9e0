# SPDX-License-Identifier: Apache-2.0
"""The weights that serve at this site, and what a training of them sends.

They are those of a release, with the tensors that stay here (`personal`), tuned to the machines where that helps. What
a training leaves for the next one (`carry_over`) is in the spool, with the update it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from fedge_models.errors import StorageError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release
from fedge_models.training import personal

from ..config.schema import ModelConfig
from ..durable.releases import ChainStore
from ..durable.spool import Spool
from .carry_over import CarryOver, decode
from .training import Data, Trained
from .tuning import tune
from .update import protected, update_body

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class SiteWeights:
    """The weights of one model file; digest: the SHA-256 of that file; start: its weights (P,), which serve until there
    is a release."""

    def __init__(
        self,
        name: str,
        graph: TrainableGraph,
        digest: bytes,
        config: ModelConfig,
        chain: ChainStore,
        spool: Spool,
        start: Floats,
        rng: np.random.Generator,
    ) -> None:
        self.release: Release | None = None  # that serves
        self._name, self._graph, self._digest = name, graph, digest
        self._config, self._chain, self._spool = config, chain, spool
        self._mask = personal.local_mask(graph)  # of the parameters that stay here
        self._file: Floats | None = start  # none once a release serves: it is as large as the model
        self._tuned: Floats | None = None
        self._complete: bool | None = None  # whether the last training's data held every class, as far as known
        self._rng = rng

    @property
    def tuned(self) -> bool:
        """Whether the weights that serve were tuned to the machines here."""
        return self._tuned is not None

    @property
    def some_stay_here(self) -> bool:
        """Whether the card names tensors that stay at this site."""
        return bool(self._mask.any())

    @property
    def start_value(self) -> Literal["offered", "private", "not allowed", "untrained", "incomplete"] | None:
        """Whether updates offer the tensors that stay here as a start for new sites; None: the card asks for none.

        They do only if this gateway allows it: who writes the card does not decide what leaves a site. With privacy
        they do not: an offer would need noise on how far this site is from the release. Nor do they after
        a training without some class: the site's own tensors have unlearnt it.
        """
        if self._graph.card.local_start != "shared":
            return None
        if self._config.privacy is not None:
            return "private"
        if not self._config.offer_start:
            return "not allowed"
        if self._complete is None:
            return "untrained"  # since the start
        return "offered" if self._complete else "incomplete"

    def current(self) -> Floats:
        """The weights (P,) that are to serve."""
        if self._tuned is not None:
            return self._tuned
        if self.release is not None:
            return self.at_this_site(self.release)
        return self._graph.params if self._file is None else self._file

    def at_this_site(self, release: Release) -> Floats:
        """A release's weights (P,) with the tensors that stay at this site."""
        if not self.some_stay_here:
            return release.weights
        stored = self._spool.residual(self._name, self._digest)
        return personal.compose(release.weights, decode(stored, self._graph, self._mask).own, self._mask)

    def stored_release(self, name: str) -> Release | None:
        """The stored release "head" or "serving", if it is one of this very model file."""
        found = self._chain.load(name, self._graph)
        return found if found is not None and found.header.graph == self._digest else None

    def restore(self, newest: Release | None) -> None:
        """Take what served before a restart, or `newest` when nothing did."""
        self.release = self.stored_release("serving") or newest
        if self.release is not None:
            self._file = None
            self._tuned = self._chain.load_tuned(self.release.hash, len(self._graph.params))

    def take(self, release: Release) -> None:
        """Store a release as the one that serves, and take its weights. Raises StorageError."""
        self._chain.save("serving", release)
        self.release, self._tuned, self._file = release, None, None

    def tune(self, usable: Callable[[bool], Data], pause: Callable[[], None]) -> None:
        """Tune the release to the machines here, where held-back data shows that it helps.

        usable: returns the samples that are held back (True) or the others; pause: called between batches.
        """
        how, self._tuned = self._config.training, None
        if not how.fine_tune or self.release is None:
            return
        data = usable(False)
        if len(data.x) < how.min_samples:
            return
        how, start = msgspec.structs.replace(how, epochs=how.fine_tune), self.at_this_site(self.release)
        self._tuned = tune(self._graph, start, data, usable(True), how, self._rng, pause)
        if self._tuned is not None:
            with suppress(StorageError):  # then a restart serves the release, until it is tuned again
                self._chain.save_tuned(self.release.hash, self._tuned)

    def carried(self, base: Release) -> CarryOver:
        """What the last training left for one on `base`."""
        stored = self._spool.residual(self._name, base.header.graph)
        return decode(stored, self._graph, self._mask).before_training_on(base)

    def make_update(
        self, base: Release, trained: Trained, node: str, sequence: int, key: Ed25519PrivateKey, with_residual: bool
    ) -> tuple[bytes, bytes]:
        """Return the signed update of a training, and what is carried over to the next one, encoded.

        with_residual: add the error feedback of the last update. With privacy, the residual of an update that was
        made without noise must not be added, and nothing of the tensors that stay here is offered.
        """
        privacy, sent, residual = self._config.privacy, trained, self.carried(base).residual
        if privacy is not None:
            sent = protected(trained, privacy, self._mask, self._config.training.min_samples)
        if not with_residual:
            residual = np.zeros_like(residual)
        self._complete = trained.complete
        offered = self._mask if self.start_value == "offered" else None
        body, left = update_body(
            base, sent, residual, self._graph.sizes, node, sequence, key, privacy is not None, offered
        )
        version = base.header.version
        carried = CarryOver(left.astype(np.float32), trained.own, trained.movement, base.weights, version)
        return body, carried.encode()
