"""Why a broker cannot be reached or says no, in the operator's words: what is wrong and what to do. Pure."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from .broker import Broker

_UNKNOWN_CA = {18, 19, 20, 21}  # OpenSSL's X509_V_ERR_*: self-signed, or no issuer that we know
_EXPIRED, _HOST_MISMATCH, _IP_MISMATCH = 10, 62, 64


def connect_reason(error: OSError, host: str, secure: bool) -> str:
    """Why no connection came about; `secure`: it was to be TLS."""
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
        return f"the broker's certificate is not for {host!r}: use the name that is in it"
    if error.verify_code in _UNKNOWN_CA:
        return f"the broker's certificate is of an unknown CA ({error.verify_message}); set ca_file to its CA"
    if error.verify_code == _EXPIRED:
        return "the broker's certificate has expired (or this gateway's clock is wrong)"
    return f"the broker's certificate is not accepted: {error.verify_message}"


def refusal_reason(reason: Any, broker: Broker) -> str:
    """A reason code (MQTT 5, 2.4; paho gives 3.1.1's as these) for the operator."""
    name = reason.getName()
    who = f"user {broker.username!r}" if broker.username else "a client without username"
    reasons = {
        "Bad user name or password": f"the broker refuses {who}: wrong name or password",
        "Not authorized": f"the broker does not allow this to {who}: look at its passwords and access list",
        "Client identifier not valid": f"the broker refuses the client id {broker.client_id!r}",
        "Session taken over": f"another client has come with our id {broker.client_id!r}: give each its own client_id",
        "Unsupported protocol version": f"the broker does not speak MQTT {broker.version}; set version to the other",
        "Server unavailable": "the broker is not ready yet",
        "Server shutting down": "the broker shuts down",
        "Keep alive timeout": "the broker heard nothing from us in time",
        "Packet too large": "the broker finds a message of ours too large",
        "Quota exceeded": "the broker's quota is exceeded",
    }
    return reasons.get(name, f"the broker says: {name}")
