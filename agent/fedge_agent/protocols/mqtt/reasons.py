# SPDX-License-Identifier: Apache-2.0
"""Explain why a broker cannot be reached or refuses something: what is wrong and what to do. Pure."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from .broker import Broker

_UNKNOWN_CA = {18, 19, 20, 21}  # OpenSSL's X509_V_ERR_*: self-signed, or of an issuer that we do not know
_EXPIRED, _HOST_MISMATCH, _IP_MISMATCH = 10, 62, 64


def connect_reason(error: OSError, host: str, secure: bool) -> str:
    """Explain why connecting failed; `secure`: with TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_reason(error, host)
    if isinstance(error, ssl.SSLError) or (isinstance(error, ConnectionResetError) and secure):
        return f"no TLS ({error.strerror or error}); is this the TLS port of the broker?"
    if isinstance(error, socket.gaierror):
        return f"the name {host!r} is not known: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: no broker listens there"
    return "no answer in time" if isinstance(error, TimeoutError) else str(error.strerror or error)


def _certificate_reason(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in (_HOST_MISMATCH, _IP_MISMATCH):
        return f"the broker's certificate is not for {host!r}: use the name in the certificate"
    if error.verify_code in _UNKNOWN_CA:
        return f"the broker's certificate is of an unknown CA ({error.verify_message}); set ca_file to that CA"
    if error.verify_code == _EXPIRED:
        return "the broker's certificate has expired (or this gateway's clock is wrong)"
    return f"the broker's certificate is not accepted: {error.verify_message}"


def refusal_reason(reason: Any, broker: Broker) -> str:
    """Explain a reason code (MQTT 5, 2.4; paho maps those of 3.1.1 to them)."""
    name = reason.getName()
    who = f"user {broker.username!r}" if broker.username else "a client without username"
    reasons = {
        "Bad user name or password": f"the broker refuses {who}: wrong name or password",
        "Not authorized": f"the broker does not allow this to {who}: look at its passwords and access list",
        "Client identifier not valid": f"the broker refuses the client id {broker.client_id!r}",
        "Session taken over": f"another client connected with our id {broker.client_id!r}: give each its own client_id",
        "Unsupported protocol version": f"the broker does not speak MQTT {broker.version}; set version to the other",
        "Server unavailable": "the broker is not ready yet",
        "Server shutting down": "the broker shuts down",
        "Keep alive timeout": "the broker received nothing from us in time",
        "Packet too large": "a message of ours is too large for the broker",
        "Quota exceeded": "the broker's quota is exceeded",
    }
    return reasons.get(name, f"the broker answers: {name}")
