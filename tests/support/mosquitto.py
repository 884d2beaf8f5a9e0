# SPDX-License-Identifier: Apache-2.0
"""A real mosquitto on free ports of the loopback: password and access list, the same with TLS, client certificates."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.counterparts import program
from support.programs import free_port
from support.waiting import LONGEST_S, until

MAX_PACKET_BYTES = 1 << 26  # some tests send more than mosquitto 2.1 accepts by default
PASSWORD = "pass word"
ACL = """user gw
topic readwrite plant/#
topic readwrite spBv1.0/#
user operator
topic readwrite #
"""


class Authority:
    """A small CA that writes PEM files into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _certificate(name, self.key, None, self.key)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """(certificate, key) for a server's hosts, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, self.certificate, self.key, hosts)
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem = serialization.PrivateFormat.PKCS8
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption()))
        return files


class Mosquitto:
    """A broker that can be stopped and started again on the same ports; its sessions lie in its folder."""

    def __init__(self, folder: Path, more: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.port, self.tls, self.mutual = folder, free_port(), free_port(), free_port()
        self.authority = Authority(folder)
        certificate, key = self.authority.issue("broker", "localhost")
        (folder / "gw.password").write_text(PASSWORD + "\n")
        (folder / "acl").write_text(ACL)
        for user in ("gw", "operator"):
            create = ["-c"] if user == "gw" else []
            command = [program("mosquitto_passwd"), *create, "-b", str(folder / "passwords"), user, PASSWORD]
            subprocess.run(command, check=True, capture_output=True)
        tls = f"cafile {self.authority.file}\ncertfile {certificate}\nkeyfile {key}\n"
        open_ = f"password_file {folder / 'passwords'}\nacl_file {folder / 'acl'}\nallow_anonymous false\n"
        (folder / "mosquitto.conf").write_text(
            f"per_listener_settings true\npersistence true\npersistence_location {folder}/\n{more}\n"
            f"max_packet_size {MAX_PACKET_BYTES}\n"
            f"user root\nlistener {self.port} 127.0.0.1\n{open_}"
            f"listener {self.tls} 127.0.0.1\n{open_}{tls}"
            f"listener {self.mutual} 127.0.0.1\n{tls}require_certificate true\nuse_identity_as_username true\n"
            f"acl_file {folder / 'acl'}\n"
        )
        self.start()

    def __enter__(self) -> Mosquitto:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it listens."""
        command = [program("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for port in (self.port, self.tls, self.mutual):
            until(partial(self._listens_or_ended, port), self.log)
        assert self._process.poll() is None, self.log()

    def _listens_or_ended(self, port: int) -> bool:
        return _listens(port) or self._process.poll() is not None

    def stop(self) -> None:
        """SIGTERM: it writes its sessions. Does nothing where it has ended."""
        self._process.terminate()
        self._process.wait(LONGEST_S)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait(LONGEST_S)

    def log(self) -> str:
        """The text of its log."""
        return (self.folder / "mosquitto.log").read_text()

    @property
    def keys(self) -> dict[str, Any]:
        """Keys of a table that reaches the listener with password."""
        return {"url": f"mqtt://127.0.0.1:{self.port}", "username": "gw", "password_file": self.folder / "gw.password"}


def _listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    hosts: tuple[str, ...] = (),
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    if hosts:
        names = [x509.IPAddress(ipaddress.ip_address(h)) if h[0].isdigit() else x509.DNSName(h) for h in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())
