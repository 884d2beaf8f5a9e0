# SPDX-License-Identifier: Apache-2.0
"""This gateway's part in the statistics of a federation: send its own, fetch those over sites, compare.

Nothing is sent unless the owner says so (`statistics = true`), nor from a model with a privacy budget, of which
statistics would not be part. What cannot be sent is said, and tried again later; it never holds up updates or releases.
Statistics are sent as soon as there are enough windows, again each time there are twice as many, and then once a day.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from fedge_models.errors import FedgeError, ReplayError, RetryError, StaleError, StorageError, WireError
from fedge_models.messages.statistics import (
    MOST_WINDOWS,
    SitesStatistics,
    SiteStatistics,
    decode_sites,
    encode_site,
    max_statistics_bytes,
)
from fedge_models.statistics import words
from fedge_models.statistics.columns import Column, columns
from fedge_models.statistics.comparison import Difference

from ..config.schema import ModelConfig
from ..durable.releases import ChainStore
from ..durable.spool import Spool
from ..learning.local_model import LocalModel
from ..samples import reservoir_file
from ..samples.reservoir import Held, Reservoir
from . import own_statistics
from .identity import Identity
from .own_statistics import LEAST_SENT
from .uplink import Uplink

logger = logging.getLogger(__name__)

AGAIN_S, SOONEST_S = 86400.0, 120.0  # between two of this site
RETRY_S, REFUSED_S = 300.0, 3600.0  # after a failure, and after a refusal
KEEP_S = 3600.0  # between two stored copies of what they are made of
COMPARED_S = 60.0  # how long a comparison is shown before it is made again

Compared = Mapping[str, tuple[Held, list[Difference]]]


class StatisticsPart:
    """The statistics of one model. The participant's thread calls `step`; any thread may look."""

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        model: LocalModel,
        machines: Mapping[str, Reservoir],
        chain: ChainStore,
        spool: Spool,
        identity: Identity | None,
        uplink: Uplink | None,
    ) -> None:
        self._name, self._config, self._model = name, config, model
        self._machines, self._chain, self._spool = machines, chain, spool
        self._identity, self._uplink = identity, uplink
        self._over: SitesStatistics | None = None
        self._sent = 0  # messages since the start
        self._sent_at = self._sent_windows = 0.0
        self._next_try = 0.0
        self._refused: str | None = None
        self._kept_at = time.monotonic()
        self._compared: tuple[float, Compared] | None = None
        for machine, held in reservoir_file.decode(chain.load_statistics() or b"").items():
            if machine in machines:
                machines[machine].restore(held)

    @property
    def off(self) -> str | None:
        """Why nothing is sent and fetched; None when it is."""
        if not self._config.statistics:
            return f"set statistics = true in [model.{self._name}] to send this site's and see those of others"
        if self._config.privacy is not None:
            return "this model has a privacy budget, which statistics are not part of"
        return "there is no aggregator" if self._uplink is None or self._identity is None else None

    def step(self, now: float) -> None:
        """Send and fetch what is due, after the aggregator was reached; now: monotonic, s."""
        if self.off or self._model.graph is None or now < self._next_try:
            return
        self._refused = None
        for call in (self._send, self._fetch):
            try:
                call(now)
            except FedgeError as e:
                logger.warning("model %s: statistics: %s", self._name, e)
                self._next_try = now + (RETRY_S if isinstance(e, RetryError) else REFUSED_S)
                self._refused = str(e)

    def keep(self, now: float, at_once: bool = False) -> None:
        """Store what statistics are made of, every hour or at once; now: monotonic, s."""
        if not at_once and now - self._kept_at < KEEP_S:
            return
        self._kept_at = now
        held = {name: one for name, machine in self._machines.items() if (one := machine.held()).seen}
        if held:
            try:
                self._chain.save_statistics(reservoir_file.encode(held))
            except StorageError as e:
                logger.warning("model %s: %s", self._name, e)

    def compared(self) -> Compared:
        """Each machine beside the other sites, not older than `COMPARED_S`."""
        graph, over, now = self._model.graph, self._over, time.monotonic()
        if graph is None:
            return {}
        if self._compared is None or now - self._compared[0] > COMPARED_S:
            known, named = over.channels if over else None, columns(graph.card)
            held = {name: machine.held() for name, machine in self._machines.items()}
            made = {n: (h, own_statistics.differences(h, named, known)) for n, h in held.items()}
            self._compared = now, made
            return made
        return self._compared[1]

    def comparison(self) -> dict[str, Any]:
        """For `fedge-agent compare`."""
        return {**self._state(), "machines": own_statistics.plain(self.compared())}

    def status(self) -> dict[str, Any]:
        """For the status page."""
        compared = self.compared() if self._over is not None else {}  # else there is nothing to differ from
        out = {n: [d for d in found if d.stands_out] for n, (_, found) in compared.items()}
        lines = [f"{name} {words.line(d)}" for name, found in out.items() for d in found] if not self.off else []
        named = {name: [d.channel for d in found] for name, found in out.items()}
        return {**self._state(), "stand_out": named, "lines": lines}

    def _state(self) -> dict[str, Any]:
        over = self._over
        return {
            "wanted": self._config.statistics,
            "off": self.off,
            "windows": self._windows(),
            "needs": LEAST_SENT,
            "sent": self._sent,
            "sent_age_s": round(time.monotonic() - self._sent_at, 1) if self._sent else None,
            "refused": self._refused,
            "sites": over.sites if over else None,
            "number": over.number if over else None,
            "created": over.created if over else None,
        }

    def _windows(self) -> int:
        return sum(machine.seen for machine in self._machines.values())

    def _columns(self) -> tuple[Column, ...]:
        assert self._model.graph is not None  # `step`
        return columns(self._model.graph.card)

    def _send(self, now: float) -> None:
        """Send this site's statistics, if that is due."""
        windows = self._windows()
        age = now - self._sent_at if self._sent else AGAIN_S
        due = age >= AGAIN_S or (age >= SOONEST_S and windows >= 2 * self._sent_windows)
        if windows < LEAST_SENT or not due or windows == self._sent_windows:
            return
        try:
            self._submit(windows)
        except ReplayError as e:  # the state folder was restored: go on above what the aggregator has
            self._spool.raise_sequence(self._name, e.last)
            self._submit(windows)
        self._sent, self._sent_at, self._sent_windows = self._sent + 1, now, windows
        self.keep(now, at_once=True)

    def _submit(self, windows: int) -> None:
        assert self._uplink is not None and self._identity is not None  # `off`
        held, named = [machine.held() for machine in self._machines.values()], self._columns()
        message = SiteStatistics(
            federation=self._name,
            node=self._identity.node,
            graph=self._model.digest,
            sequence=self._spool.reserve_sequence(self._name),
            windows=own_statistics.rounded(windows, MOST_WINDOWS),
            channels=own_statistics.histograms(held, len(named)),
        )
        self._uplink.submit_statistics(self._name, encode_site(message, self._identity.key))

    def _fetch(self, _: float) -> None:
        """Fetch the statistics over sites, if there are newer ones for this node."""
        assert self._uplink is not None and self._identity is not None  # `off`
        number = self._uplink.statistics_number(self._name)
        if not number or (self._over is not None and number == self._over.number):
            return
        channels = len(self._columns()) - 1
        body = self._uplink.fetch_statistics(self._name, 0, max_statistics_bytes(channels))
        if body is None:
            return
        found = decode_sites(body, self._identity.release_key, channels)
        if (found.federation, found.graph) != (self._name, self._model.digest):
            raise WireError(f"statistics over sites: of {found.federation}, or of another model file")
        if self._over is not None and found.number <= self._over.number:
            raise StaleError(
                f"statistics over sites: number {found.number}, expected one above {self._over.number}, which is kept: "
                "an older message was sent again, or the aggregator was restored; in that case restart this agent"
            )
        self._over, self._compared = found, None
