# SPDX-License-Identifier: Apache-2.0
"""The releases of one federation in a running process: the newest one, and how the next is made.

The next release follows from a round, from a renewal (the same weights, before the old release expires) or from a
rollback (the weights of an older one). Versions always rise. The command line may publish while the server runs:
`refresh` notices. Thread-safe as long as one thread at a time publishes.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from fedge_models.errors import ConfigError
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import decode_release

from ..authority import Authority
from ..config.schema import FederationConfig
from ..store.releases import Bodies, Kind, ReleaseRow, Retention
from ..store.store import Model, Store
from . import publish
from .publish import Published, Signer


class ReleaseChain:
    """The releases of one federation."""

    def __init__(self, model: Model, config: FederationConfig, store: Store, authority: Authority) -> None:
        self._model, self._store = model, store
        self._name = model.federation
        self._signer = Signer(self._name, model.graph, authority.release_key, int(config.lifetime))
        stale = config.max_staleness if config.mode == "asynchronous" else 0
        self._retention = Retention(config.history, stale + 1)  # one more: an admitted update may wait for a release
        self._current, self._adopting = self._load(store.releases.version(self._name)), threading.Lock()

    @property
    def current(self) -> Published:
        """The newest release that this process knows of."""
        return self._current

    def weights(self, version: int) -> Floats | None:
        """The weights (P,) of a release; None when they are no longer stored."""
        current = self._current
        if version == current.header.version:
            return current.weights
        found = self._store.releases.find(self._name, version)
        if found is None or found[1] is None:
            return None
        return decode_release(found[1].full, self._signer.key.public_key(), self._model.sizes).weights

    def refresh(self) -> None:
        """Load the newest release if another process has published it."""
        with self._store.reading():
            newest = self._store.releases.version(self._name)
            if newest > self._current.header.version:
                self.adopt(self._load(newest))

    def adopt(self, made: Published) -> None:
        """Hand this release out from now on, unless a newer one already is."""
        with self._adopting:
            if made.header.version > self._current.header.version:
                self._current = made

    def next(
        self,
        aggregate: Floats,
        spreads: Sequence[Floats],
        rule: str,
        figures: dict[str, float],
        details: dict[str, Any],
        used: Collection[str],
        now: float,
    ) -> Published:
        """Publish the result of a round: aggregate (P,) in steps of the newest grid, spreads (T,) of its updates.

        The caller adopts the release after the commit of the transaction that this is a part of.
        """
        made = publish.next_release(
            self._signer, self._current, aggregate, spreads, self._model.sizes, rule, figures, int(now)
        )
        self._store_release(made, "round", details, used, now)
        return made

    def renew(self, now: float) -> None:
        """Publish the same weights with a later expiry, for gateways that join later; the round stays open."""
        before = self._current
        again = publish.reissue(
            self._signer, before, before.weights, before.header.steps, before.residual, "renewal", int(now)
        )
        self._store_release(again, "renewal", {}, (), now)
        self.adopt(again)

    def rollback(self, version: int, operator: str, now: float) -> ReleaseRow:
        """Publish the weights and grid of an older release as the newest.

        Updates against the releases in between are refused from now on. Raises ConfigError if the release does not
        exist or its weights are no longer stored.
        """
        self.refresh()
        found = self._store.releases.find(self._name, version)
        if found is None or version >= self._current.header.version:
            newest = self._current.header.version
            raise ConfigError(f"federation {self._name}: expected an older release than {newest}, got {version}")
        if found[1] is None:
            oldest = min(self._store.releases.with_weights(self._name))
            raise ConfigError(
                f"federation {self._name}: the weights of release {version} are no longer stored (key history); the "
                f"oldest release to roll back to is {oldest}"
            )
        old = decode_release(found[1].full, self._signer.key.public_key(), self._model.sizes)
        why, residual = f"rollback to release {version} by {operator}", np.zeros_like(old.weights)
        made = publish.reissue(
            self._signer, self._current, old.weights, old.header.steps, residual, why[:200], int(now)
        )
        row = self._store_release(made, "rollback", {"of": version, "operator": operator}, (), now)
        self.adopt(made)
        return row

    def _store_release(
        self, made: Published, kind: Kind, details: dict[str, Any], used: Collection[str], now: float
    ) -> ReleaseRow:
        """Store a release as the newest."""
        header = made.header
        row = ReleaseRow(header.version, kind, made.hash, now, header.rule, header.figures, details)
        self._store.releases.publish(self._name, row, bodies(made), self._retention, used)
        return row

    def _load(self, version: int) -> Published:
        """Read a release from the database."""
        found = self._store.releases.find(self._name, version)
        assert found is not None and found[1] is not None  # the newest always has its weights
        row, stored = found[0], found[1]
        release = decode_release(stored.full, self._signer.key.public_key(), self._model.sizes)
        assert release.hash == row.hash
        residual = np.frombuffer(stored.residual, "<f4").astype(np.float32)
        return Published(release.header, release.hash, release.weights, stored.full, stored.difference, residual)


def bodies(made: Published) -> Bodies:
    """The parts of a release that are stored."""
    steps, residual = (a.astype("<f4").tobytes() for a in (made.header.steps, made.residual))
    return Bodies(steps, made.full, made.difference, residual)
