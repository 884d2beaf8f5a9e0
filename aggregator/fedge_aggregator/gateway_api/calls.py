# SPDX-License-Identifier: Apache-2.0
"""The calls of gateways, independent of HTTP: who calls, whether they may, and the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import cbor2
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID
from fedge_models.errors import IdentityError, RefusedError
from fedge_models.messages.cbor import decode_cbor
from fedge_models.system.structs import known
from msgspec import Meta

from ..authority import Authority
from ..federation.federation import Federation
from ..metrics import Metrics
from ..store.store import Node, Store
from . import enrolment


@known
class _Join(msgspec.Struct, forbid_unknown_fields=True):
    secret: Annotated[bytes, Meta(min_length=16, max_length=16)] = msgspec.field(name="1")
    request: Annotated[bytes, Meta(max_length=4096)] = msgspec.field(name="2")


class Calls:
    """The calls of gateways. Thread-safe."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        federation: Callable[[str], Federation | None],
        arrived: Callable[[str], None],
        metrics: Metrics,
    ) -> None:
        self._store, self._authority, self._federation, self._arrived = store, authority, federation, arrived
        self.metrics = metrics
        self._seen: dict[str, tuple[float, float]] = {}  # node -> Unix time, monotonic time, s
        self._lock = threading.Lock()

    def authority_certificate(self) -> bytes:
        """The CA certificate (DER), for anyone: the caller compares it with the digest in the invitation."""
        return self._authority.ca_der

    def join(self, body: bytes) -> bytes:
        """Spend an invitation. Raises IdentityError or WireError."""
        table = decode_cbor(body, "join request")
        try:
            pairs = {str(k): v for k, v in table.items()} if isinstance(table, dict) else table
            asked = msgspec.convert(pairs, _Join, builtin_types=(bytes,))
        except msgspec.ValidationError as e:
            raise RefusedError(f"join request: {e}") from e
        name, certificate, federations = enrolment.join(
            self._store, self._authority, asked.secret, asked.request, time.time()
        )
        for federation in federations:
            self._arrived(federation)  # a round that had too few nodes to ask may begin
        return cbor2.dumps({1: name, 2: certificate, 3: self._authority.release_public, 4: federations})

    def renew(self, node: Node, request: bytes) -> bytes:
        """Issue a new certificate (DER) for the node's PKCS#10 request. Raises IdentityError or WireError."""
        return enrolment.renew(self._store, self._authority, node, request, time.time())

    def authenticate(self, certificate: bytes | None) -> Node:
        """The enrolled node whose certificate TLS has verified. Raises IdentityError."""
        if certificate is None:
            raise IdentityError("a client certificate is needed: join with an invitation first")
        name, key = _holder(certificate)
        node = self._store.node(name)
        if node is None or key != node.key:
            raise IdentityError(f"node {name!r} is not enrolled here with this key: join with a new invitation")
        if node.revoked is not None:
            raise IdentityError(f"node {name!r} is revoked: ask the aggregator's operator")
        with self._lock:
            self._seen[name] = time.time(), time.monotonic()
        return node

    def federation(self, name: str, node: Node) -> Federation:
        """The federation, if the node is a member. Raises IdentityError, which does not reveal whether it exists."""
        found = self._federation(name) if name in self._store.federations_of(node.name) else None
        if found is None:
            raise IdentityError(f"node {node.name!r} has no federation {name!r}, or it has no model yet")
        return found

    def model(self, federation: Federation) -> bytes:
        """The federation's ONNX file."""
        return self._store.model_file(federation.name)

    def update(self, federation: Federation, node: Node, body: bytes) -> None:
        """Admit an update; it is durable when this returns. Raises RefusedError and its kinds, StorageError."""
        if federation.admit(node, body, time.time()):
            self._arrived(federation.name)

    def statistics(self, federation: Federation, node: Node, body: bytes) -> None:
        """Admit a site's statistics; they are durable when this returns. Raises as `Federation.admit_statistics`."""
        federation.admit_statistics(node, body, time.time())

    def last_seen(self) -> dict[str, float]:
        """When each node was last heard from since the start, Unix time, s."""
        with self._lock:
            return {name: seen[0] for name, seen in self._seen.items()}

    def silent_for(self) -> dict[str, float]:
        """How long each node that was heard from since the start is silent, s; changes of the clock do not matter."""
        now = time.monotonic()
        with self._lock:
            return {name: now - seen[1] for name, seen in self._seen.items()}


@lru_cache(maxsize=4096)
def _holder(certificate: bytes) -> tuple[str, bytes | None]:
    """Name and Ed25519 key of a certificate (DER); cached, because each request of a connection presents the same."""
    parsed = x509.load_der_x509_certificate(certificate)
    name = str(parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    key = parsed.public_key()
    return name, key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None
