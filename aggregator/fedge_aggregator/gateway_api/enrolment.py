# SPDX-License-Identifier: Apache-2.0
"""Invite gateways with one-time secrets, enrol them, and renew their certificates."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

import msgspec
from fedge_models.errors import ConfigError, IdentityError
from fedge_models.messages.invitation import SECRET_BYTES, Invitation, encode_invitation
from fedge_models.system import settings

from ..authority import Authority
from ..store.audit import operator, record
from ..store.store import Node, Store


def invite(
    store: Store, authority: Authority, url: str, node: str, federations: Sequence[str], expires: int, now: float
) -> str:
    """Make an invitation and return its text; the database holds only the hash of its secret.

    Raises ConfigError for a name that is not valid or taken.
    """
    settings.check_name(node, "node")
    if store.node(node) is not None:
        raise ConfigError(f"node {node!r} has joined already; choose another name")
    secret = secrets.token_bytes(SECRET_BYTES)
    with store.transaction() as db:
        wanted = msgspec.json.encode(list(federations)).decode()
        db.execute("INSERT INTO invitations VALUES (?, ?, ?, ?, NULL)", (_hash(secret), node, wanted, expires))
        record(db, now, "invite", f"to {', '.join(federations)}, by {operator()}", None, node)
    return encode_invitation(Invitation(url, authority.ca_digest, secret, expires, node))


def join(store: Store, authority: Authority, secret: bytes, request: bytes, now: float) -> tuple[str, bytes, list[str]]:
    """Spend an invitation: (node name, certificate DER, federations). Its key may ask again until it expires.

    Raises IdentityError with the reason; WireError for a bad certificate request.
    """
    with store.transaction() as db:
        sql = "SELECT node, federations, expires, spent_by FROM invitations WHERE secret = ?"
        row = db.execute(sql, (_hash(secret),)).fetchone()
        if row is None:
            raise IdentityError("this invitation is unknown here: ask the aggregator's operator for a new one")
        node, federations, expires, spent_by = row
        if now >= expires:
            raise IdentityError(f"the invitation of {node} has expired: ask for a new one")
        certificate, key = authority.issue_node(request, node)
        if spent_by not in (None, key):
            raise IdentityError(f"the invitation of {node} was used by another gateway: ask for a new one")
        known = db.execute("SELECT key, revoked FROM nodes WHERE name = ?", (node,)).fetchone()
        if known is not None and (known[0] != key or known[1] is not None):
            raise IdentityError(f"node {node} has joined already or is revoked: ask for a new invitation")
        wanted = msgspec.json.decode(federations, type=list[str])
        if known is None:
            db.execute("INSERT INTO nodes VALUES (?, ?, ?, ?, NULL, ?)", (node, key, certificate, now, now))
            db.executemany("INSERT INTO members VALUES (?, ?)", [(f, node) for f in wanted])
            db.execute("UPDATE invitations SET spent_by = ? WHERE secret = ?", (key, _hash(secret)))
            record(db, now, "join", f"to {', '.join(wanted)}", None, node)
    return node, certificate, wanted


def renew(store: Store, authority: Authority, node: Node, request: bytes, now: float) -> bytes:
    """Issue a new certificate (DER) for an enrolled node's own key. Raises IdentityError for another key, WireError."""
    certificate, key = authority.issue_node(request, node.name)
    if key != node.key:
        raise IdentityError(
            f"node {node.name}: a new key needs a new invitation; only the same key's certificate is renewed"
        )
    with store.transaction() as db:
        db.execute("UPDATE nodes SET certificate = ? WHERE name = ?", (certificate, node.name))
        record(db, now, "renew", "certificate", None, node.name)
    return certificate


def _hash(secret: bytes) -> bytes:
    """Hash a secret: its 128 random bits cannot be searched, and equal hashes are found by index."""
    return hashlib.sha256(b"fedge invitation" + secret).digest()
