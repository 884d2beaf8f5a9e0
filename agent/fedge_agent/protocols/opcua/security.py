# SPDX-License-Identifier: Apache-2.0
"""Certificates of OPC UA: ours, made at first use, and those of the servers we trust.

Promises: a secured connection is opened only to a server whose certificate, or its issuer's, lies in the trust folder.
Only an operator puts certificates there, with `fedge-agent trust` or by copying a file. That command pins a server to a
file of its own, so a certificate that changes is refused even if it is trusted for another server. A pinned certificate
that has expired is still trusted, as in the standard's trust lists; the caller reports it.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from fedge_models.errors import ConfigError
from fedge_models.system import files
from fedge_models.system.plain_file import read_plain
from fedge_models.system.secret_file import LOCKED_KEY

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

OWN, TRUSTED = "own", "trusted"  # <state>/opcua/own.der, own.key, trusted/
LIFE = timedelta(days=3650)
KEY_BITS = 2048
SUFFIXES = (".der", ".cer", ".crt", ".pem")
MAX_BYTES = 64 * 1024


class Own(NamedTuple):
    """Our certificate: files, and the application URI in it."""

    certificate: Path
    key: Path
    uri: str

    def __str__(self) -> str:
        return f"{self.certificate}, SHA-256 {fingerprint(read(self.certificate))}"


def fingerprint(der: bytes) -> str:
    """SHA-256 as certificate managers print it: pairs of hexadecimal digits."""
    from cryptography.hazmat.primitives import hashes

    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    return digest.finalize().hex(":").upper()


def own(folder: Path, uri: str) -> Own:
    """Our certificate in `folder`, made if there is none. Raises ConfigError for a certificate without `uri`."""
    certificate, key = folder / f"{OWN}.der", folder / f"{OWN}.key"
    if not (certificate.exists() and key.exists()):
        files.make_folder(folder)
        _make(certificate, key, uri or f"urn:{socket.gethostname()}:fedge-agent")
    return given(certificate, key, uri)


def given(certificate: Path, key: Path, uri: str) -> Own:
    """A certificate made elsewhere. Raises ConfigError unless it has the URI `uri`; an empty `uri` allows any."""
    found = _uris(load(certificate))
    if not found:
        raise ConfigError(f"{certificate}: has no URI among its subject alternative names, which OPC UA requires")
    if uri and uri not in found:
        raise ConfigError(
            f"{certificate}: is made for {found[0]!r}, and application_uri is {uri!r}; leave application_uri out, or "
            "delete the certificate and its key if fedge-agent made them: new ones are made"
        )
    return Own(certificate, key, uri or found[0])


def verify(shown: list[bytes], folder: Path, name: str, url: str) -> str | None:
    """Check that the server which shows this certificate (DER; its issuers after it) is trusted as `name`.

    Returns a warning for the operator, or None. Raises ConfigError if the server is not trusted.
    """
    print_, pinned = fingerprint(shown[0]), pin_file(folder, name)
    if pinned.exists() and read(pinned) != shown[0]:
        raise ConfigError(
            f"{url}: the server shows another certificate (SHA-256 {print_}) than the trusted one "
            f"({pinned}, SHA-256 {fingerprint(read(pinned))}). If its certificate was renewed, compare the fingerprint "
            f"at the server and run: fedge-agent trust {name}. If not, someone is in between"
        )
    trusted = list(certificates(folder))
    if shown[0] in trusted:
        return _expired(shown[0], url)
    if any(_issued(shown[0], other) for other in trusted):
        _fits(shown[0], name, url)
        return None
    raise ConfigError(
        f"{url}: the server's certificate (SHA-256 {print_}) is not trusted"
        + ("; no certificate is" if not trusted else "")
        + f". Compare the fingerprint at the server, then run: fedge-agent trust {name}"
    )


def pin(folder: Path, name: str, der: bytes) -> Path:
    """Store a certificate as the trusted one of `name`."""
    files.make_folder(folder)
    files.write(pin_file(folder, name), der)
    return pin_file(folder, name)


def pin_file(folder: Path, name: str) -> Path:
    """The file of the pinned certificate of a source or output."""
    return folder / f"{name}.der"


def read(path: Path) -> bytes:
    """Read a certificate (DER or PEM) as DER. Raises ConfigError."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return load(path).public_bytes(Encoding.DER)


def load(path: Path) -> Certificate:
    """Read a certificate from a DER or PEM file. Raises ConfigError."""
    from cryptography import x509

    try:
        data = read_plain(path, MAX_BYTES)
        pem = data.lstrip().startswith(b"-----")
        return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(f"{path}: is not a certificate in DER or PEM") from e


def check_key(path: Path) -> None:
    """Raise ConfigError unless the file holds a private key, in DER or PEM, that can be used without a passphrase."""
    from cryptography.hazmat.primitives import serialization

    try:
        data = read_plain(path, MAX_BYTES)
        pem = data.lstrip().startswith(b"-----")
        load_key = serialization.load_pem_private_key if pem else serialization.load_der_private_key
        load_key(data, None)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except TypeError as e:
        raise ConfigError(f"{path}: {LOCKED_KEY}") from e
    except ValueError as e:
        raise ConfigError(f"{path}: is not a private key in DER or PEM") from e


def split_chain(blob: bytes) -> list[bytes]:
    """Split what a server shows, its certificate and perhaps its issuers, into DER certificates."""
    parts = []
    while len(blob) >= 4:  # SEQUENCE with a length of two bytes: every RSA certificate has one
        end = int.from_bytes(blob[2:4], "big") + 4
        parts.append(blob[:end])
        blob = blob[end:]
    return parts


def describe(der: bytes) -> dict[str, str]:
    """What a person compares before trusting a certificate."""
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    return {
        "subject": certificate.subject.rfc4514_string(),
        "URI": ", ".join(_uris(certificate)),
        "valid": f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}",
        "SHA-256": fingerprint(der),
    }


def certificates(folder: Path) -> list[bytes]:
    """Read the certificates in a folder as DER. Raises ConfigError for a file that is not a certificate."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    return [read(path) for path in paths]


def _issued(der: bytes, by: bytes) -> bool:
    """Whether a certificate authority of the trust folder signed this certificate."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    issuer = x509.load_der_x509_certificate(by)
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        x509.load_der_x509_certificate(der).verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return bool(constraints.ca) and issuer.not_valid_after_utc > datetime.now(timezone.utc)


def _fits(der: bytes, name: str, url: str) -> None:
    """Raise ConfigError unless a certificate of a trusted authority is valid now and made for the host in the URL.

    Any device of the plant may hold such a certificate; only its name tells the PLC from the others.
    """
    from cryptography import x509

    if old := _expired(der, url):
        raise ConfigError(f"{old}; a new certificate is needed there")
    host, hosts = (urlsplit(url).hostname or "").lower(), list[str]()
    certificate = x509.load_der_x509_certificate(der)
    with suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [h.lower() for h in names.get_values_for_type(x509.DNSName)]
        hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    if host not in hosts:
        raise ConfigError(
            f"{url}: the server's certificate is of a trusted authority, but made for {', '.join(hosts) or 'no host'}"
            f" instead of {host}. Use that name in url, or compare its fingerprint and run: fedge-agent trust {name}"
        )


def _expired(der: bytes, url: str) -> str | None:
    from cryptography import x509

    certificate, now = x509.load_der_x509_certificate(der), datetime.now(timezone.utc)
    if now > certificate.not_valid_after_utc:
        return f"{url}: the server's certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if now < certificate.not_valid_before_utc:
        return f"{url}: the server's certificate is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}"
    return None


def _uris(certificate: Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def _make(certificate: Path, key: Path, uri: str) -> None:
    """Make a self-signed application instance certificate (Part 6, 6.2.2). The key is written first."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    secret, now, host = rsa.generate_private_key(65537, KEY_BITS), datetime.now(timezone.utc), socket.gethostname()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fedge-agent@{host}"[:64])])
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), x509.DNSName(host)]
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    public = secret.public_key()
    made = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number(), now - timedelta(days=1), now + LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.write(key, pem, mode=0o600)
    files.write(certificate, made.public_bytes(serialization.Encoding.DER))
