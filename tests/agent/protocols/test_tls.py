# SPDX-License-Identifier: Apache-2.0
"""Whose certificates are trusted does not depend on the Python, which since 3.13 is stricter by default."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import fedge_agent
import pytest
from fedge_agent.protocols.mqtt.broker import Broker, tls_context
from fedge_agent.protocols.opcua import security
from fedge_agent.protocols.tls import client_context
from fedge_agent.sources.http import HttpConfig, HttpSource
from fedge_models.errors import ConfigError


def test_a_named_ca_is_not_held_to_the_strict_rules_and_the_systems_are_held_to_the_default(tmp_path: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=plant", "-keyout", "/dev/null"]
    subprocess.run([*command, "-out", "ca.pem"], cwd=tmp_path, check=True, capture_output=True)
    named, systems = client_context(tmp_path / "ca.pem"), client_context(None)
    assert not named.verify_flags & ssl.VERIFY_X509_STRICT and len(named.get_ca_certs()) == 1
    assert systems.verify_flags == ssl.create_default_context().verify_flags
    assert named.verify_mode == systems.verify_mode == ssl.CERT_REQUIRED
    assert named.check_hostname and systems.check_hostname


def test_a_key_with_a_passphrase_is_refused_in_words_and_nobody_is_asked(tmp_path: Path) -> None:
    """OpenSSL would wait at the terminal for it."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:S3CRET", "-subj", "/CN=plant"]
    subprocess.run([*command, "-keyout", "key", "-out", "pem"], cwd=tmp_path, check=True, capture_output=True)
    certificate, key = tmp_path / "pem", tmp_path / "key"
    with pytest.raises(ConfigError, match="key has a passphrase, and nobody is there to type it"):
        tls_context(Broker(url="mqtts://x", certificate=certificate, private_key=key))
    with pytest.raises(ConfigError, match="key: the key has a passphrase"):
        security.check_key(key)
    source = HttpSource("one", HttpConfig(url="https://127.0.0.1:1/", certificate=certificate, private_key=key))
    [said] = source.check(["/a"])
    assert "the key has a passphrase" in said and "S3CRET" not in said


def test_what_is_no_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN S3CRET-----")
    with pytest.raises(ConfigError, match="key: is not a private key in DER or PEM") as caught:
        security.check_key(tmp_path / "key")
    assert "S3CRET" not in str(caught.value)


def test_every_client_of_the_agent_takes_its_context_from_there() -> None:
    """Under a Python before 3.13 no handshake shows the difference."""
    folder = Path(fedge_agent.__file__).parent
    users = {path.name for path in folder.rglob("*.py") if "create_default_context" in path.read_text()}
    assert users == {"tls.py"}
