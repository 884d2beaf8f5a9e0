# SPDX-License-Identifier: Apache-2.0
"""The aggregator's certificate authority, and the key that signs releases.

All keys are Ed25519 (RFC 8410). Private keys are files of mode 0600 in a folder of mode 0700. Names on a certificate
come from the invitation or the configuration, never from the request.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from fedge_models.errors import IdentityError, WireError
from fedge_models.messages.keys import private_key
from fedge_models.system import files

CA_DAYS, SERVER_DAYS = 20 * 365, 365
NODE_DAYS = 3 * 365  # a gateway renews after two thirds; one that was off for longer needs a new invitation
CLOCK_SLACK = datetime.timedelta(days=1)  # gateways without a battery-backed clock start in the past
SERVER_RENEW_DAYS = 90


class Authority:
    """The keys and certificates in `folder`, made at first use."""

    def __init__(self, folder: Path) -> None:
        files.make_folder(folder)
        self._folder = folder
        self._ca_key = _key(folder / "ca.key")
        self.release_key = _key(folder / "release.key")
        path = folder / "ca.pem"
        if not path.exists():
            files.write(path, self._make_ca().public_bytes(serialization.Encoding.PEM))
        try:
            self._ca = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as e:
            raise IdentityError(f"{path}: cannot be read as a certificate: {e}; restore it from the backup") from e
        self.ca_der = self._ca.public_bytes(serialization.Encoding.DER)

    @property
    def ca_digest(self) -> bytes:
        """SHA-256 of the CA certificate's DER: what invitations pin."""
        return hashlib.sha256(self.ca_der).digest()

    @property
    def release_public(self) -> bytes:
        """The public key of releases, 32 bytes, which nodes pin when they join."""
        return self.release_key.public_key().public_bytes_raw()

    def server_context(self, addresses: Sequence[str]) -> ssl.SSLContext:
        """TLS 1.3 for the listener: a certificate for `addresses`, and only this authority's client certificates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(self._folder / "ca.pem")
        self.refresh(context, addresses)
        return context

    def refresh(self, context: ssl.SSLContext, addresses: Sequence[str]) -> None:
        """Load the listener's certificate for new connections; a new one if it ends soon or the addresses changed."""
        self._ensure_server(addresses)
        context.load_cert_chain(self._folder / "server.pem", self._folder / "server.key")

    def issue_node(self, request: bytes, name: str) -> tuple[bytes, bytes]:
        """Issue a node's certificate for a PKCS#10 request: (certificate DER, public key).

        Raises WireError for a request that does not prove an Ed25519 key.
        """
        try:
            csr = x509.load_der_x509_csr(request)
            key = csr.public_key()
            proven = csr.is_signature_valid
        except (ValueError, InvalidSignature) as e:
            raise WireError(f"certificate request of {name}: {e}") from e
        if not isinstance(key, Ed25519PublicKey) or not proven:
            raise WireError(f"certificate request of {name}: expected a request signed by its own Ed25519 key")
        certificate = self._issue(name, key, NODE_DAYS, ExtendedKeyUsageOID.CLIENT_AUTH, [])
        return certificate.public_bytes(serialization.Encoding.DER), key.public_bytes_raw()

    def _make_ca(self) -> x509.Certificate:
        name = _name("fedge aggregator CA")
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._ca_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SLACK)
            .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._ca_key.public_key()), critical=False)
            .sign(self._ca_key, None)
        )

    def _ensure_server(self, addresses: Sequence[str]) -> None:
        path, names = self._folder / "server.pem", [_general_name(a) for a in addresses]
        if path.exists() and _is_valid_for(path, names):
            return
        key = _key(self._folder / "server.key")
        certificate = self._issue(addresses[0], key.public_key(), SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, names)
        files.write(path, certificate.public_bytes(serialization.Encoding.PEM))

    def _issue(
        self,
        name: str,
        key: Ed25519PublicKey,
        days: int,
        usage: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName],
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._ca.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SLACK)
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key()), critical=False
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._ca_key, None)


def _key(path: Path) -> Ed25519PrivateKey:
    return private_key(path, "restore it from the backup")


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _is_valid_for(path: Path, names: Sequence[x509.GeneralName]) -> bool:
    """Whether a certificate is for these names and does not end soon; a damaged one is not."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        return False
    have = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    return list(have) == list(names) and left.days > SERVER_RENEW_DAYS


def _usage(sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
