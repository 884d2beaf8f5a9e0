# SPDX-License-Identifier: Apache-2.0
"""Who may talk to the aggregator: invitations, revocation, certificates and their renewal."""

from __future__ import annotations

import ssl
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fedge_agent.federation import identity
from fedge_agent.federation.uplink import Uplink
from fedge_models.errors import IdentityError
from fedge_models.messages.invitation import decode_invitation, encode_invitation
from support.running_aggregator import RunningAggregator, head_of


def test_spent_invitation_is_refused_to_another_key(aggregator: RunningAggregator, tmp_path: Path) -> None:
    text = aggregator.invite("a")
    identity.join(decode_invitation(text), tmp_path / "first")
    with pytest.raises(IdentityError, match="was used by another gateway"):
        identity.join(decode_invitation(text), tmp_path / "second")


def test_join_may_be_repeated_after_a_lost_answer(aggregator: RunningAggregator, tmp_path: Path) -> None:
    text = aggregator.invite("a")
    first = identity.join(decode_invitation(text), tmp_path / "a")
    for name in identity.NODE_FILES:  # as if the answer had been lost
        (tmp_path / "a/identity" / name).unlink()
    again = identity.join(decode_invitation(text), tmp_path / "a")
    assert again.key.private_bytes_raw() == first.key.private_bytes_raw()


def test_expired_invitation_is_refused_on_both_sides(aggregator: RunningAggregator, tmp_path: Path) -> None:
    invitation = decode_invitation(aggregator.invite("a", lifetime=-5))
    with pytest.raises(IdentityError, match="expired"):
        identity.join(invitation, tmp_path / "a")
    forged = decode_invitation(encode_invitation(msgspec.structs.replace(invitation, expires=1 << 40)))
    with pytest.raises(IdentityError, match="expired"):
        identity.join(forged, tmp_path / "a")


def test_aggregator_with_another_ca_is_someone_in_between(aggregator: RunningAggregator, tmp_path: Path) -> None:
    invitation = msgspec.structs.replace(decode_invitation(aggregator.invite("a")), ca=bytes(32))
    with pytest.raises(IdentityError, match="someone is in between"):
        identity.join(invitation, tmp_path / "a")


def test_revoked_node_is_shut_out_at_once(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    link = Uplink(a)
    link.fetch_model("pumps")
    aggregator.app.store.revoke("a", time.time())
    with closing(link), pytest.raises(IdentityError, match="revoked"):
        link.fetch_model("pumps")


def test_certificate_with_another_key_is_refused(aggregator: RunningAggregator, tmp_path: Path) -> None:
    """Signed by our CA for the node's name, but the node has enrolled with another key."""
    a, key = aggregator.enrol("a"), Ed25519PrivateKey.generate()
    certificate, _ = aggregator.app.authority.issue_node(identity.request(key), "a")
    folder = tmp_path / "other"
    folder.mkdir()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, data in (("key", pem), ("cert", ssl.DER_cert_to_PEM_cert(certificate).encode())):
        (folder / f"{name}.pem").write_bytes(data)
    (folder / "ca.pem").write_bytes((a.folder / "ca.pem").read_bytes())
    link = Uplink(replace(a, key=key, folder=folder))
    with closing(link), pytest.raises(IdentityError, match="not enrolled here with this key"):
        link.fetch_model("pumps")


def test_federation_of_others_is_closed(aggregator: RunningAggregator) -> None:
    with closing(Uplink(aggregator.enrol("a"))) as link, pytest.raises(IdentityError, match="has no federation"):
        link.fetch_model("fans")


def test_certificate_is_renewed_after_two_thirds_of_its_life_and_used(aggregator: RunningAggregator) -> None:
    who = aggregator.enrol("gw1")
    before = (who.folder / "cert.pem").read_bytes()
    link = Uplink(who)
    link.keep_certificate(time.time())
    assert (who.folder / "cert.pem").read_bytes() == before
    link.keep_certificate(who.renew_at)
    assert (who.folder / "cert.pem").read_bytes() != before
    assert link.fetch_release("pumps", 0, 1 << 20)  # with the new one
    link.close()
    again = identity.load(aggregator.folder / "gw1")
    assert again is not None and again.renew_at > time.time()


def test_certificate_is_not_renewed_for_another_key(aggregator: RunningAggregator) -> None:
    link = Uplink(replace(aggregator.enrol("gw1"), renew_at=0.0, key=Ed25519PrivateKey.generate()))
    with pytest.raises(IdentityError, match="same key"):
        link.keep_certificate(time.time())
    link.close()


def test_listener_gets_a_fresh_certificate_while_it_runs(aggregator: RunningAggregator) -> None:
    authority = aggregator.app.authority
    [path] = list((aggregator.folder / "state").rglob("server.pem"))
    old = path.read_bytes()
    authority.refresh(aggregator.app._server.context, ["127.0.0.1", "agg.example"])  # another name: as good as expired
    assert path.read_bytes() != old
    assert head_of(aggregator.enrol("gw1")).header.version == 1


def test_certificates_of_both_ends_pass_strict_verification(aggregator: RunningAggregator) -> None:
    """RFC 5280 to the letter, which is the default of Python 3.13: whoever looks at them with a tool of theirs."""
    client, server = aggregator.enrol("gw1").context(), aggregator.app.authority.server_context(["127.0.0.1"])
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (client, server):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (ours, theirs, ours):  # hello, certificate, certificate
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    theirs.do_handshake()
    assert theirs.getpeercert() and ours.getpeercert()
