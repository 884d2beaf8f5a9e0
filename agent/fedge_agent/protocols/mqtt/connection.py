"""One connection to an MQTT broker, shared by source, output and Sparkplug: a fresh client each time, dead once lost.

Promises: MQTT 5 or 3.1.1, TLS with our CA and client certificate, password from a file, a session that outlives us
where the client id is fixed; every failure is an UnreachableError (again later) or a ConfigError (a person has to look)
in the operator's words. Leaves to the caller when to connect anew (the host backs off), and what messages mean.

paho's network thread calls `on_message`; everything else may be called from any thread. A message of QoS 1 is ours to
acknowledge, once it is durable: until then the broker sends it again to our next connection.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from fedge_models.errors import ConfigError, RefusedError, UnreachableError
from fedge_models.system.settings import Seconds
from fedge_models.system.structs import known

from .reasons import connect_words, reason_words

PORTS = {"mqtt": 1883, "mqtts": 8883}
MAX_PACKET_BYTES = 16 * 1024 * 1024  # MQTT 5: the broker keeps larger ones to itself (3.1.2.11.4)
RECEIVE_MAXIMUM = 100  # MQTT 5: messages that may wait for our acknowledgement (3.1.2.11.3)
CLOSE_S = 1.0
FOR_GOOD = {"Topic name invalid", "Payload format invalid", "Packet too large"}  # the same bytes are refused again


@known
class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The keys that every table with a broker has."""

    url: str  # "mqtt://host:1883", or with TLS "mqtts://host:8883"
    client_id: str = ""  # fixed, and no other client's at this broker; empty: a new one each time, no session is kept
    version: Literal["5", "3.1.1"] = "5"
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None  # who signed the broker's certificate; without: the system's
    certificate: Path | None = None  # ours, PEM
    private_key: Path | None = None
    keepalive: Seconds = Seconds(10)  # a dead link is noticed within twice this
    session_expiry: Seconds = Seconds(86400)  # MQTT 5: how long the broker keeps messages for us while we are away
    timeout: Seconds = Seconds(5)  # to connect, and for each acknowledgement


class Message(NamedTuple):
    """What arrived."""

    topic: str  # empty: it was no UTF-8
    payload: bytes
    qos: int
    retain: bool  # it was there before we subscribed
    repeated: bool  # the broker may have sent it before (DUP)
    mid: int  # packet identifier; of QoS 1


class Will(NamedTuple):
    """What the broker publishes when we are lost without a word."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Connection:
    """`open`, then use until a method raises, then `close`; never opened twice."""

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
        self._where = broker.url
        self.session_present = False  # the broker knew us: it goes on where we were
        self.lost: str | None = None  # why it ended, in words; None while it lives
        self._changed = threading.Condition()
        self._connected = self._closing = False
        self._since = 0.0
        self._subscribed: dict[int, list[Any]] = {}  # mid -> reason codes
        self._refused: dict[int, Any] = {}  # mid of a publication that the broker does not take -> reason code
        self._heard = _Heard()
        self._client = self._made(will)

    def open(self) -> None:
        """Connect. Raises UnreachableError or ConfigError."""
        host, port, secure = _address(self._broker)
        try:
            self._client.connect(host, port, keepalive=max(1, round(self._broker.keepalive)), **self._session())
        except OSError as e:
            raise UnreachableError(f"{self._where}: {connect_words(e, host, secure)}") from e
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self.lost is not None, float(self._broker.timeout))
        if not self._connected:
            raise UnreachableError(f"{self._where}: {self.lost or 'accepts connections but does not speak MQTT'}")

    def close(self) -> None:
        """Say goodbye; the broker keeps our session, and does not publish the will."""
        self._closing = True
        self._client.disconnect()
        with self._changed:
            self._changed.wait_for(lambda: self.lost is not None or not self._connected, CLOSE_S)
        held = self._client.socket()
        if held is not None:  # a link that takes nothing any more
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def check(self) -> None:
        """Raises UnreachableError when the connection is lost."""
        if self.lost is not None:
            raise UnreachableError(f"{self._where}: {self.lost}")

    def subscribe(self, filters: Sequence[str], qos: int = 1, retain_handling: int = 1) -> dict[str, str]:
        """Subscribe; what the broker refuses, with its reason. Retained messages come with a new subscription only
        (MQTT 5, 3.8.3.1; 3.1.1 sends them every time)."""
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
        return {f: reason_words(c, self._broker) for f, c in zip(filters, codes, strict=True) if c.is_failure}

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Tell the broker that we have them for good."""
        for message in messages:
            if message.qos:
                self._client.ack(message.mid, message.qos)

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> Any:
        """Queue a message; what it returns is for `wait`. Raises UnreachableError when the connection is lost."""
        self.check()
        receipt = self._client.publish(topic, payload, qos, retain)
        if receipt.rc:  # paho would send it on its own next connection, but this client has none
            self._lose("the connection was lost")
            self.check()
        return receipt

    def wait(self, receipts: Iterable[Any]) -> None:
        """Until the broker has acknowledged each (PUBACK). Raises RefusedError where it will never take one, and
        UnreachableError for all else; that it does not allow one yet is for a person to heal."""
        deadline = time.monotonic() + float(self._broker.timeout)
        for receipt in receipts:
            while not receipt.is_published():
                self.check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise UnreachableError(f"{self._where}: no acknowledgement within {self._broker.timeout:g} s")
                receipt.wait_for_publish(min(left, 0.5))
            if (reason := self._refused.pop(receipt.mid, None)) is not None:
                why = f"{self._where}: a publication is refused: {reason_words(reason, self._broker)}"
                raise RefusedError(why) if reason.getName() in FOR_GOOD else UnreachableError(why)

    # paho's callbacks, in its thread

    def _made(self, will: Will | None) -> Any:
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
        client.enable_logger(self._heard.logger)
        if _address(broker)[2]:
            client.tls_set_context(_tls(broker))
        if broker.username:
            client.username_pw_set(broker.username, _password(broker))
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_publish = self._on_subscribe, self._on_publish
        client.on_message = self._on_raw
        return client

    def _session(self) -> dict[str, Any]:
        """What `connect` is told of our session."""
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
            self._lose(reason_words(reason, self._broker))
            return
        with self._changed:
            self._connected, self.session_present, self._since = True, bool(flags.session_present), time.monotonic()
            self._changed.notify_all()

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if self._closing:
            self._lose("closed by us")
        elif flags.is_disconnect_packet_from_server:
            self._lose(reason_words(reason, self._broker))
        else:
            self._lose(self._why_lost())

    def _why_lost(self) -> str:
        if not self._connected:
            return self._why_never_there()
        text = f"the connection was lost after {time.monotonic() - self._since:.0f} s"
        if self._broker.client_id:  # mosquitto 2.0 takes a session over without a word, in MQTT 5 too
            text += f"; if it happens again and again: does another client use the id {self._broker.client_id!r}?"
        return text

    def _why_never_there(self) -> str:
        """TLS 1.3 refuses a client only after the handshake, and a reset may swallow its alert."""
        broker, heard = self._broker, f" ({self._heard.first})" if "ALERT" in self._heard.first else ""
        if not _address(broker)[2]:
            return f"closed by the broker before it answered; is it a port without TLS, of MQTT {broker.version}?"
        if broker.certificate is None:
            return f"closed by the broker before it answered{heard}; does it want a client certificate? Set certificate"
        return f"the broker refuses our certificate {broker.certificate}, or a client of that name{heard}"

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: list[Any], _properties: Any) -> None:
        with self._changed:
            self._subscribed[mid] = codes
            self._changed.notify_all()

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused[mid] = reason
        else:
            self._refused.pop(mid, None)  # numbers are used again

    def _on_raw(self, _client: Any, _data: Any, message: Any) -> None:
        try:
            topic = str(message.topic)
        except UnicodeDecodeError:
            topic = ""
        if self._on_message is None:
            return
        kept = message.payload
        self._on_message(Message(topic, bytes(kept), message.qos, message.retain, message.dup, message.mid))

    def _lose(self, why: str) -> None:
        with self._changed:
            if self.lost is None:
                self.lost = why
            self._changed.notify_all()


class _Heard(logging.Handler):
    """The first error that paho logs: why a TLS link broke is said nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first = ""
        self.logger = logging.Logger("mqtt", logging.ERROR)  # of this connection alone, and not in the tree
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


class _Socket(ssl.SSLSocket):
    """Closed when the handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def check_broker(broker: Broker, where: str) -> None:
    """Raise ConfigError when the keys cannot go together; opens nothing."""
    try:
        _address(broker)
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from e
    if broker.password_file is not None and not broker.username:
        raise ConfigError(f"{where}: password_file is given without username")
    if (broker.certificate is None) != (broker.private_key is None):
        raise ConfigError(f"{where}: certificate and private_key go together, one is missing")
    secure = [k for k in ("ca_file", "certificate") if getattr(broker, k) is not None]
    if secure and not _address(broker)[2]:
        raise ConfigError(f"{where}: {secure[0]} is given, but the url {broker.url!r} has no TLS; expected mqtts://")


def _address(broker: Broker) -> tuple[str, int, bool]:
    """(host, port, TLS)."""
    parts = urlsplit(broker.url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in PORTS or not parts.hostname or port == -1:
        raise ConfigError(f"url {broker.url!r}: expected mqtt://host:1883, or with TLS mqtts://host:8883")
    return parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts"


def _tls(broker: Broker) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(broker.ca_file) if broker.ca_file else None)
    except OSError as e:
        raise ConfigError(f"{broker.ca_file}: cannot be used as CA certificates (PEM): {e.strerror or e}") from e
    context.sslsocket_class = _Socket
    if broker.certificate is not None and broker.private_key is not None:
        try:
            context.load_cert_chain(broker.certificate, broker.private_key)
        except OSError as e:
            pair = f"{broker.certificate}, {broker.private_key}"
            raise ConfigError(f"{pair}: cannot be used as certificate and key (PEM): {e.strerror or e}") from e
    return context


def _password(broker: Broker) -> str | None:
    if broker.password_file is None:
        return None
    try:
        return broker.password_file.read_text().strip()
    except OSError as e:
        raise ConfigError(f"{broker.password_file}: cannot be read: {e.strerror}") from e
