# SPDX-License-Identifier: Apache-2.0
"""TLS to the systems of a plant: under every Python the same certificates are trusted."""

from __future__ import annotations

import errno
import ssl
from pathlib import Path

from fedge_models.system.secret_file import LOCKED_KEY


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """Trust the CA of `ca_file`, or the system's CAs where there is none. Raises OSError for a file that is not PEM.

    Since 3.13 Python refuses by default what RFC 5280 forbids (VERIFY_X509_STRICT), such as a CA certificate without
    key usage, which is what `openssl req -x509` makes. A CA that the configuration names is trusted for all it signs,
    so these rules protect nobody there, while a gateway's new system would lose its MES or broker. The system's CAs
    are held to Python's default.
    """
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    if ca_file is not None:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def present(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Show our certificate to servers that ask for one. Raises OSError for files that are no pair, ssl.SSLError too."""

    def refuse() -> str:  # without it OpenSSL asks at the terminal, and the gateway waits for an answer for ever
        raise OSError(errno.EACCES, LOCKED_KEY, str(key or certificate))

    context.load_cert_chain(certificate, key, password=refuse)
