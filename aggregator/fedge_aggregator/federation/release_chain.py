"""The releases of one federation as they live in a process: the newest one, and how the next comes to be.

The next release comes of a round, of a renewal (the same weights, before the old one ends) or of a rollback (the
weights of an older one). Versions always rise. The command line may publish beside the server: `refresh` notices.
Thread-safe as long as one thread at a time publishes.
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
from ..store.releases import Bodies, Kept, Kind, ReleaseRow
from ..store.store import Model, Store
from . import publish
from .publish import Published, Signer


class Chain:
    """One federation's releases."""

    def __init__(self, model: Model, config: FederationConfig, store: Store, authority: Authority) -> None:
        self._model, self._store = model, store
        self._name = model.federation
        self._signer = Signer(self._name, model.graph, authority.release_key, int(config.lifetime))
        stale = config.max_staleness if config.mode == "asynchronous" else 0
        self._kept = Kept(config.history, stale + 1)  # an admitted update may wait for one release more
        self._current, self._adopting = self._load(store.releases.version(self._name)), threading.Lock()

    @property
    def current(self) -> Published:
        """The newest release that this process knows of."""
        return self._current

    def refresh(self) -> None:
        """Take over a release that another process has published."""
        with self._store.reading():
            newest = self._store.releases.version(self._name)
            if newest > self._current.header.version:
                self.adopt(self._load(newest))

    def adopt(self, made: Published) -> None:
        """From here on it is handed out, unless a newer one is already."""
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
        """Publish what a round has led to: aggregate (P,) in steps of the newest grid, spreads (T,) of its updates.

        To be adopted after the commit of the transaction that this is part of.
        """
        made = publish.next_release(
            self._signer, self._current, aggregate, spreads, self._model.sizes, rule, figures, int(now)
        )
        self._keep(made, "round", details, used, now)
        return made

    def renew(self, now: float) -> None:
        """Publish the same weights anew, so that a gateway that joins may still adopt them; the open round goes on."""
        before = self._current
        again = publish.reissue(
            self._signer, before, before.weights, before.header.steps, before.residual, "renewal", int(now)
        )
        self._keep(again, "renewal", {}, (), now)
        self.adopt(again)

    def rollback(self, version: int, operator: str, now: float) -> ReleaseRow:
        """Publish the weights and grid of an older release as the newest.

        Updates against what lies between are refused from here on. Raises ConfigError when there is no such release,
        or its weights are not kept any more.
        """
        self.refresh()
        found = self._store.releases.kept(self._name, version)
        if found is None or version >= self._current.header.version:
            newest = self._current.header.version
            raise ConfigError(f"federation {self._name}: expected an older release than {newest}, got {version}")
        if found[1] is None:
            have = self._store.releases.with_weights(self._name)
            raise ConfigError(
                f"federation {self._name}: the weights of release {version} are not kept any more (key history); "
                f"the oldest that are: {min(have)}"
            )
        old = decode_release(found[1].full, self._signer.key.public_key(), self._model.sizes)
        why, nothing = f"rollback to release {version} by {operator}", np.zeros_like(old.weights)
        made = publish.reissue(self._signer, self._current, old.weights, old.header.steps, nothing, why[:200], int(now))
        row = self._keep(made, "rollback", {"of": version, "operator": operator}, (), now)
        self.adopt(made)
        return row

    def _keep(
        self, made: Published, kind: Kind, details: dict[str, Any], used: Collection[str], now: float
    ) -> ReleaseRow:
        header = made.header
        row = ReleaseRow(header.version, kind, made.hash, now, header.rule, header.figures, details)
        self._store.releases.publish(self._name, row, bodies(made), self._kept, used)
        return row

    def _load(self, version: int) -> Published:
        found = self._store.releases.kept(self._name, version)
        assert found is not None and found[1] is not None  # the newest is always kept
        row, kept = found[0], found[1]
        release = decode_release(kept.full, self._signer.key.public_key(), self._model.sizes)
        assert release.hash == row.hash
        owed = np.frombuffer(kept.residual, "<f4").astype(np.float32)
        return Published(release.header, release.hash, release.weights, kept.full, kept.difference, owed)


def bodies(made: Published) -> Bodies:
    """A release as it is stored."""
    steps, residual = (a.astype("<f4").tobytes() for a in (made.header.steps, made.residual))
    return Bodies(steps, made.full, made.difference, residual)
