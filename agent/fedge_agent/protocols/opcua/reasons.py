# SPDX-License-Identifier: Apache-2.0
"""Explain what went wrong with an OPC UA server: one table from exceptions to what the operator can do. Pure.

The first pattern that fits "TypeName: message" counts, so the order matters. Messages spell a status code as the
standard does, so that the operator can search the server's manual for it.
"""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple

from fedge_models.errors import ConfigError, FedgeError, UnreachableError
from fedge_models.system.text import printable


class Facts(NamedTuple):
    """What a message may name."""

    url: str
    security: str = "None"
    user: str = ""  # "" : anonymous
    ours: str = ""  # our certificate: its file and fingerprint
    timeout: float = 0.0  # s, of each call


TRUST_US = (
    "the server does not trust our certificate ({ours}): in the server's certificate list, move it from rejected to "
    "trusted"
)
CLOSED = (
    "the server closed the connection while the secure channel was opened; it probably does not trust our certificate "
    "yet ({ours}): in the server's certificate list, move it from rejected to trusted"
)
TABLE: tuple[tuple[str, type[FedgeError], str], ...] = (
    (
        r"BadCertificateUriInvalid",
        ConfigError,
        (
            "the server finds another URI in our certificate ({ours}) than our "
            "application_uri; leave application_uri out, then it is taken from the certificate"
        ),
    ),
    (
        r"BadCertificate(Issuer)?TimeInvalid",
        ConfigError,
        (
            "the server finds that our certificate ({ours}) has expired "
            "or is not valid yet; compare the clocks of both, or delete the file and its .key: a new one is made"
        ),
    ),
    (
        r"BadCertificate(Issuer)?(Revoked|RevocationUnknown)",
        ConfigError,
        ("the server finds our certificate ({ours}) revoked, or cannot check it; ask its administrator why"),
    ),
    (
        r"BadCertificateUseNotAllowed|BadCertificatePolicyCheckFailed|BadCertificateHostNameInvalid",
        ConfigError,
        (
            "the server does not allow our certificate ({ours}) for this: {error}; give it one made by its own "
            "rules with certificate and private_key"
        ),
    ),
    (r"BadCertificate\w+|BadSecurityChecksFailed", ConfigError, TRUST_US),
    (r"AssertionError", UnreachableError, CLOSED),
    (
        r"Bad(SecurityPolicyRejected|SecurityMode\w+)|No matching endpoints",
        ConfigError,
        "the server does not offer security {security!r}; its manual or `fedge-agent trust` says what it offers",
    ),
    (
        r"Server certificate mismatch|InvalidSignature",
        ConfigError,
        (
            "the server does not hold the key of the certificate that it shows: someone is in between, or the server "
            "was restarted with a new certificate just now"
        ),
    ),
    (
        r"public_key",
        ConfigError,
        (
            "the server wants the password encrypted but shows no certificate to encrypt it for; "
            'use a security other than "None"'
        ),
    ),
    (
        r"Bad(UserAccessDenied|IdentityTokenRejected|IdentityTokenInvalid|UserSignatureInvalid)",
        ConfigError,
        (
            "the server refuses {user}; check name and password, or the user's certificate, and whether the server "
            "allows that kind of user with security {security!r}"
        ),
    ),
    (
        r"BadTooManySessions|BadTcpNotEnoughResources|BadTcpServerTooBusy|BadTooManyPublishRequests|BadOutOfMemory",
        UnreachableError,
        "the server has no room for another client ({error}); end one, or raise its limit of sessions",
    ),
    (
        r"BadTooManySubscriptions|BadTooManyMonitoredItems",
        ConfigError,
        ("the server has no room for so many tags ({error}); ask for fewer, or raise its limit"),
    ),
    (
        r"BadTcpEndpointUrlInvalid|BadServerUriInvalid",
        ConfigError,
        ("the server does not know this address; use the one that it announces, path included"),
    ),
    (
        r"BadServerHalted|BadShutdown|BadServerNotConnected|BadOutOfService",
        UnreachableError,
        "the server is starting or shutting down ({error})",
    ),
    (r"BadLicense\w*", ConfigError, "the server's licence does not allow it ({error})"),
    (
        r"BadTcpMessage\w+|BadProtocolVersionUnsupported|Not ?Enough ?Data|Unsupported message",
        ConfigError,
        "the program that listens there does not speak OPC UA over TCP ({error}); is it the right port?",
    ),
    (
        r"ConnectionRefusedError|Connect call failed",
        UnreachableError,
        ("nothing listens there; is the server running, and the port right?"),
    ),
    (r"gaierror|Name or service not known", UnreachableError, "no such host; check the name, or give its address"),
    (
        r"TimeoutError|BadTimeout|BadRequestTimeout",
        UnreachableError,
        ("no answer in time: none in {timeout:g} s (timeout); is the server reachable, and no firewall in between?"),
    ),
    (
        (
            r"Connection(Reset)?(Aborted)?Error|connection lost|Connection is closed|client is disconnect|"
            r"BadConnectionClosed|BadSecureChannel\w+|BadSession\w+|BrokenPipe"
        ),
        UnreachableError,
        "connection lost ({error})",
    ),
)


def explain(error: BaseException, facts: Facts) -> FedgeError:
    """Convert an exception to an error of ours; one that is not in the table may heal."""
    if isinstance(error, FedgeError):
        return error
    message = str(error).split("(", 1)[0].strip() if type(error).__name__.startswith("Bad") else str(error)
    name = "TimeoutError" if isinstance(error, asyncio.TimeoutError) else type(error).__name__
    short = name if not message or name.startswith("Bad") else message
    for pattern, kind, template in TABLE:
        if re.search(pattern, f"{name}: {message}"):
            ours, user = facts.ours or "none", f"user {facts.user!r}" if facts.user else "a client without a user name"
            text = template.format(ours=ours, security=facts.security, user=user, error=short, timeout=facts.timeout)
            named = f" [{name}]" if name.startswith("Bad") and name not in text else ""
            return kind(printable(f"{facts.url}: {text}{named}"))
    return UnreachableError(printable(f"{facts.url}: {short}"))


def no_answer(facts: Facts) -> str:
    """What to say of a server that was connected and answers no more."""
    return f"{facts.url}: the server stopped answering: nothing came for {facts.timeout:g} s (timeout)"
