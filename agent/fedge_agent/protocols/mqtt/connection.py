# SPDX-License-Identifier: Apache-2.0
"""One connection to an MQTT broker: a new client for each, of no use once the connection is lost.

Promises: MQTT 5 or 3.1.1, TLS with our CA and client certificate, password from a file. A fixed client id has a session
that outlives the process. Every failure is an UnreachableError (try again) or a ConfigError (a person has to act), in
the operator's words. Leaves to the caller when to connect again (the host backs off), and what messages mean.

paho's network thread calls `on_message`; everything else may be called from any thread. The caller acknowledges a
message of QoS 1 once it is durable: until then the broker sends it again to our next connection.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from fedge_models.errors import RefusedError, UnreachableError
from fedge_models.system.addresses import shown

from .broker import Broker, address, password, tls_context
from .reasons import connect_reason, refusal_reason

logger = logging.getLogger(__name__)

MAX_PACKET_BYTES = 16 * 1024 * 1024  # MQTT 5: the broker does not send larger ones (3.1.2.11.4)
RECEIVE_MAXIMUM = 100  # MQTT 5: messages that may wait for our acknowledgement (3.1.2.11.3)
CLOSE_S = 1.0
PERMANENT = {"Topic name invalid", "Payload format invalid", "Packet too large"}  # the same bytes are refused again


class Message(NamedTuple):
    """A message that arrived."""

    topic: str  # empty: it was not UTF-8
    payload: bytes
    qos: int
    retain: bool  # published before we subscribed
    repeated: bool  # the broker may have sent it before (DUP)
    mid: int  # packet identifier, of QoS 1


class Will(NamedTuple):
    """What the broker publishes when our connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Connection:
    """Call `open`, use it until a method raises, then `close` it; never open it twice."""

    def __init__(
        self,
        broker: Broker,
        on_message: Callable[[Message], None] | None = None,
        will: Will | None = None,
        clean: bool = False,
    ) -> None:
        """`clean`: no session before or after this connection, whatever the client id."""
        self._broker, self._on_message = broker, on_message
        self._clean = clean or not broker.client_id
        self._where = shown(broker.url)
        self.session_present = False  # the broker had our session: it resumes it
        self.lost: str | None = None  # why it ended; None while it is open
        self._changed = threading.Condition()
        self._connected = self._closing = False
        self._since = 0.0
        self._subscribed: dict[int, list[Any]] = {}  # mid -> reason codes
        self._refused: dict[int, Any] = {}  # mid of a publication that the broker refuses -> reason code
        self._errors = _FirstError()
        self._client = self._make_client(will)

    def open(self) -> None:
        """Connect. Raises UnreachableError or ConfigError."""
        host, port, secure = address(self._broker)
        try:
            self._client.connect(host, port, keepalive=max(1, round(self._broker.keepalive)), **self._session())
        except OSError as e:
            raise UnreachableError(f"{self._where}: {connect_reason(e, host, secure)}") from e
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self.lost is not None, float(self._broker.timeout))
        if not self._connected:
            raise UnreachableError(f"{self._where}: {self.lost or 'accepts connections but does not speak MQTT'}")

    def close(self, with_will: bool = False) -> None:
        """Disconnect; the broker keeps our session, and does not publish the Will.

        with_will: have it published (MQTT 5, 3.14.2.1; 3.1.1 has no such thing).
        """
        from paho.mqtt.client import MQTTv5
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.reasoncodes import ReasonCode

        self._closing = True
        if with_will and self._client.protocol == MQTTv5:
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
        else:
            self._client.disconnect()
        with self._changed:
            self._changed.wait_for(lambda: self.lost is not None or not self._connected, CLOSE_S)
        held = self._client.socket()
        if held is not None:  # the link hangs
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()
        self._client.reinitialise()  # closes the sockets that wake its thread; else only garbage collection does

    def check(self) -> None:
        """Raises UnreachableError when the connection is lost."""
        if self.lost is not None:
            raise UnreachableError(f"{self._where}: {self.lost}")

    def subscribe(self, filters: Sequence[str], qos: int = 1, retain_handling: int = 1) -> dict[str, str]:
        """Subscribe; returns the filters that the broker refuses, with the reasons.

        Retained messages come with a new subscription only (MQTT 5, 3.8.3.1; 3.1.1 sends them each time).
        """
        from paho.mqtt.client import MQTTv5
        from paho.mqtt.subscribeoptions import SubscribeOptions

        wanted: list[Any] = [(f, qos) for f in filters]
        if self._client.protocol == MQTTv5:
            wanted = [(f, SubscribeOptions(qos, retainHandling=retain_handling)) for f in filters]
        status, mid = self._client.subscribe(wanted)
        if status:
            self._lose("the connection was lost")
            self.check()
        with self._changed:
            self._changed.wait_for(lambda: mid in self._subscribed or self.lost, float(self._broker.timeout))
            self.check()
            codes = self._subscribed.pop(mid, None)
        if codes is None:
            raise UnreachableError(f"{self._where}: no answer to a subscription within {self._broker.timeout:g} s")
        return {f: refusal_reason(c, self._broker) for f, c in zip(filters, codes, strict=True) if c.is_failure}

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Acknowledge messages that are durable."""
        for message in messages:
            if message.qos:
                self._client.ack(message.mid, message.qos)

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> Any:
        """Queue a message; returns a receipt for `wait`. Raises UnreachableError when the connection is lost."""
        self.check()
        receipt = self._client.publish(topic, payload, qos, retain)
        if receipt.rc:  # paho would send it on its own next connection, but this client has none
            self._lose("the connection was lost")
            self.check()
        return receipt

    def wait(self, receipts: Iterable[Any]) -> None:
        """Wait until the broker has acknowledged each (PUBACK).

        Raises RefusedError if the broker will never accept the message. Raises UnreachableError for anything else, also
        for a missing permission, which a person may grant.
        """
        deadline = time.monotonic() + float(self._broker.timeout)
        for receipt in receipts:
            while not receipt.is_published():
                self.check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise UnreachableError(f"{self._where}: no acknowledgement within {self._broker.timeout:g} s")
                receipt.wait_for_publish(min(left, 0.5))
            if (reason := self._refused.pop(receipt.mid, None)) is not None:
                why = f"{self._where}: a publication is refused: {refusal_reason(reason, self._broker)}"
                raise RefusedError(why) if reason.getName() in PERMANENT else UnreachableError(why)

    # paho's callbacks, in its thread

    def _make_client(self, will: Will | None) -> Any:
        from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5, MQTTv311

        broker = self._broker
        protocol = MQTTv5 if broker.version == "5" else MQTTv311
        clean = None if broker.version == "5" else self._clean
        client = Client(
            CallbackAPIVersion.VERSION2,
            broker.client_id,
            clean_session=clean,
            protocol=protocol,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = float(broker.timeout)
        client.enable_logger(self._errors.logger)
        if address(broker).tls:
            client.tls_set_context(tls_context(broker))
        if broker.username:
            client.username_pw_set(broker.username, password(broker))
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_publish = self._on_subscribe, self._on_publish
        client.on_message = self._on_raw
        client.loop_forever = self._guarded(client.loop_forever)  # what paho's thread runs
        return client

    def _guarded(self, loop: Callable[..., Any]) -> Callable[..., Any]:
        """Have an exception in paho's thread end the connection; else it would seem to be open, and nothing come."""

        def run(*values: Any, **named: Any) -> Any:
            try:
                return loop(*values, **named)
            except Exception as e:
                logger.exception("%s: the client failed", self._where)
                self._lose(f"the client failed: unexpected {type(e).__name__}: {e}; see the log")

        return run

    def _session(self) -> dict[str, Any]:
        """Arguments of `connect` for our session."""
        if self._broker.version != "5":
            return {}
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        if not self._clean:
            properties.SessionExpiryInterval = round(self._broker.session_expiry)
        return {"clean_start": self._clean, "properties": properties}

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._lose(refusal_reason(reason, self._broker))
            return
        with self._changed:
            self._connected, self.session_present, self._since = True, bool(flags.session_present), time.monotonic()
            self._changed.notify_all()

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if self._closing:
            self._lose("closed by us")
        elif flags.is_disconnect_packet_from_server:
            self._lose(refusal_reason(reason, self._broker))
        else:
            self._lose(self._loss_reason())

    def _loss_reason(self) -> str:
        if not self._connected:
            return self._no_answer_reason()
        text = f"the connection was lost after {time.monotonic() - self._since:.0f} s"
        if self._broker.client_id:  # mosquitto 2.0 hands a session to another client without a reason, in MQTT 5 too
            text += f"; if it repeats: does another client use the id {self._broker.client_id!r}?"
        return text

    def _no_answer_reason(self) -> str:
        """Why a broker closed the connection before CONNACK.

        TLS 1.3 refuses a client only after the handshake, and a reset may swallow its alert.
        """
        broker, alert = self._broker, f" ({self._errors.first})" if "ALERT" in self._errors.first else ""
        if not address(broker).tls:
            return f"closed by the broker before it answered; is it a port without TLS, of MQTT {broker.version}?"
        if broker.certificate is None:
            return f"closed by the broker before it answered{alert}; does it want a client certificate? Set certificate"
        return f"the broker refuses our certificate {broker.certificate}, or a client of that name{alert}"

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: list[Any], _properties: Any) -> None:
        with self._changed:
            self._subscribed[mid] = codes
            self._changed.notify_all()

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused[mid] = reason
        else:
            self._refused.pop(mid, None)  # packet identifiers are used again

    def _on_raw(self, _client: Any, _data: Any, message: Any) -> None:
        try:
            topic = str(message.topic)
        except UnicodeDecodeError:
            topic = ""
        if self._on_message is None:
            return
        try:
            made = Message(topic, bytes(message.payload), message.qos, message.retain, message.dup, message.mid)
            self._on_message(made)
        except Exception as e:  # paho's thread would end without a word
            self._lose(f"a message of {len(message.payload)} bytes could not be taken in: {type(e).__name__}: {e}")

    def _lose(self, why: str) -> None:
        with self._changed:
            if self.lost is None:
                self.lost = why
            self._changed.notify_all()


class _FirstError(logging.Handler):
    """The first error that paho logs: it reports nowhere else why a TLS link broke."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first = ""
        self.logger = logging.Logger("mqtt", logging.ERROR)  # of this connection alone, outside the logger tree
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()
