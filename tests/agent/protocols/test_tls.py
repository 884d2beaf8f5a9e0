# SPDX-License-Identifier: Apache-2.0
"""Whose certificates are trusted does not depend on the Python, which since 3.13 is stricter by default."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import fedge_agent
from fedge_agent.protocols.tls import client_context


def test_a_named_ca_is_not_held_to_the_strict_rules_and_the_systems_are_held_to_the_default(tmp_path: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=plant", "-keyout", "/dev/null"]
    subprocess.run([*command, "-out", "ca.pem"], cwd=tmp_path, check=True, capture_output=True)
    named, systems = client_context(tmp_path / "ca.pem"), client_context(None)
    assert not named.verify_flags & ssl.VERIFY_X509_STRICT and len(named.get_ca_certs()) == 1
    assert systems.verify_flags == ssl.create_default_context().verify_flags
    assert named.verify_mode == systems.verify_mode == ssl.CERT_REQUIRED
    assert named.check_hostname and systems.check_hostname


def test_every_client_of_the_agent_takes_its_context_from_there() -> None:
    """Under a Python before 3.13 no handshake shows the difference."""
    folder = Path(fedge_agent.__file__).parent
    users = {path.name for path in folder.rglob("*.py") if "create_default_context" in path.read_text()}
    assert users == {"tls.py"}
