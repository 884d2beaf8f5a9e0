# SPDX-License-Identifier: Apache-2.0
"""Statistics of sites: admitted, stored, and published over sites once enough of them contributed.

Promises that a gateway sees of others only what `over_sites` makes of at least `statistics_sites` sites in one step,
and that a column (a channel, or the score) is published again only when it differs by what at least `CHANGED` sites
are in it: sites that came, that left, or whose histogram is another. The same histogram sent again is no change. A
column with fewer changes keeps what was published of it. A site counts once, whatever it claims. Sites in quarantine,
revoked ones, and statistics older than `OLD_S` do not count: they have left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedge_models.errors import RefusedError, RetryError, StaleError, WireError
from fedge_models.graph.card import read_card
from fedge_models.graph.onnx_file import parse
from fedge_models.messages.statistics import (
    SitesStatistics,
    SiteStatistics,
    decode_site,
    decode_sites,
    encode_sites,
    max_statistics_bytes,
)
from fedge_models.statistics.columns import Column, columns
from fedge_models.statistics.histogram import Histogram
from fedge_models.statistics.over_sites import Summary, summarise

from ..authority import Authority
from ..config.schema import FederationConfig
from ..store.statistics import Published, StatisticsRow
from ..store.store import Model, Node, Store
from . import statistics_basis

logger = logging.getLogger(__name__)

OLD_S = 30 * 86400.0
LEAST_S = 60.0  # between two statistics of one node


class SharedStatistics:
    """The statistics of one federation in the running server. Thread-safe."""

    def __init__(self, model: Model, config: FederationConfig, store: Store, authority: Authority) -> None:
        self._model, self._config = model, config
        self._store, self._authority = store, authority
        self._columns: tuple[Column, ...] = ()
        self._lock = threading.Lock()
        self._published = store.statistics.published(model.federation)
        self._nodes = {row.node for row in store.statistics.rows(model.federation)}
        self._times: dict[str, float] = {}  # node -> when its last ones came, Unix time, s

    @property
    def max_body(self) -> int:
        """Largest size of a site's statistics, bytes."""
        return max_statistics_bytes(len(self._names()) - 1)

    def admit(self, node: Node, body: bytes, now: float) -> bool:
        """Verify a site's statistics, store them durably, and publish if that is due. False: they were stored before.

        Raises SignatureError, WireError, StaleError (of another model file), ReplayError, RefusedError when none are
        wanted here, or RetryError when they come too often.
        """
        if why := why_none(self._config):
            raise RefusedError(f"federation {self._model.federation} takes no statistics: {why}")
        found = decode_site(body, Ed25519PublicKey.from_public_bytes(node.key), len(self._names()) - 1)
        self._check(found, node.name)
        with self._lock:
            if 0 <= now - self._times.get(node.name, -LEAST_S) < LEAST_S:
                raise RetryError(f"statistics of {node.name} came less than {LEAST_S:.0f} s ago: send them later")
            new = self._store.statistics.put(self._model.federation, node.name, found.sequence, body, now)
            self._times[node.name] = now
            self._nodes.add(node.name)
            if new:
                self._publish(now)
        return new

    @property
    def number(self) -> int:
        """Number of what is published; 0: nothing yet."""
        return self._published.number

    def number_for(self, node: str) -> int:
        """Number of what this node may fetch; 0: nothing. Who contributes nothing gets nothing."""
        return self._published.number if node in self._nodes and not why_none(self._config) else 0

    def body_for(self, node: str, have: int) -> bytes | None:
        """The signed statistics over sites; None if the node holds them, or may fetch none."""
        number = self.number_for(node)
        return self._published.body if number and number != have else None

    def status(self, now: float) -> dict[str, object]:
        """For the status page."""
        counted = counting(self._store, self._model.federation, now)
        return {
            "sites": len(counted),
            "needs": self._config.statistics_sites,
            "published": self._published.number,
            "created": self._published.created or None,
            "off": why_none(self._config),
        }

    def sites(self, now: float) -> int:
        """How many sites count."""
        return len(counting(self._store, self._model.federation, now))

    def _names(self) -> tuple[Column, ...]:
        if not self._columns:
            self._columns = model_columns(self._store, self._model.federation)
        return self._columns

    def _check(self, found: SiteStatistics, node: str) -> None:
        """Raise WireError for statistics in another name, StaleError for those of another model file."""
        if (found.node, found.federation) != (node, self._model.federation):
            raise WireError(
                f"statistics are signed as {found.node} for {found.federation}, but came from {node} for "
                f"{self._model.federation}"
            )
        if found.graph != self._model.graph:
            raise StaleError(f"statistics of {node} are of another model file: fetch the federation's")

    def _publish(self, now: float) -> None:
        """Publish the columns that enough sites have, and enough of them changed; the others as they were."""
        name, names = self._model.federation, self._names()
        found = decoded(counting(self._store, name, now), len(names) - 1)
        after = {node: statistics_basis.digests(of.channels) for node, of in found.items()}
        before = self._basis(after)
        anew = over_sites(found, len(names), self._config.statistics_sites)
        due = [statistics_basis.due(before, after, column) for column in range(len(names))]
        made = [is_due and summary is not None for is_due, summary in zip(due, anew, strict=True)]
        if any(made):
            kept = self._last_channels(len(names))
            channels = tuple(new if is_due else old for is_due, new, old in zip(due, anew, kept, strict=True))
            self._store_published(channels, len(found), statistics_basis.followed(before, after, made), now)

    def _basis(self, after: statistics_basis.Basis) -> statistics_basis.Basis:
        """What the published columns are made of; where it is not stored, what there is now: changes count from here.

        Databases from before there were bases have published statistics without one.
        """
        stored = self._store.statistics.basis(self._model.federation)
        if stored or not self._published.number:
            return {node: statistics_basis.unpacked(row) for node, row in stored.items()}
        known = [channel is not None for channel in self._last_channels(len(self._names()))]
        basis = statistics_basis.followed({}, after, known)
        self._store.statistics.put_basis(self._model.federation, _packed(basis))
        return basis

    def _last_channels(self, width: int) -> tuple[Summary | None, ...]:
        """What is published of each column; nothing where the disk has damaged it, which is logged."""
        if not self._published.number:
            return (None,) * width
        try:
            return decode_sites(self._published.body, self._authority.release_key.public_key(), width - 1).channels
        except RefusedError as e:
            logger.error("published statistics of %s cannot be read: %s", self._model.federation, e)
            return (None,) * width

    def _store_published(
        self, channels: tuple[Summary | None, ...], sites: int, basis: Mapping[str, list[bytes]], now: float
    ) -> None:
        """Sign and store what gateways may fetch from now on, and what it is made of."""
        number = self._published.number + 1
        message = SitesStatistics(
            federation=self._model.federation,
            graph=self._model.graph,
            number=number,
            created=int(now),
            sites=sites,
            channels=channels,
        )
        made = Published(number, now, encode_sites(message, self._authority.release_key))
        self._store.statistics.publish(self._model.federation, made, sites, _packed(basis))
        self._published = made
        logger.info("federation %s: statistics %d over %d sites", self._model.federation, number, sites)


def why_none(config: FederationConfig) -> str | None:
    """Why a federation takes no statistics; None when it does."""
    if config.privacy is not None:
        return "it has a privacy budget, which statistics are not part of"
    return None if config.statistics_sites else "statistics_sites is 0"


def model_columns(store: Store, federation: str) -> tuple[Column, ...]:
    """What statistics of the federation's model are of. Raises ModelError."""
    where = f"model of {federation}"
    return columns(read_card(parse(store.model_file(federation), where, schemas=False), where))


def counting(store: Store, federation: str, now: float) -> list[StatisticsRow]:
    """The newest statistics of the sites that count."""
    reputations = store.round_states.reputations(federation)
    return [
        row
        for row in store.statistics.rows(federation)
        if now - row.received < OLD_S and not (row.node in reputations and reputations[row.node].quarantined)
    ]


def decoded(rows: list[StatisticsRow], channels: int) -> dict[str, SiteStatistics]:
    """What sites sent; without rows that the disk has damaged, which are logged."""
    found = {}
    for row in rows:
        try:
            found[row.node] = decode_site(row.body, Ed25519PublicKey.from_public_bytes(row.key), channels)
        except RefusedError as e:
            logger.error("stored statistics of %s cannot be read, and are left out: %s", row.node, e)
    return found


def over_sites(found: Mapping[str, SiteStatistics], width: int, least: int) -> tuple[Summary | None, ...]:
    """Each column over the sites that have it, where at least `least` have."""
    of_column: list[list[Histogram]] = [[h for s in found.values() if (h := s.channels[i])] for i in range(width)]
    return tuple(summarise(column) if len(column) >= least else None for column in of_column)


def _packed(basis: statistics_basis.Basis) -> dict[str, bytes]:
    return {node: statistics_basis.packed(row) for node, row in basis.items()}
