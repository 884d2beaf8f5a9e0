# SPDX-License-Identifier: Apache-2.0
"""How OPC UA tags are written, and the message for each error: tables, no server."""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from fedge_agent.protocols.opcua import security, tree
from fedge_agent.protocols.opcua.connection import ConnectionConfig, Connector
from fedge_agent.protocols.opcua.readings import reading
from fedge_agent.protocols.opcua.reasons import Facts, explain
from fedge_agent.protocols.opcua.tags import Element, dig, parse, path_text
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.types import Quality
from fedge_models.errors import ConfigError, RetryError, UnreachableError

URL = "opc.tcp://192.0.2.1:4840"
FACTS = Facts(URL, "Basic256Sha256/Sign", "op", "/s/own.der, SHA-256 AA:BB")


def bad(name: str) -> ua.UaStatusCodeError:
    return ua.UaStatusCodeError(getattr(ua.StatusCodes, name))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (AssertionError(), UnreachableError, "probably does not trust our certificate yet (/s/own.der, SHA-256 AA:BB)"),
        (bad("BadSecurityChecksFailed"), ConfigError, "move it from rejected to trusted [BadSecurityChecksFailed]"),
        (bad("BadCertificateUntrusted"), ConfigError, "move it from rejected to trusted"),
        (bad("BadCertificateUriInvalid"), ConfigError, "leave application_uri out"),
        (bad("BadCertificateTimeInvalid"), ConfigError, "compare the clocks"),
        (bad("BadCertificateRevoked"), ConfigError, "revoked"),
        (bad("BadCertificateUseNotAllowed"), ConfigError, "does not allow our certificate"),
        (bad("BadSecurityPolicyRejected"), ConfigError, "does not offer security 'Basic256Sha256/Sign'"),
        (ua.UaError("No matching endpoints: 2, http://x"), ConfigError, "does not offer security"),
        (ua.UaError("Server certificate mismatch"), ConfigError, "someone is in between"),
        (InvalidSignature(), ConfigError, "someone is in between"),
        (AttributeError("'NoneType' object has no attribute 'public_key'"), ConfigError, "the password encrypted"),
        (bad("BadUserAccessDenied"), ConfigError, "refuses user 'op'; check name and password"),
        (bad("BadIdentityTokenRejected"), ConfigError, "refuses user 'op'"),
        (bad("BadTooManySessions"), UnreachableError, "no room for another client"),
        (bad("BadTooManyMonitoredItems"), ConfigError, "no room for so many tags"),
        (bad("BadTcpEndpointUrlInvalid"), ConfigError, "does not know this address"),
        (bad("BadShutdown"), UnreachableError, "starting or shutting down"),
        (bad("BadLicenseExpired"), ConfigError, "licence"),
        (bad("BadTcpMessageTypeInvalid"), ConfigError, "does not speak OPC UA"),
        (ConnectionRefusedError(111, "Connect call failed"), UnreachableError, "nothing listens there"),
        (OSError("[Errno -2] Name or service not known"), UnreachableError, "no such host"),
        (asyncio.TimeoutError(), UnreachableError, "no answer in time"),
        (bad("BadTimeout"), UnreachableError, "no answer in time"),
        (ConnectionError("Connection is closed"), UnreachableError, "connection lost (Connection is closed)"),
        (bad("BadSessionClosed"), UnreachableError, "connection lost"),
        (bad("BadInternalError"), UnreachableError, "BadInternalError"),
        (ValueError("odd"), UnreachableError, "odd"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Exception) else None,
)
def test_errors_in_the_operators_words(error: Exception, kind: type, words: str) -> None:
    explained = explain(error, FACTS)
    assert type(explained) is kind and str(explained).startswith(URL) and words in str(explained), explained


def test_an_anonymous_client_is_reported_as_one() -> None:
    assert "refuses a client without a user name" in str(explain(bad("BadIdentityTokenRejected"), Facts(URL)))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"security": "Basic256Sha256"}, "expected"),
        ({"security": "Basic256Sha256/Encrypt"}, "Sign or SignAndEncrypt"),
        ({"security": "Basic128Rsa15/Sign"}, "Aes256Sha256RsaPss"),
        ({"url": "http://plc"}, "opc.tcp://"),
        ({"url": "opc.tcp://op:secret@192.0.2.1"}, "give username and password_file"),
        ({"certificate": Path("a")}, "certificate and private_key go together"),
        ({"user_private_key": Path("a")}, "user_certificate and user_private_key go together"),
        ({"username": "a", "user_certificate": Path("a"), "user_private_key": Path("b")}, "takes one of them"),
        ({"deadband": "2 percent"}, "2%"),
        ({"deadband": "200%"}, "2%"),
        ({"deadband": -1.0}, "not negative"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_work_are_refused_before_a_socket_opens(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("%", r"\%")):
        OpcuaSource("plc", OpcuaConfig(**{"url": URL, **config}))


def test_security_without_a_state_folder_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match="state folder"):
        OpcuaSource("plc", OpcuaConfig(URL, security="Basic256Sha256/Sign")).connector.own()


@pytest.mark.parametrize(
    ("text", "node", "path", "field"),
    [
        ("ns=2;s=Pump1.Current", "ns=2;s=Pump1.Current", (), ()),
        ("i=2258", "i=2258", (), ()),
        ("nsu=urn:plc;i=7", "nsu=urn:plc;i=7", (), ()),
        ("ns=2;s=X#Axis.Rms", "ns=2;s=X", (), ("Axis", "Rms")),
        ("ns=2;s=X#[3]", "ns=2;s=X", (), (3,)),
        ("ns=2;s=X#Peaks[0].Height", "ns=2;s=X", (), ("Peaks", 0, "Height")),
        ("ns=2;s=A#B#", "ns=2;s=A#B", (), ()),
        ("Pump1/Current", "", (Element(None, "Pump1"), Element(None, "Current")), ()),
        ("2:Pump*/Current", "", (Element(2, "Pump*", True), Element(None, "Current")), ()),
        ("/Objects/2:Pump1", "", (Element(0, "Objects"), Element(2, "Pump1")), ()),
        ("A&/B/C&*", "", (Element(None, "A/B"), Element(None, "C*")), ()),
        ("DB1:X/Y#Z", "", (Element(None, "DB1:X"), Element(None, "Y")), ("Z",)),
    ],
)
def test_tags_are_taken_apart(text: str, node: str, path: tuple[Element, ...], field: tuple[str | int, ...]) -> None:
    tag = parse(text)
    assert (tag.text, tag.node, tag.path, tag.field) == (text, node, path, field)


@pytest.mark.parametrize("text", ["", "/", "a//b", "ns=2", "x=3", "#Field", "ns=2;s=X#a..b", "/Objects/2:Pump*", "a/"])
def test_malformed_tags_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected|Pump"):
        parse(text)


def test_a_written_path_is_read_as_it_was() -> None:
    written = path_text(((0, "Objects"), (3, "A/B"), (2, "x.#y")))
    assert [(e.space, e.name) for e in parse(written + "#").path] == [(0, "Objects"), (3, "A/B"), (2, "x.#y")]


def test_patterns_fit_names_of_any_or_one_namespace() -> None:
    some, two = parse("Pump?/x").path[0], parse("2:Pump?/x").path[0]
    assert some.fits(5, "Pump1") and not some.fits(5, "Pump10") and two.fits(2, "Pump1") and not two.fits(5, "Pump1")


def test_what_lies_inside_a_value_or_what_is_there_instead() -> None:
    info = ua.BuildInfo(ProductName="p")
    assert dig([info], (0, "ProductName")) == "p"
    for field, words in (((1,), "has 1 elements"), ((0, "Nam"), "it has ProductUri"), (("x",), "no fields")):
        with pytest.raises(LookupError, match=words):
            dig([info], field)


@pytest.mark.parametrize(
    ("value", "code", "quality"),
    [
        (None, 0, Quality.BAD),
        (b"\x00", 0, Quality.BAD),
        ([["a"], 1.0], 0, Quality.BAD),
        (["x"], 0, Quality.BAD),
        (ua.BuildInfo(), 0, Quality.BAD),
        ([1.0], ua.StatusCodes.BadSensorFailure, Quality.BAD),
        (1.0, ua.StatusCodes.UncertainLastUsableValue, Quality.UNCERTAIN),
        (1.0, 0xC0000000, Quality.BAD),  # reserved severity counts as bad
        (True, 0, Quality.GOOD),
    ],
)
def test_malformed_values_are_bad_readings(value: Any, code: int, quality: Quality) -> None:
    variant = SimpleNamespace(Value=value, Dimensions=None)
    data = SimpleNamespace(StatusCode=ua.StatusCode(code), SourceTimestamp=None, ServerTimestamp=None, Value=variant)
    assert reading("t", (), data, 0).quality is quality


def test_our_certificate_is_made_once_and_carries_the_application_uri(tmp_path: Path) -> None:
    config = ConnectionConfig(URL, security="Basic256Sha256/Sign")
    own = Connector("plc", config, tmp_path).own()
    assert own == Connector("plc", config, tmp_path).own() and own.key.stat().st_mode & 0o777 == 0o600
    assert own.uri.startswith("urn:") and own.uri in security.describe(security.read(own.certificate))["URI"]
    other = ConnectionConfig(URL, security="Basic256Sha256/Sign", application_uri="urn:other")
    with pytest.raises(ConfigError, match="leave application_uri out"):
        Connector("plc", other, tmp_path).own()


def test_trust_is_what_an_operator_put_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "trusted"
    first, second = (security.read(security.own(tmp_path / n, "urn:x").certificate) for n in "ab")
    with pytest.raises(ConfigError, match=r"no certificate is.*fedge-agent trust plc"):
        security.verify([first], folder, "plc", URL)
    security.pin(folder, "plc", first)
    assert security.verify([first], folder, "plc", URL) is None
    assert security.verify([first], folder, "other", URL) is None
    security.pin(folder, "other", second)
    with pytest.raises(ConfigError, match=r"another certificate .* than the trusted one .*trust plc"):
        security.verify([second], folder, "plc", URL)
    (folder / "x.der").write_bytes(b"no certificate")
    with pytest.raises(ConfigError, match=r"x\.der: is not a certificate"):
        security.verify([first], folder, "plc", URL)


def certificate(names: list[x509.GeneralName], issuer: tuple[Any, Any] | None, ca: bool, days: int = 10) -> Any:
    """(certificate, key), signed by `issuer` or by itself; ends `days` from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA" if ca else "plc")])
    above = issuer[0].subject if issuer else name
    made = x509.CertificateBuilder(
        above, name, key.public_key(), 1, now - timedelta(days=20), now + timedelta(days=days)
    ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def test_an_authoritys_certificate_is_trusted_for_its_own_host_only(tmp_path: Path) -> None:
    authority = certificate([], None, ca=True)
    security.pin(tmp_path, "plant-ca", authority[0].public_bytes(Encoding.DER))

    def verify(names: list[x509.GeneralName], issuer: tuple[Any, Any], days: int = 10) -> str | None:
        der = certificate(names, issuer, ca=False, days=days)[0].public_bytes(Encoding.DER)
        return security.verify([der], tmp_path, "plc", URL)

    address: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]
    assert verify(address, authority) is None
    with pytest.raises(ConfigError, match=r"made for other\.plant instead of 192\.0\.2\.1"):
        verify([x509.DNSName("other.plant")], authority)
    with pytest.raises(ConfigError, match="made for no host"):
        verify([], authority)
    with pytest.raises(ConfigError, match="expired on"):
        verify(address, authority, days=-1)
    with pytest.raises(ConfigError, match="is not trusted"):
        verify(address, certificate([], None, ca=True))
    not_an_authority = certificate([], None, ca=False)
    security.pin(tmp_path, "leaf", not_an_authority[0].public_bytes(Encoding.DER))
    with pytest.raises(ConfigError, match="is not trusted"):
        verify(address, not_an_authority)


def test_a_pinned_certificate_that_expired_is_used_and_reported_as_such(tmp_path: Path) -> None:
    old = certificate([], None, ca=False, days=-1)[0].public_bytes(Encoding.DER)
    security.pin(tmp_path, "plc", old)
    assert "certificate expired on" in str(security.verify([old], tmp_path, "plc", URL))


def test_lines_of_a_tree_are_numbers_and_have_names_of_their_own() -> None:
    leaves = [
        tree.Leaf(("P1", "Current"), "ns=2;s=a", True, "Double", "1", 1.0),
        tree.Leaf(("P2", "Current"), "ns=2;s=b", True, "Double", "1", 1.0),
        tree.Leaf(("P1", "Wave (g)"), 'ns=2;s="c"', True, "Float[2]", "", [1.0, 2.0]),
        tree.Leaf(("P1", "State"), "ns=2;s=d", True, "String", "x", "x"),
        tree.Leaf(("P1",), "ns=2;s=e#", False),
        tree.Leaf(("S",), "ns=2;s=f", True, "S", "", ua.ModifySubscriptionResult(1.0, 2, 3)),
    ]
    assert [line.partition("  #")[0] for line in tree.lines(leaves, "plc")] == [
        'channels.P1_Current = { source = "plc", tag = "ns=2;s=a" }',
        'channels.P2_Current = { source = "plc", tag = "ns=2;s=b" }',
        'channels.Wave_g = { source = "plc", tag = "ns=2;s=\\"c\\"", waveform_hz = 1000.0 }',
        'channels.RevisedPublishingInterval = { source = "plc", tag = "ns=2;s=f#RevisedPublishingInterval" }',
        'channels.RevisedLifetimeCount = { source = "plc", tag = "ns=2;s=f#RevisedLifetimeCount" }',
        'channels.RevisedMaxKeepAliveCount = { source = "plc", tag = "ns=2;s=f#RevisedMaxKeepAliveCount" }',
    ]


def test_errors_that_may_heal_are_tried_again() -> None:
    assert isinstance(explain(AssertionError(), FACTS), RetryError)
