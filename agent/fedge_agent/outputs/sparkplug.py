# SPDX-License-Identifier: Apache-2.0
"""Be a Sparkplug B edge node: each machine a device, the figures of its decisions and of its alert the metrics.

Values of decisions are sent by exception and may be lost (QoS 0); an alert is sent with each event. The births follow
each connection: the first when the agent starts, others when something is to be sent after a connection was lost. Each
connection has a bdSeq of its own in its Will and its NBIRTH, stored before the attempt. A request for a rebirth is
answered at once, at most once a second.
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

from .. import figures
from ..figures import Of, Type
from ..protocols.mqtt.broker import Broker, check_broker
from ..protocols.mqtt.connection import Connection, Message, Will
from ..protocols.sparkplug import state, topics
from ..protocols.sparkplug.edge_node import EdgeNode, Value
from ..protocols.sparkplug.topics import NodeId, Topic
from ..protocols.sparkplug.values import BOOLEAN, DOUBLE, INT64, STRING
from ..types import SILENT, Decision, Event, Output, Receipt

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


class SparkplugOutput(Output):
    """An edge node. The host calls from one thread; commands arrive in the network's thread."""

    Config = SparkplugConfig
    shows_decisions = True

    def __init__(self, name: str, config: SparkplugConfig) -> None:
        check_broker(config, f"output.{name}")
        for key in ("group", "node"):
            if not topics.is_id(value := getattr(config, key)):
                raise ConfigError(f"output.{name}: {key} {value!r}: expected text without +, # and /")
        self._config = config
        self._file: Path | None = None
        self._state = state.NodeState()
        self._node = EdgeNode(NodeId(config.group, config.node), self._state.bdseq, {})
        self._lock = threading.RLock()  # births and data go out in the order of their seq
        self._connection: Connection | None = None
        self._born_at = -math.inf

    def begin(self, folder: Path) -> None:
        """Continue the bdSeq of the last process, and send the births. Raises UnreachableError, ConfigError."""
        if self._file is None:
            self._file = folder / "node.json"
            self._state = state.load(self._file)
            self._node.bdseq = self._state.bdseq
        with self._lock:
            self._connected()

    def end(self) -> None:
        """Publish NDEATH, then disconnect, so that the broker does not publish the Will as well (5.5)."""
        with self._lock, contextlib.suppress(FedgeError):
            if self._connection is not None and self._connection.lost is None:
                topic, data = self._node.death(_wall_ms())
                self._connection.wait([self._connection.publish(topic, data, 1)])
        self._close()

    def show(self, decision: Decision) -> None:
        """Send what changed. Raises UnreachableError; the births of the next connection then carry it."""
        alert = Value(BOOLEAN, self._state.alerts.get(decision.asset, False))
        more = {"alert": alert, "silent": Value(BOOLEAN, False)}
        self._send(decision.asset, {**_metrics(decision), **more}, decision.time_ns)

    def deliver(self, event: Event) -> Receipt:
        """Send that an alert opened, rose or cleared, or that a machine fell silent or decides again. Raises
        UnreachableError."""
        asset = event.decision.asset
        if event.kind == SILENT:
            self._send(asset, _silence(event, self._node.known(asset)), event.decision.time_ns)
            return Receipt()
        self._state.alerts[asset] = event.alert
        self._save()
        alert = {
            "alert": Value(BOOLEAN, event.alert),
            "alert key": Value(STRING, event.key),
            "severity": Value(STRING, event.severity),
        }
        if self._send(asset, alert, event.decision.time_ns):
            return Receipt()
        return Receipt(skipped="the host application knows it: nothing changed")

    def check(self) -> list[str]:
        """Connect without births, under another client id than a running agent."""
        connection = Connection(msgspec.structs.replace(self._config, client_id=""), clean=True)
        try:
            connection.open()
            return []
        except (UnreachableError, ConfigError) as e:
            return [str(e)]
        finally:
            connection.close()

    def _send(self, device: str, values: dict[str, Value], time_ns: int) -> bool:
        """Send what changed; whether anything was sent."""
        with self._lock:
            messages = self._node.update(device, values, time_ns // 1_000_000, _wall_ms())
            before, connection = self._connection, self._connected()
            for topic, data in messages if connection is before else []:  # else the births carried it
                connection.publish(topic, data, 0)
            return bool(messages) or connection is not before

    def _connected(self) -> Connection:
        """The open connection, or a new one. Raises UnreachableError."""
        if self._connection is not None and self._connection.lost is None:
            return self._connection
        self._close()
        self._connection = self._opened()
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> Connection:
        """Open a new connection and send the births."""
        topic, data = self._node.connecting(_wall_ms())
        self._save()
        connection = Connection(self._config, self._command, Will(topic, data, 1, False), clean=True)
        try:
            connection.open()
            commands = str(Topic("NCMD", self._node.id))
            for filter_, why in connection.subscribe([commands], 0).items():
                logger.warning("%s: nobody can ask for a rebirth: %s: %s", self._config.url, filter_, why)
            self._send_births(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _send_births(self, connection: Connection) -> None:
        self._born_at = time.monotonic()
        for topic, data in self._node.births(_wall_ms()):
            connection.publish(topic, data, 0)

    def _command(self, message: Message) -> None:
        """Answer a request for a rebirth. Called in the network's thread."""
        try:
            requested = self._node.rebirth_requested(message.topic, message.payload)
        except WireError as e:
            logger.warning("%s: a command is ignored: %s", self._config.url, e)
            return
        if not requested or message.retain or not self._lock.acquire(timeout=REBIRTH_S):
            return  # whoever holds the lock so long is about to send births
        try:
            if self._connection is not None and time.monotonic() >= self._born_at + REBIRTH_S:
                self._send_births(self._connection)
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
