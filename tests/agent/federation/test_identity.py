# SPDX-License-Identifier: Apache-2.0
"""One damaged file of the identity is made again from its copy; where there is none, the words say what to do."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from fedge_agent.federation import identity
from fedge_models.errors import IdentityError
from fedge_models.messages.keys import private_key

PUBLIC = ("node.json", "node.copy.json", "ca.pem", "cert.pem")


def joined(state: Path, certificate_twice: bool = True) -> Path:
    """An identity folder as `join` leaves it, or as version 0.1 did."""
    folder = state / "identity"
    folder.mkdir(parents=True)
    key, ca_key, now = (
        private_key(folder / "key.pem", ""),
        Ed25519PrivateKey.generate(),
        datetime.now(timezone.utc).replace(tzinfo=None),
    )

    def certificate(of: Ed25519PrivateKey, name: str) -> bytes:
        subject, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, n)]) for n in (name, "ca"))
        made = x509.CertificateBuilder(issuer, subject, of.public_key(), x509.random_serial_number(), now)
        return made.not_valid_after(now + timedelta(days=1)).sign(ca_key, None).public_bytes(Encoding.PEM)

    ca, cert = certificate(ca_key, "ca"), certificate(key, "gw")
    (folder / "ca.pem").write_bytes(ca)
    (folder / "cert.pem").write_bytes(cert)
    node = identity.NodeFile("https://127.0.0.1:1", "gw", ("f",), bytes(32).hex(), 1e12)
    (folder / "node.json").write_bytes(msgspec.json.encode(node))
    if certificate_twice:
        assert identity.load(state) is not None  # writes the copies
    return folder


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("kind", ["empty", "garbage", "half", "gone", "a flipped bit"])
def test_one_damaged_public_file_is_written_again(tmp_path: Path, name: str, kind: str) -> None:
    path = joined(tmp_path) / name
    whole = path.read_bytes()
    flipped = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
    damaged = {"empty": b"", "garbage": b"\xfe" * 300, "half": whole[: len(whole) // 2], "a flipped bit": flipped}
    path.unlink() if kind == "gone" else path.write_bytes(damaged[kind])
    found = identity.load(tmp_path)
    assert found is not None and found.node == "gw" and isinstance(found.context(), ssl.SSLContext)
    assert path.read_bytes() == whole


def test_an_identity_of_an_earlier_version_gets_its_copies(tmp_path: Path) -> None:
    folder = joined(tmp_path, certificate_twice=False)
    assert identity.load(tmp_path) is not None
    assert all((folder / name).exists() for name in PUBLIC)


@pytest.mark.parametrize("damaged", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None])
def test_a_damaged_key_is_never_replaced_and_said(tmp_path: Path, damaged: bytes | None) -> None:
    path = joined(tmp_path) / "key.pem"
    path.unlink() if damaged is None else path.write_bytes(damaged)
    with pytest.raises(IdentityError, match=r"key\.pem: .*join again with a new invitation"):
        identity.load(tmp_path)
    assert path.exists() is (damaged is not None)


def test_another_key_than_the_certificates_is_said(tmp_path: Path) -> None:
    path = joined(tmp_path) / "key.pem"
    path.unlink()
    private_key(path, "")
    with pytest.raises(IdentityError, match=r"cert\.pem: cannot be used: .*join again"):
        identity.load(tmp_path)


def test_two_damaged_files_are_said(tmp_path: Path) -> None:
    folder = joined(tmp_path)
    for name in identity.NODE_FILES:
        (folder / name).write_bytes(b"{")
    with pytest.raises(IdentityError, match=r"node\.json: cannot be read.*join again"):
        identity.load(tmp_path)
