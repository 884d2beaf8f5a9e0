"""MQTT output: events, and if wanted the newest decision of each asset, as retained JSON in a unified namespace.

Promises: an event counts as delivered when the broker has acknowledged it (PUBACK), and is repeated until then; the
newest event of each asset stays at the broker for who comes later. Leaves the connection to `mqtt.py`.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any, Literal

import msgspec
from fedge_models.errors import ConfigError, FedgeError
from fedge_models.system.choices import hint

from ..protocols.mqtt.broker import Broker, check_broker
from ..protocols.mqtt.connection import Connection
from ..types import Decision, Event

FIELDS = ("asset", "model")


class MqttOutputConfig(Broker, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[output.X] type = "mqtt"``."""

    topic: str = (
        "enterprise/site/area/line/{asset}/fedge"  # below it: event and decision; {asset}, {model} are filled in
    )
    decisions: Literal["off", "newest"] = "off"  # the newest of each asset too, at most ten a second


class MqttOutput:
    """Publishes below one topic an asset."""

    Config = MqttOutputConfig

    def __init__(self, name: str, config: MqttOutputConfig) -> None:
        self._name, self._config = name, config
        check_broker(config, f"output {name}")
        _check_topic(config.topic, f"output {name}")
        self._connection: Connection | None = None
        if config.decisions == "newest":
            self.show = self._show

    def deliver(self, event: Event) -> None:
        """Publish an event and wait for its PUBACK. Raises UnreachableError, RefusedError."""
        connection = self._connected()
        topic = f"{self._topic(event.asset, event.model)}/event"
        connection.wait([connection.publish(topic, _body(event, event.time_ns), retain=True)])

    def check(self) -> list[str]:
        """Connect under another id, and publish nothing."""
        try:
            connection = Connection(msgspec.structs.replace(self._config, client_id=""))
            try:
                connection.open()
            finally:
                connection.close()
        except FedgeError as e:
            return [f"output {self._name}: {e}"]
        return []

    def end(self) -> None:
        """Say goodbye."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _show(self, decision: Decision) -> None:
        """Publish a decision, and wait for nothing."""
        topic = f"{self._topic(decision.asset, decision.model)}/decision"
        self._connected().publish(topic, _body(decision, decision.time_ns), retain=True)

    def _connected(self) -> Connection:
        """The connection, or a fresh one. Raises UnreachableError, ConfigError."""
        if self._connection is not None and self._connection.lost is None:
            return self._connection
        self.end()
        connection = Connection(self._config)
        try:
            connection.open()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _topic(self, asset: str, model: str) -> str:
        return self._config.topic.replace("{asset}", asset).replace("{model}", model)


def _body(said: Event | Decision, time_ns: int) -> bytes:
    """As JSON, with the time in ISO 8601 too; what is infinite or no number is null."""
    fields: dict[str, Any] = {f: getattr(said, f) for f in said.__struct_fields__}
    moment = datetime.fromtimestamp(time_ns / 1e9, timezone.utc)
    return msgspec.json.encode({"time": moment.isoformat(timespec="milliseconds"), **fields})


def _check_topic(topic: str, where: str) -> None:
    for field in re.findall(r"\{([^}]*)\}", topic):
        if field not in FIELDS:
            near = hint(field, FIELDS, "{{{}}}")
            raise ConfigError(f"{where}: topic {topic!r} has the unknown field {{{field}}}; {near}")
    if "{asset}" not in topic:
        raise ConfigError(f"{where}: topic {topic!r}: expected {{asset}} in it, else assets overwrite each other")
    if not topic.strip("/") or any(c in topic for c in "+#\0"):
        raise ConfigError(f"{where}: topic {topic!r}: one publishes to a topic without + and #")
