# SPDX-License-Identifier: Apache-2.0
"""Be a Sparkplug B edge node: each machine a device, the figures of its decisions and of its alert the metrics.

Values of decisions are sent by exception and may be lost (QoS 0); an alert is sent with each event. The births follow
each connection: the first when the agent starts, others when something is to be sent after a connection was lost. Each
connection has a bdSeq of its own in its Will and its NBIRTH, stored before the attempt. A request for a rebirth is
answered at once, at most once a second.

With `primary_host` there are births and data only while that host application is online (5.4): when it goes offline,
NDEATH is published, the connection ended, and a new one waits for the host.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from fedge_models.errors import ConfigError, FedgeError, StorageError, UnreachableError, WireError
from fedge_models.system.addresses import shown
from fedge_models.system.worker import Worker

from .. import figures
from ..figures import Of, Type
from ..protocols.mqtt.broker import Broker, check_broker, session_claims
from ..protocols.mqtt.connection import Connection, Message, Will
from ..protocols.sparkplug import state, topics
from ..protocols.sparkplug.edge_node import EdgeNode, Value
from ..protocols.sparkplug.primary_host import PrimaryHost
from ..protocols.sparkplug.topics import NodeId, Topic
from ..protocols.sparkplug.values import BOOLEAN, DOUBLE, INT64, STRING
from ..types import DRIFT, SILENT, Decision, Event, Output, Receipt

logger = logging.getLogger(__name__)

REBIRTH_S = 1.0  # seconds between two births, whoever asks
OMITTED = (
    "asset",
    "time_ns",
    "latency_s",
)  # the device, the time stamp of each metric; would change with each decision
DATATYPES = {
    **{Type.NUMBER: DOUBLE, Type.INTEGER: INT64, Type.TEXT: STRING, Type.BOOLEAN: BOOLEAN},
    **{Type.NUMBERS: DOUBLE, Type.INTERVALS: DOUBLE, Type.TEXTS: STRING},  # an entry is a metric, such as "values/life"
}
METRICS = {n: DATATYPES[f.type] for n, f in figures.select(Of.DECISION).items() if n not in OMITTED}


class SparkplugConfig(Broker, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[output.X] type = "sparkplug"``."""

    group: str
    node: str  # with the group unique at the broker
    primary_host: str = ""  # send nothing while this host application is not online; "": do not wait for one


class SparkplugOutput(Output):
    """An edge node. The host calls from one thread; commands arrive in the network's, and are answered in a third."""

    Config = SparkplugConfig
    shows_decisions = True

    def __init__(self, name: str, config: SparkplugConfig) -> None:
        check_broker(config, f"output.{name}")
        for key in ("group", "node", "primary_host"):
            if not topics.is_id(value := getattr(config, key)) and (value or key != "primary_host"):
                raise ConfigError(f"output.{name}: {key} {value!r}: expected text without +, # and /")
        self._config = config
        self.claims = session_claims(config)
        self._file: Path | None = None
        self._state = state.NodeState()
        self._node = EdgeNode(NodeId(config.group, config.node), self._state.bdseq, {})
        self._lock = threading.RLock()  # births and data go out in the order of their seq
        self._state_came = threading.Condition()
        self._connection: Connection | None = None
        self._primary: PrimaryHost | None = None  # of the connection; None: none is waited for
        self._born = False  # the connection has sent its births
        self._born_at = -math.inf
        self._worker = Worker(f"sparkplug-{name}", self._catch_up)
        self._changed: PrimaryHost | None = None  # it came or went, and was not followed yet
        self._requested: Connection | None = None  # a rebirth was requested of it, and was not sent yet

    def begin(self, folder: Path) -> None:
        """Continue the bdSeq of the last process, and send the births. Raises UnreachableError, ConfigError."""
        if self._file is None:
            self._file = folder / "node.json"
            self._state = state.load(self._file)
            self._node.bdseq = self._state.bdseq
        with self._lock:
            self._connected()

    def end(self) -> None:
        """Publish NDEATH, then disconnect (5.5)."""
        self._worker.stop(REBIRTH_S)
        with self._lock:
            self._leave()

    def show(self, decision: Decision) -> None:
        """Send what changed. Raises UnreachableError; the births of the next connection then carry it."""
        alert = Value(BOOLEAN, self._state.alerts.get(decision.asset, False))
        more = {"alert": alert, "silent": Value(BOOLEAN, False)}
        self._send(decision.asset, {**_metrics(decision), **more}, decision.time_ns)

    def deliver(self, event: Event) -> Receipt:
        """Send that an alert opened, rose or cleared, or that a machine fell silent, drifts, or does so no more. Raises
        UnreachableError."""
        asset = event.decision.asset
        if event.kind == SILENT:
            self._send(asset, _silence(event, self._node.known(asset)), event.decision.time_ns)
            return Receipt()
        if event.kind == DRIFT:
            reason = event.reason if event.drifts else ""
            drift = {"drift": Value(BOOLEAN, event.drifts), "drift reason": Value(STRING, reason)}
            self._send(asset, drift, event.decision.time_ns)
            return Receipt()
        self._state.alerts[asset] = event.alert
        self._save()
        alert = {
            "alert": Value(BOOLEAN, event.alert),
            "alert key": Value(STRING, event.key),
            "severity": Value(STRING, event.severity),
        }
        self._send(asset, alert, event.decision.time_ns)
        return Receipt()  # also when nothing changed: the births of a new connection carried it

    def status(self) -> dict[str, Any]:
        """Why the primary host or a request for a rebirth is not followed at the moment."""
        return {"problem": self._worker.problem} if self._worker.problem else {}

    def check(self) -> list[str]:
        """Connect without births, under another client id than a running agent."""
        connection = Connection(msgspec.structs.replace(self._config, client_id=""), clean=True)
        try:
            connection.open()
            topics_ = PrimaryHost(self._config.primary_host).topics[:1] if self._config.primary_host else ()
            return [f"{filter_}: {why}" for filter_, why in connection.subscribe(topics_).items()] if topics_ else []
        except (UnreachableError, ConfigError) as e:
            return [str(e)]
        finally:
            connection.close()

    def _send(self, device: str, values: dict[str, Value], time_ns: int) -> None:
        """Send what changed. Raises UnreachableError; the births of the next connection then carry it."""
        with self._lock:
            messages = self._node.update(device, values, time_ns // 1_000_000, _wall_ms())
            before = self._connection if self._born else None
            connection = self._connected()
            for topic, data in messages if connection is before else []:  # else the births carried it
                connection.publish(topic, data, 0)

    def _connected(self) -> Connection:
        """The open connection with its births sent, or a new one. Raises UnreachableError."""
        if self._connection is None or self._connection.lost is not None:
            self._close()
            self._connection = self._opened()
        if not self._born:
            if self._primary is not None and not self._primary.online:
                raise UnreachableError(f"{shown(self._config.url)}: nothing is sent: {self._primary}")
            self._send_births(self._connection)
        return self._connection

    def _close(self, with_will: bool = False) -> None:
        connection, self._connection, self._born = self._connection, None, False
        if connection is not None:
            connection.close(with_will)

    def _leave(self) -> None:
        """Publish NDEATH if there were births, and disconnect."""
        born, connection = self._born, self._connection
        with contextlib.suppress(FedgeError):
            if born and connection is not None and connection.lost is None:
                topic, data = self._node.death(_wall_ms())
                connection.wait([connection.publish(topic, data, 1)])
        self._close(with_will=born)  # MQTT 5 has the Will published again; a death counts once

    def _opened(self) -> Connection:
        """Open a new connection, and subscribe."""
        if not self._worker.running:
            self._worker.start()
        topic, data = self._node.connecting(_wall_ms())
        self._save()
        self._primary = primary = PrimaryHost(self._config.primary_host) if self._config.primary_host else None
        connection = Connection(
            self._config, lambda message: self._received(connection, message), Will(topic, data, 1, False), clean=True
        )
        try:
            connection.open()
            commands = str(Topic("NCMD", self._node.id))
            refused = connection.subscribe([commands, *(primary.topics if primary else ())])
            if why := refused.get(commands):
                logger.warning("%s: nobody can ask for a rebirth: %s: %s", shown(self._config.url), commands, why)
            if primary and (why := refused.get(primary.topics[0])):
                raise UnreachableError(f"{shown(self._config.url)}: cannot read {primary.topics[0]}: {why}")
            self._await_state(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _await_state(self, connection: Connection) -> None:
        """Wait for the first STATE of the primary host, which is retained; without one the connection stays open."""
        deadline = time.monotonic() + float(self._config.timeout)
        with self._state_came:
            while self._primary is not None and self._primary.online is None and connection.lost is None:
                if not self._state_came.wait(max(0.0, deadline - time.monotonic())):
                    return

    def _send_births(self, connection: Connection) -> None:
        self._born_at, self._born = time.monotonic(), True
        for topic, data in self._node.births(_wall_ms()):
            connection.publish(topic, data, 0)

    # in the network's thread

    def _received(self, connection: Connection, message: Message) -> None:
        """Read a command, or a STATE of the primary host."""
        primary = self._primary
        if primary is not None and message.topic in primary.topics:
            self._take_state(primary, message)
        else:
            self._command(message)
        connection.acknowledge([message])

    def _take_state(self, primary: PrimaryHost, message: Message) -> None:
        """Note that the primary host came or went; following it may have to wait for the broker."""
        before = primary.online
        try:
            primary.take(message.topic, message.payload)
        except WireError as e:
            logger.warning("%s: a STATE is ignored: %s", shown(self._config.url), e)
            return
        with self._state_came:
            self._state_came.notify_all()
        if primary.online != before:
            self._changed = primary
            self._worker.wake()

    def _command(self, message: Message) -> None:
        """Note a request for a rebirth."""
        try:
            requested = self._node.rebirth_requested(message.topic, message.payload)
        except WireError as e:
            logger.warning("%s: a command is ignored: %s", shown(self._config.url), e)
            return
        if requested and not message.retain:
            self._requested = self._connection
            self._worker.wake()

    # in the worker's thread

    def _catch_up(self) -> float | None:
        """Follow the primary host and answer a request for a rebirth; seconds until the last births are old enough."""
        if (primary := self._changed) is not None:
            self._changed = None
            try:
                self._follow(primary)
            except BaseException:  # it is tried again
                self._changed = self._changed or primary
                raise
        if (connection := self._requested) is None:
            return None
        wait = self._born_at + REBIRTH_S - time.monotonic()
        if wait > 0:
            return wait
        self._requested = None
        self._rebirth(connection)
        return None

    def _follow(self, primary: PrimaryHost) -> None:
        """Follow the primary host: with births, or with NDEATH and a new connection that waits for it."""
        with self._lock, contextlib.suppress(FedgeError):  # the next decision states why nothing can be sent
            if primary is not self._primary or self._connection is None:
                return  # of an earlier connection
            if not primary.online and self._born:
                self._leave()
            self._connected()

    def _rebirth(self, connection: Connection) -> None:
        """Send the births again, unless another connection has begun."""
        if not self._lock.acquire(timeout=REBIRTH_S):
            return  # whoever holds the lock so long is about to send births
        try:
            if connection is self._connection and self._born:
                self._send_births(connection)
        except UnreachableError as e:
            logger.info("no rebirth: %s", e)  # the next connection begins with one
        finally:
            self._lock.release()

    def _save(self) -> None:
        """Store bdSeq and alerts; a full disk stops nothing."""
        self._state.bdseq = self._node.bdseq
        try:
            if self._file is not None:
                state.save(self._file, self._state)
        except StorageError as e:
            logger.warning("bdSeq and alerts cannot be stored: %s", e)


def _silence(event: Event, known: Mapping[str, Value]) -> dict[str, Value]:
    """The metrics of a machine that fell silent, whose last decision is no value of now; or that decides again."""
    nothing = {name: Value(value.datatype, None) for name, value in known.items() if name.partition("/")[0] in METRICS}
    said = {
        "silent": Value(BOOLEAN, event.silent),
        "silent reason": Value(STRING, event.reason if event.silent else ""),
    }
    return {**(nothing if event.silent else {}), **said}


def _metrics(decision: Decision) -> dict[str, Value]:
    """The metrics of a decision, tables as one metric per entry; a number that is not finite is null."""
    known = figures.of_decision(decision)
    flat = figures.flat({name: known[name] for name in METRICS})
    return {"/".join(path): Value(METRICS[path[0]], _finite(value)) for path, value in flat.items()}


def _finite(value: Any) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
