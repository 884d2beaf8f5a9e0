"""Sparkplug B: this gateway as an edge node, each machine a device of it, what the model says of it as its metrics.

Decisions are told by exception and lossily, alerts with each event. The node is born when the agent starts, and again
when something is to be told after its connection was lost; each connection has a bdSeq of its own in its Will and its
NBIRTH, kept before it is tried. A rebirth that is asked for is answered at once, at most once a second.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from fedge_models.errors import ConfigError, FedgeError, StorageError, UnreachableError, WireError

from ..protocols.mqtt.broker import Broker, check_broker
from ..protocols.mqtt.connection import Connection, Message, Will
from ..protocols.sparkplug import state, topics
from ..protocols.sparkplug.edge_node import EdgeNode, Value
from ..protocols.sparkplug.topics import NodeId, Topic
from ..protocols.sparkplug.values import BOOLEAN, DOUBLE, INT64, STRING
from ..types import Decision, Event

logger = logging.getLogger(__name__)

REBIRTH_S = 1.0  # births at most so often, whoever asks
# What is told of a decision, and as what; tables become one metric an entry, such as "values/life".
TOLD = {
    **{"score": DOUBLE, "threshold": DOUBLE, "label": STRING, "channel": STRING, "model": STRING, "release": INT64},
    **{"missing": DOUBLE, "values": DOUBLE, "hours_left": DOUBLE, "hours_left_at_least": DOUBLE, "context": STRING},
}


class SparkplugConfig(Broker, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[output.X] type = "sparkplug"``."""

    group: str
    node: str  # with the group unique at the broker


class SparkplugOutput:
    """An edge node. The host calls from one thread, the network's thread brings commands."""

    Config = SparkplugConfig

    def __init__(self, name: str, config: SparkplugConfig) -> None:
        check_broker(config, f"output.{name}")
        for key in ("group", "node"):
            if not topics.is_id(value := getattr(config, key)):
                raise ConfigError(f"output.{name}: {key} {value!r}: expected text without +, # and /")
        self._config = config
        self._file: Path | None = None
        self._kept = state.Kept()
        self._node = EdgeNode(NodeId(config.group, config.node), self._kept.bdseq, {})
        self._lock = threading.RLock()  # births and data go out in the order of their seq
        self._connection: Connection | None = None
        self._born = -math.inf

    def begin(self, folder: Path) -> None:
        """Go on where the last process ended, and be born. Raises UnreachableError, ConfigError."""
        if self._file is None:
            self._file = folder / "node.json"
            self._kept = state.load(self._file)
            self._node.bdseq = self._kept.bdseq
        with self._lock:
            self._connected()

    def end(self) -> None:
        """Die in order: NDEATH, then the goodbye that keeps the broker from publishing it again (5.5)."""
        with self._lock, contextlib.suppress(FedgeError):
            if self._connection is not None and self._connection.lost is None:
                topic, data = self._node.death(_wall_ms())
                self._connection.wait([self._connection.publish(topic, data, 1)])
        self._close()

    def show(self, decision: Decision) -> None:
        """Tell what is new of a machine. Raises UnreachableError; the next decision tells it anyway."""
        alert = Value(BOOLEAN, self._kept.alerts.get(decision.asset, False))
        self._tell(decision.asset, {**_values(decision), "alert": alert}, decision.time_ns)

    def deliver(self, event: Event) -> None:
        """Tell that an alert opened, rose or cleared. Raises UnreachableError."""
        self._kept.alerts[event.asset] = event.state != "cleared"
        self._keep()
        alert = {
            "alert": Value(BOOLEAN, event.state != "cleared"),
            "alert key": Value(STRING, event.key),
            "severity": Value(STRING, event.severity),
        }
        self._tell(event.asset, alert, event.time_ns)

    def check(self) -> list[str]:
        """Connect without being born, under another id than a running agent."""
        connection = Connection(msgspec.structs.replace(self._config, client_id=""), clean=True)
        try:
            connection.open()
            return []
        except (UnreachableError, ConfigError) as e:
            return [str(e)]
        finally:
            connection.close()

    def _tell(self, device: str, values: dict[str, Value], time_ns: int) -> None:
        with self._lock:
            messages = self._node.update(device, values, time_ns // 1_000_000, _wall_ms())
            before, connection = self._connection, self._connected()
            for topic, data in messages if connection is before else []:  # else the births have told it
                connection.publish(topic, data, 0)

    def _connected(self) -> Connection:
        """The connection, made anew when it is lost. Raises UnreachableError."""
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
        """A new connection, born."""
        topic, data = self._node.connecting(_wall_ms())
        self._keep()
        connection = Connection(self._config, self._command, Will(topic, data, 1, False), clean=True)
        try:
            connection.open()
            commands = str(Topic("NCMD", self._node.id))
            for filter_, why in connection.subscribe([commands], 0).items():
                logger.warning("%s: nobody can ask for a rebirth: %s: %s", self._config.url, filter_, why)
            self._bear(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bear(self, connection: Connection) -> None:
        self._born = time.monotonic()
        for topic, data in self._node.births(_wall_ms()):
            connection.publish(topic, data, 0)

    def _command(self, message: Message) -> None:
        """In the network's thread."""
        try:
            asked = self._node.rebirth_asked(message.topic, message.payload)
        except WireError as e:
            logger.warning("%s: a command is not followed: %s", self._config.url, e)
            return
        if not asked or message.retain or not self._lock.acquire(timeout=REBIRTH_S):
            return  # whoever holds the lock so long is about to be born
        try:
            if self._connection is not None and time.monotonic() >= self._born + REBIRTH_S:
                self._bear(self._connection)
        except UnreachableError as e:
            logger.info("no rebirth: %s", e)  # the next connection begins with one
        finally:
            self._lock.release()

    def _keep(self) -> None:
        """A disk that is full does not keep us from telling."""
        self._kept.bdseq = self._node.bdseq
        try:
            if self._file is not None:
                state.save(self._file, self._kept)
        except StorageError as e:
            logger.warning("bdSeq and alerts are not kept: %s", e)


def _values(decision: Decision) -> dict[str, Value]:
    """The metrics of a decision; what is not a finite number is null."""
    told: dict[str, Value] = {}
    for name, datatype in TOLD.items():
        value: Any = getattr(decision, name)
        entries = {f"{name}/{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
        told |= {key: Value(datatype, _plain(v)) for key, v in entries.items()}
    for target, ends in decision.bounds.items():
        told |= {
            f"bounds/{target}/{end}": Value(DOUBLE, _plain(v)) for end, v in zip(("low", "high"), ends, strict=True)
        }
    return told


def _plain(value: Any) -> float | str | None:
    return None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
