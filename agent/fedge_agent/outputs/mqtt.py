# SPDX-License-Identifier: Apache-2.0
"""Events, and on request the newest decision of each asset, as retained JSON below one MQTT topic per asset.

Promises: an event is delivered when the broker has acknowledged it (PUBACK), and is repeated until then. The broker
retains the newest event of each asset for clients that subscribe later; that a machine is silent, or
its inputs drift, has a topic of its own, so that it hides no alarm. Leaves the connection to `protocols.mqtt`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from fedge_models.errors import ConfigError, FedgeError

from .. import figures, placeholders
from ..protocols.mqtt.broker import Broker, check_broker, session_claims
from ..protocols.mqtt.connection import Connection
from ..types import ALERT, Decision, Event, Output, Receipt
from .event_fields import iso_time

FIELDS = ("asset", "model")


class MqttOutputConfig(Broker, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[output.X] type = "mqtt"``."""

    # Below it: event, silent, drift, decision; it may hold {asset} and {model}.
    topic: str = "enterprise/site/area/line/{asset}/fedge"
    decisions: Literal["off", "newest"] = "off"  # also the newest of each asset, at most ten a second


class MqttOutput(Output):
    """Publishes to one broker."""

    Config = MqttOutputConfig

    def __init__(self, name: str, config: MqttOutputConfig) -> None:
        self._name, self._config = name, config
        self.claims = session_claims(config)
        check_broker(config, f"output {name}")
        _check_topic(config.topic, f"output {name}")
        self._connection: Connection | None = None
        self.shows_decisions = config.decisions == "newest"

    def deliver(self, event: Event) -> Receipt:
        """Publish an event and wait for its PUBACK. Raises UnreachableError, RefusedError."""
        connection, topic = self._connected(), self._topic_of_event(event)
        connection.wait([connection.publish(topic, _body(figures.of_event(event)), retain=True)])
        return Receipt(topic)

    def preview(self, event: Event) -> dict[str, Any]:
        """Topic and payload."""
        return {"topic": self._topic_of_event(event), "payload": msgspec.json.decode(_body(figures.of_event(event)))}

    def check(self) -> list[str]:
        """Connect under another client id, and publish nothing."""
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
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def show(self, decision: Decision) -> None:
        """Publish a decision without waiting for its PUBACK. Raises UnreachableError."""
        topic = f"{self._topic(decision)}/decision"
        self._connected().publish(topic, _body(figures.of_decision(decision)), retain=True)

    def _connected(self) -> Connection:
        """The open connection, or a new one. Raises UnreachableError, ConfigError."""
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

    def _topic_of_event(self, event: Event) -> str:
        return f"{self._topic(event.decision)}/{'event' if event.kind == ALERT else event.kind}"

    def _topic(self, decision: Decision) -> str:
        return str(placeholders.fill(self._config.topic, {"asset": decision.asset, "model": decision.model}))


def _body(known: dict[str, Any]) -> bytes:
    """Figures as JSON, with the time in ISO 8601 too; a number that is not finite is null."""
    return msgspec.json.encode({"time": iso_time(known["time_ns"]), **known})


def _check_topic(topic: str, where: str) -> None:
    placeholders.check(topic, FIELDS, f"{where}: topic")
    if "{asset}" not in topic:
        raise ConfigError(f"{where}: topic {topic!r}: expected {{asset}} in it, else assets overwrite each other")
    left = str(placeholders.fill(topic, dict.fromkeys(FIELDS, "")))
    if not topic.strip("/") or set(left) & set("+#{}\0"):
        raise ConfigError(
            f"{where}: topic {topic!r}: expected a topic without + and #, and only {{asset}} and {{model}}"
        )
