# SPDX-License-Identifier: Apache-2.0
"""A broker as the configuration describes it: its address, our name and password there, its TLS. Opens nothing."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system.addresses import shown, split_url
from fedge_models.system.secret_file import read_secret
from fedge_models.system.settings import Positive, Seconds
from fedge_models.system.structs import known

from ..tls import client_context, present

PORTS = {"mqtt": 1883, "mqtts": 8883}


@known
class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The keys that every table with a broker has."""

    url: str  # "mqtt://host:1883", or with TLS "mqtts://host:8883"
    client_id: str = ""  # fixed, and no other client's at this broker; empty: a new one each time, without a session
    version: Literal["5", "3.1.1"] = "5"
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None  # the CA that issued the broker's certificate; without: the system's
    certificate: Path | None = None  # ours, PEM
    private_key: Path | None = None
    keepalive: Positive = Positive(10)  # a dead link is noticed within twice this
    session_expiry: Seconds = Seconds(86400)  # MQTT 5: how long the broker stores messages for us while we are away
    timeout: Positive = Positive(5)  # to connect, and for each acknowledgement


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int
    tls: bool


LONGEST_KEEPALIVE_S = 65_535  # two bytes (MQTT 5, 3.1.2.10)


def check_broker(broker: Broker, where: str) -> None:
    """Raise ConfigError for keys that contradict each other."""
    try:
        tls = address(broker).tls
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from e
    if broker.keepalive > LONGEST_KEEPALIVE_S:
        raise ConfigError(f"{where}: keepalive: expected at most {LONGEST_KEEPALIVE_S} s, got {broker.keepalive:g}")
    if broker.password_file is not None and not broker.username:
        raise ConfigError(f"{where}: password_file is given without username")
    if (broker.certificate is None) != (broker.private_key is None):
        raise ConfigError(f"{where}: certificate and private_key go together, one is missing")
    given = [key for key in ("ca_file", "certificate") if getattr(broker, key) is not None]
    if given and not tls:
        raise ConfigError(
            f"{where}: {given[0]} is given, but the url {shown(broker.url)!r} has no TLS; expected mqtts://"
        )


def address(broker: Broker) -> Address:
    """Host, port and whether to use TLS. Raises ConfigError for another kind of URL."""
    parts = split_url(broker.url, PORTS)
    if parts is None:
        raise ConfigError(f"url {shown(broker.url)!r}: expected mqtt://host:1883, or with TLS mqtts://host:8883")
    if "@" in parts.netloc:
        raise ConfigError("url holds a name or password; give username and password_file instead")
    return Address(parts.hostname or "", parts.port or PORTS[parts.scheme], parts.scheme == "mqtts")


def tls_context(broker: Broker) -> ssl.SSLContext:
    """Trust the configured CA and present our certificate. Raises ConfigError for files that cannot be used."""
    try:
        context = client_context(broker.ca_file)
    except OSError as e:
        raise ConfigError(f"{broker.ca_file}: cannot be used as CA certificates (PEM): {e.strerror or e}") from e
    context.sslsocket_class = _Socket
    if broker.certificate is not None and broker.private_key is not None:
        try:
            present(context, broker.certificate, broker.private_key)
        except OSError as e:
            pair = f"{broker.certificate}, {broker.private_key}"
            raise ConfigError(f"{pair}: cannot be used as certificate and key (PEM): {e.strerror or e}") from e
    return context


def password(broker: Broker) -> str | None:
    """Read the password, or None if no file is configured. Raises ConfigError."""
    if broker.password_file is None:
        return None
    try:
        return read_secret(broker.password_file)
    except OSError as e:
        raise ConfigError(f"{broker.password_file}: cannot be read: {e.strerror}") from e


class _Socket(ssl.SSLSocket):
    """A TLS socket that closes when its handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def session_claims(broker: Broker) -> list[str]:
    """The session at the broker that no other client may use: it would throw this one out, again and again."""
    return [f"the client id {broker.client_id!r} at {shown(broker.url)}"] if broker.client_id else []
