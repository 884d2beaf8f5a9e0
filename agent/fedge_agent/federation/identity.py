# SPDX-License-Identifier: Apache-2.0
"""This gateway's identity: its key, its certificate, and the keys it trusts. Made once by `join`.

The Ed25519 private key is made here and never sent; the same key opens TLS and signs updates. The aggregator's CA is
pinned by the digest in the invitation, its release key by the answer over that pinned connection. What is public is
stored twice, so that one damaged file costs no visit; the key is not.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import cbor2
import msgspec
from fedge_models.errors import ConfigError, IdentityError, StorageError, UnreachableError
from fedge_models.messages.cbor import Name, decode_cbor
from fedge_models.messages.invitation import Invitation
from fedge_models.messages.keys import private_key
from fedge_models.system import files
from fedge_models.system.http_exchange import exchange
from fedge_models.system.structs import known
from msgspec import Meta
from msgspec.structs import replace as replace_fields

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

logger = logging.getLogger(__name__)

NODE_FILES = ("node.json", "node.copy.json")
JOIN_AGAIN = "move the folder away and join again with a new invitation (fedge-aggregator invite --replace)"
TIMEOUT_S = 30.0  # of one step, such as connecting: a round trip over a satellite may take 10 s
MAX_ANSWER_BYTES = 64 * 1024


@known
class NodeFile(msgspec.Struct, frozen=True):
    """`node.json`: the aggregator's answer to joining."""

    url: str
    node: str
    federations: tuple[str, ...]
    release_key: str  # hex, 32 bytes
    renew_at: float  # Unix s: two thirds of the certificate's life
    ca: str = ""  # PEM; "" in files of versions up to 0.1
    certificate: str = ""
    digest: str = ""  # SHA-256 of the rest, hex: one flipped bit may leave JSON that reads well


@dataclass(frozen=True)
class Identity:
    """A joined gateway."""

    url: str
    node: str
    federations: tuple[str, ...]
    key: Ed25519PrivateKey
    release_key: Ed25519PublicKey
    renew_at: float
    folder: Path

    def context(self) -> ssl.SSLContext:
        """Make a TLS 1.3 context with this gateway's certificate that trusts only the pinned CA."""
        context = _client_context()
        name = "ca.pem"
        try:
            context.load_verify_locations(self.folder / name)
            name = "cert.pem"
            context.load_cert_chain(self.folder / name, self.folder / "key.pem")
        except OSError as e:  # ssl.SSLError too
            raise IdentityError(f"{self.folder / name}: cannot be used: {e}; {JOIN_AGAIN}") from e
        return context


@known
class _Answer(msgspec.Struct):
    node: Name = msgspec.field(name="1")
    certificate: Annotated[bytes, Meta(max_length=8192)] = msgspec.field(name="2")
    release_key: Annotated[bytes, Meta(min_length=32, max_length=32)] = msgspec.field(name="3")
    federations: tuple[Name, ...] = msgspec.field(name="4")


def load(state: Path) -> Identity | None:
    """Load the identity from a state folder; None before `join`.

    A damaged file is made again from the other that holds the same. Raises IdentityError when both are, or the key is.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    folder = state / "identity"
    if not any((folder / name).exists() for name in NODE_FILES):
        if (folder / "cert.pem").exists():
            raise IdentityError(f"{folder}: {' and '.join(NODE_FILES)} are gone; {JOIN_AGAIN}")
        return None
    node = _node_file(folder)
    _heal(folder / "ca.pem", node.ca)
    _heal(folder / "cert.pem", node.certificate)
    try:
        release_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(node.release_key))
    except ValueError as e:
        raise IdentityError(f"{folder / NODE_FILES[0]}: its release key is none: {e}; {JOIN_AGAIN}") from e
    if not (folder / "key.pem").exists():
        raise IdentityError(f"{folder / 'key.pem'}: is gone; {JOIN_AGAIN}")
    made = Identity(node.url, node.node, node.federations, _private_key(folder), release_key, node.renew_at, folder)
    made.context()
    if not node.digest:  # of a version up to 0.1: now that it is known to work
        ca, certificate = ((folder / name).read_text() for name in ("ca.pem", "cert.pem"))
        _store_node(folder, replace_fields(node, ca=ca, certificate=certificate), _try_write)
    return made


def try_load(state: Path) -> tuple[Identity | None, str | None]:
    """This gateway's identity, or why it cannot be used; neither before `join`."""
    try:
        return load(state), None
    except (IdentityError, ConfigError) as e:
        return None, str(e)
    except OSError as e:  # a folder that this user may not look into
        return None, files.explain(e, state, ours=state)


def without(state: Path) -> str:
    """Why an agent that was started without an identity has no aggregator."""
    joined = any((state / "identity" / name).exists() for name in NODE_FILES)
    return "joined; restart the agent to take part" if joined else "not joined"


def _node_file(folder: Path) -> NodeFile:
    """The first of the two that can be read; the other is made again from it. Raises IdentityError."""
    found: list[NodeFile] = []
    problems = []
    for name in NODE_FILES:
        try:
            node = msgspec.json.decode((folder / name).read_bytes(), type=NodeFile)
            if node.digest not in ("", _digest(node)):
                raise ValueError("it is not as it was written")
            found.append(node)
        except PermissionError as e:
            raise ConfigError(files.explain(e, folder / name)) from e
        except (OSError, ValueError, msgspec.DecodeError) as e:
            problems.append((name, e))
    if not found:
        raise IdentityError(f"{folder / NODE_FILES[0]}: cannot be read: {problems[0][1]}; {JOIN_AGAIN}")
    for name, error in problems:
        if found[0].digest:  # a version up to 0.1 wrote one
            logger.error("%s: cannot be read (%s); it is written again from its copy", folder / name, error)
            _try_write(folder / name, msgspec.json.encode(found[0]))
    return found[0]


def _heal(path: Path, copy: str) -> None:
    """Write a certificate again from its copy if it is not that. Without a copy, it has to be good."""
    try:
        if copy and path.read_bytes() != copy.encode():
            raise ValueError("it is not as it was written")
    except (OSError, ValueError) as e:
        if copy:
            logger.error("%s: cannot be used (%s); it is written again from its copy", path, e)
            _try_write(path, copy.encode())


def _try_write(path: Path, data: bytes) -> None:
    try:
        files.write(path, data)
    except StorageError as e:
        logger.error("%s", e)


def join(invitation: Invitation, state: Path) -> Identity:
    """Enrol this gateway. It may be repeated after a failure: the key stays, and its certificate is given again.

    Raises IdentityError (expired, spent, someone in between), UnreachableError.
    """
    if time.time() >= invitation.expires:
        raise IdentityError(
            f"the invitation of {invitation.node} has expired (or this clock is wrong): ask for a new one"
        )
    folder = state / "identity"
    files.make_folder(folder)
    if any((folder / name).exists() for name in NODE_FILES):
        raise IdentityError(f"{folder}: this gateway has joined already; to join again, move that folder away first")
    key = _private_key(folder)
    ca = _fetch_ca(invitation)
    answer = _post_join(invitation, ca, request(key))
    ca_pem, certificate = (ssl.DER_cert_to_PEM_cert(der) for der in (ca, answer.certificate))
    files.write(folder / "ca.pem", ca_pem.encode())
    due = _store_certificate(folder, answer.certificate, key)
    release_key = answer.release_key.hex()
    node = NodeFile(invitation.url, answer.node, answer.federations, release_key, due, ca_pem, certificate)
    _store_node(folder, node)  # last: with it, the gateway has joined
    joined = load(state)
    assert joined is not None
    return joined


def renewed(identity: Identity, certificate: bytes) -> Identity:
    """Store a new certificate (DER); return the identity with it. Raises IdentityError for one of another key."""
    due = _store_certificate(identity.folder, certificate, identity.key)
    release_key = identity.release_key.public_bytes_raw().hex()
    ca = (identity.folder / "ca.pem").read_text()
    new = ssl.DER_cert_to_PEM_cert(certificate)
    _store_node(identity.folder, NodeFile(identity.url, identity.node, identity.federations, release_key, due, ca, new))
    return replace(identity, renew_at=due)


def _store_node(folder: Path, node: NodeFile, write: Callable[[Path, bytes], None] = files.write) -> None:
    data = msgspec.json.encode(replace_fields(node, digest=_digest(node)))
    for name in reversed(NODE_FILES):  # the first one last
        write(folder / name, data)


def _digest(node: NodeFile) -> str:
    return hashlib.sha256(msgspec.json.encode(replace_fields(node, digest=""))).hexdigest()


def _store_certificate(folder: Path, der: bytes, key: Ed25519PrivateKey) -> float:
    """Write `cert.pem`; return when to renew it, Unix time in s."""
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError as e:
        raise IdentityError(f"the aggregator's answer holds no certificate: {e}") from e
    if certificate.public_key() != key.public_key():
        raise IdentityError("the aggregator's answer holds a certificate for another key")
    files.write(folder / "cert.pem", ssl.DER_cert_to_PEM_cert(der).encode())
    begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return begin + (end - begin) * 2 / 3


def connection(url: str, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    """Make a connection that opens at first use."""
    parts = urlsplit(url)
    return http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=TIMEOUT_S, context=context)


def _fetch_ca(invitation: Invitation) -> bytes:
    """Fetch the CA certificate (DER) over a connection of its own, and check it against the pinned digest."""
    unverified = _client_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE  # nothing secret is sent, and what comes back is checked by its digest
    ca = _ask(invitation.url, unverified, "GET", "/v1/ca", None)
    if hashlib.sha256(ca).digest() != invitation.ca:
        raise IdentityError(
            f"{invitation.url} is not the aggregator that wrote this invitation (its CA has another fingerprint): "
            "someone is in between, or the address has changed hands"
        )
    return ca


def _post_join(invitation: Invitation, ca: bytes, request: bytes) -> _Answer:
    verified = _client_context()
    verified.load_verify_locations(cadata=ca)
    body = cbor2.dumps({1: invitation.secret, 2: request})
    table = decode_cbor(_ask(invitation.url, verified, "POST", "/v1/join", body), "answer to join")
    try:
        pairs = {str(k): v for k, v in table.items()} if isinstance(table, dict) else table
        return msgspec.convert(pairs, _Answer, builtin_types=(bytes,))
    except msgspec.ValidationError as e:
        raise IdentityError(f"{invitation.url}: its answer to join is not understood: {e}") from e


def _ask(url: str, context: ssl.SSLContext, method: str, path: str, body: bytes | None) -> bytes:
    with closing(connection(url, context)) as ask:
        try:
            answer = exchange(ask, url, method, path, body, {}, MAX_ANSWER_BYTES)
        except UnreachableError as e:
            raise UnreachableError(f"{e}; is the aggregator running and reachable from here?") from e
    if answer.status != 200:
        raise IdentityError(f"{url} refused: {explain(answer.data) or answer.reason}")
    return answer.data


def explain(body: bytes) -> str:
    """Return the reason in an error answer of the aggregator, '' when there is none."""
    try:
        table: Any = msgspec.json.decode(body)
        return str(table["error"])[:500]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""


def request(key: Ed25519PrivateKey) -> bytes:
    """Make a PKCS#10 request that proves the key; the aggregator takes the name from the invitation."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return (
        x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None).public_bytes(Encoding.DER)
    )


def _private_key(folder: Path) -> Ed25519PrivateKey:
    return private_key(folder / "key.pem", JOIN_AGAIN)


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
