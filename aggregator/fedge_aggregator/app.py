# SPDX-License-Identifier: Apache-2.0
"""Wiring of the aggregator: the only file that imports all rooms but the command line.

Start order: the lock on the state folder, store, authority, federations, operator's page, listener; then READY and the
thread that ends rounds. Stop order: the listener first (nothing new is acknowledged), then the thread that ends rounds
(a round that it is ending is finished; being one transaction, it cannot be half done), the page, the store and the lock
last.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack
from typing import Any

from fedge_models.system import files, lock, service

from .authority import Authority
from .config.schema import ADDRESS_FILE, STATUS_FILE, Config
from .federation.federation import Federation
from .gateway_api.calls import Calls
from .gateway_api.http_server import NodeServer
from .metrics import Metrics
from .store.store import Store

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 30.0  # between two looks at all rounds
REST, LONGEST_REST_S = 3.0, 0.1  # pause after a look at all rounds, as a multiple of its duration
SEEN_EVERY_S = 60.0


class App:
    """A running aggregator."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._scratch = config.aggregator.scratch or config.aggregator.state
        self._metrics = Metrics()
        self._federations: dict[str, Federation] = {}
        self._lock = threading.Lock()
        self._wake = threading.Condition()
        self._woken = False
        self._stop = threading.Event()
        self._started = time.monotonic()
        with ExitStack() as opened:  # closes what is open when a later part cannot be made
            self._open(opened)
            self._opened = opened.pop_all()
        self._rounds = threading.Thread(target=self._end_rounds, name="rounds")

    def _open(self, opened: ExitStack) -> None:
        """Open all parts; sockets last. Raises FedgeError, OSError."""
        settings = self._config.aggregator
        files.make_folder(settings.state)
        files.make_folder(self._scratch)
        opened.callback(lock.claim(settings.state, "fedge-aggregator").release)
        self.store = Store(settings.state)
        opened.callback(self.store.close)
        self.authority = Authority(settings.state / "authority")
        context = self.authority.server_context(settings.addresses)
        for model in self.store.models():
            self.federation(model.federation)
        self._calls = Calls(self.store, self.authority, self.federation, self._arrived, self._metrics)
        where = service.parse_loopback(settings.operator, "aggregator.operator")
        self._page = service.Page(where, self._metrics.text, self.status, self._is_healthy)
        opened.callback(self._page.stop)
        self._server = NodeServer(
            service.parse_address(settings.listen, "aggregator.listen"),
            context,
            self._calls,
            settings.max_connections,
            float(settings.request_timeout),
        )

    @property
    def address(self) -> str:
        """host:port of the listener as bound."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def start(self) -> None:
        """Serve; returns at once."""
        state = self._config.aggregator.state
        files.write(state / ADDRESS_FILE, self.address.encode())
        files.write(state / STATUS_FILE, self._page.address.encode())
        self._page.start()
        self._server.start()
        service.notify("READY=1")  # before the thread that reports WATCHDOG=1: systemd expects this one first
        self._rounds.start()
        logger.info("listening on %s, operator's page on %s", self.address, self._page.address)

    def stop(self) -> None:
        """Stop in the order given above."""
        service.notify("STOPPING=1")
        self._server.stop()
        self._stop.set()
        self._wake_up()
        self._rounds.join()
        self._opened.close()

    def federation(self, name: str) -> Federation | None:
        """A configured federation that has a model, also one whose model was added while the server runs."""
        with self._lock:
            if name not in self._federations and name in self._config.federation:
                models = {m.federation: m for m in self.store.models()}
                if name in models:
                    made = Federation(
                        self._config.federation[name],
                        models[name],
                        self.store,
                        self.authority,
                        self._scratch,
                    )
                    self._federations[name] = made
                    self._add_gauges(made)
            return self._federations.get(name)

    def _add_gauges(self, made: Federation) -> None:
        """Add a federation to the metrics; its figures are read when somebody asks for them."""
        gauges = (
            (self._metrics.release, lambda: made.current.header.version),
            (self._metrics.waiting, lambda: len(self.store.updates.arrivals(made.name))),
            (self._metrics.quarantined, made.quarantined),
            (self._metrics.doubted, made.doubted),
            (self._metrics.nodes, lambda: len(self.store.members(made.name))),
            (self._metrics.statistics_sites, lambda: made.statistics.sites(time.time())),
            (self._metrics.statistics_number, lambda: made.statistics.number),
        )
        for gauge, figure in gauges:
            gauge.labels(made.name).set_function(figure)

    def status(self) -> dict[str, Any]:
        """The status page as plain data."""
        for name in self._config.federation:
            self.federation(name)  # one whose model came after the start has no round yet, and is waited for
        with self._lock:
            federations = list(self._federations.values())
        silent = self._calls.silent_for()
        return {
            "uptime_s": round(time.monotonic() - self._started, 1),
            "address": self.address,
            "federations": {f.name: f.status(time.time(), self._active(f), silent) for f in federations},
        }

    def _active(self, federation: Federation) -> set[str]:
        """Members heard from lately; after a start all count as heard from until their time is over."""
        silent, window = self._calls.silent_for(), float(federation.config.active)
        up = time.monotonic() - self._started
        return {n for n in self.store.members(federation.name) if silent.get(n, up) <= window}

    def _arrived(self, name: str) -> None:
        self._wake_up()

    def _wake_up(self) -> None:
        with self._wake:
            self._woken = True
            self._wake.notify()

    def _is_healthy(self) -> bool:
        return self._rounds.is_alive()

    def _end_rounds(self) -> None:
        """End rounds that are due, until stopped. A fault in one federation is logged and does not stop the others.

        Every update that comes may end a round, so it wakes this thread. But a look at all rounds is work too: a pause
        after each keeps a thousand updates from causing a thousand looks at up to a thousand of them.
        """
        watchdog, noted = service.watchdog_interval(), time.monotonic()
        while not self._stop.is_set():
            wait = min(LONGEST_WAIT_S, watchdog or LONGEST_WAIT_S)
            with self._lock:
                federations = list(self._federations.values())
            began = time.monotonic()
            for federation in federations:
                wait = min(wait, self._step(federation))
            rest = min(REST * (time.monotonic() - began), LONGEST_REST_S)
            if time.monotonic() - noted > SEEN_EVERY_S:
                self._note_seen()
                self._refresh_certificate()
                noted = time.monotonic()
            if watchdog:
                service.notify("WATCHDOG=1")
            self._stop.wait(rest)
            with self._wake:
                self._wake.wait_for(lambda: self._woken, timeout=wait)
                self._woken = False
        self._note_seen()

    def _step(self, federation: Federation) -> float:
        """Look at one federation's round; returns the seconds until the next look."""
        try:
            active, started = self._active(federation), time.perf_counter()
            wait = federation.step(time.time(), active)
            if wait == 0.0:
                self._metrics.seconds.labels(federation.name).observe(time.perf_counter() - started)
        except Exception:
            logger.exception("federation %s: its round could not be checked; the next try is in 1 s", federation.name)
            return 1.0
        return LONGEST_WAIT_S if wait is None else wait

    def _refresh_certificate(self) -> None:
        try:
            self.authority.refresh(self._server.context, self._config.aggregator.addresses)
        except Exception:
            logger.exception("the listener's certificate could not be renewed")

    def _note_seen(self) -> None:
        try:
            self.store.note_seen(self._calls.last_seen())
        except Exception:
            logger.exception("the times at which nodes were last seen could not be stored")
