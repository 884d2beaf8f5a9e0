# SPDX-License-Identifier: Apache-2.0
"""One connection to an OPC UA server: endpoint, trust, user, session; every failure in the operator's words.

Promises: a new client each time, because asyncua's own reconnection loses its subscription silently when tags appear
late or the server limits items per call. A secured channel is opened only to a server that the trust folder knows. A
session that a crash leaves behind occupies the server for a minute, not for an hour: many PLCs allow only a few.
A connection in use is asked every `timeout` whether it still answers, and has `timeout` to do so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from fedge_models.errors import ConfigError, FedgeError
from fedge_models.system.addresses import shown, split_url
from fedge_models.system.plain_file import read_plain
from fedge_models.system.secret_file import MOST_SECRET_BYTES, read_secret
from fedge_models.system.settings import Positive

from . import security as trust
from .reasons import Facts, explain

POLICIES = ("Basic256Sha256", "Aes256Sha256RsaPss", "Aes128Sha256RsaOaep")
MODES = ("Sign", "SignAndEncrypt")
SESSION_S = 60.0  # or longer, for a longer time-out
NEVER_S = 1e8
TEARDOWN_S = 2.0
FOLDER = "opcua"  # of the state folder: own.der, own.key, trusted/

T = TypeVar("T")


class ConnectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a source or output for the server it connects to."""

    url: str
    security: str = "None"  # or policy/mode, e.g. "Basic256Sha256/SignAndEncrypt"
    server_certificate: Path | None = None  # the only one to trust, instead of the trust folder
    certificate: Path | None = None  # ours, DER or PEM; without: made at first use in the state folder
    private_key: Path | None = None
    application_uri: str = ""  # empty: the one in our certificate
    username: str = ""
    password_file: Path | None = None
    user_certificate: Path | None = None  # to log in with a certificate instead of a password
    user_private_key: Path | None = None
    timeout: Positive = Positive(4)  # of each call


class Link(NamedTuple):
    """A connected client; `note`: a warning for the operator, or ""."""

    client: Any
    facts: Facts
    note: str


class Connector:
    """Opens connections for one source or output; `state` is the agent's folder, None where there is none."""

    def __init__(self, name: str, config: ConnectionConfig, state: Path | None) -> None:
        self.name, self.config = name, config
        self._folder = state / FOLDER if state else None
        _check(name, config)

    @property
    def trusted(self) -> Path:
        """The trust folder. Raises ConfigError where there is no state folder."""
        return self._state_folder() / trust.TRUSTED

    @contextlib.asynccontextmanager
    async def open(self, probe: bool = True) -> AsyncIterator[Link]:
        """A connection, closed at the end. Raises ConfigError or UnreachableError, also for errors inside.

        probe: whether asyncua asks the server if it answers; False where the caller does.
        """
        facts = self._facts()
        try:
            async with self._client(probe) as client:
                link = await self._connect(client, facts)
                try:
                    yield link
                finally:
                    with contextlib.suppress(Exception):  # the connection ends anyway
                        await bounded(client.disconnect(), TEARDOWN_S)
        except FedgeError:
            raise
        except troubles() as e:
            raise explain(e, facts) from e

    async def endpoints(self) -> list[Any]:
        """Ask the server, without security, for its endpoints. Raises ConfigError or UnreachableError."""
        facts = Facts(self.config.url, timeout=float(self.config.timeout))
        try:
            async with self._client() as client:
                return await bounded(client.connect_and_get_server_endpoints(), self.config.timeout * 2)
        except troubles() as e:
            raise explain(e, facts) from e

    @contextlib.asynccontextmanager
    async def _client(self, probe: bool = True) -> AsyncIterator[Any]:
        """An asyncua client; at the end its sockets are closed, also those that hang."""
        from asyncua import Client

        logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # what matters is in our own messages
        timeout = float(self.config.timeout)
        client = Client(self.config.url, timeout=timeout, watchdog_intervall=timeout if probe else NEVER_S)
        client.session_timeout = max(SESSION_S, 4 * timeout) * 1000
        client.name = client.description = "fedge-agent"
        client.product_uri = "urn:fedge"
        opened, connect = [], client.connect_socket

        async def remembered() -> None:
            await connect()
            opened.append(client.uaclient.protocol.transport)

        client.connect_socket = remembered
        try:
            yield client
        finally:
            for transport in opened:
                transport.abort()
            await asyncio.sleep(0)  # lets them close

    async def _connect(self, client: Any, facts: Facts) -> Link:
        config, notes = self.config, []
        ours = self.own() if config.security != "None" else None
        client.application_uri = ours.uri if ours else config.application_uri or "urn:fedge:agent"
        if ours:
            shown = trust.split_chain(self.endpoint(await self.endpoints()).ServerCertificate or b"")
            if note := self._verify(shown):
                notes.append(note)
            await self._secure(client, ours, shown[0])
        if config.username:
            client.set_user(config.username)
            client.set_password(_secret(config.password_file))
            if not ours:
                notes.append(f"{config.url}: others may read the password, which is sent without security")
        if config.user_certificate:
            assert config.user_private_key is not None
            trust.check_key(config.user_private_key)
            await client.load_client_certificate(str(config.user_certificate), _format(config.user_certificate))
            await client.load_private_key(config.user_private_key, None, _format(config.user_private_key))
        try:
            await bounded(client.connect(), config.timeout * 2)
        except (ConnectionError, AssertionError) as e:  # how a server rejects a certificate that it does not know
            raise explain(AssertionError() if ours else e, facts) from e
        return Link(client, facts, "; ".join(notes))

    async def _secure(self, client: Any, ours: trust.Own, server: bytes) -> None:
        from asyncua.crypto import security_policies
        from asyncua.crypto.uacrypto import CertProperties
        from asyncua.ua import MessageSecurityMode

        policy, _, mode = self.config.security.partition("/")
        await client.set_security(
            getattr(security_policies, f"SecurityPolicy{policy}"),
            CertProperties(trust.read(ours.certificate), "der"),
            CertProperties(ours.key.read_bytes(), _format(ours.key)),
            server_certificate=CertProperties(server, "der"),
            mode=getattr(MessageSecurityMode, mode),
        )

    def endpoint(self, offered: list[Any]) -> Any:
        """The endpoint with our policy and mode. Raises ConfigError that lists what the server offers."""
        policy, _, mode = self.config.security.partition("/")
        for endpoint in offered:
            if security_of(endpoint) == (policy, mode) and endpoint.ServerCertificate:
                return endpoint
        offers = ", ".join(sorted({"/".join(filter(None, security_of(e))) for e in offered})) or "nothing"
        raise ConfigError(
            f"{self.config.url}: the server does not offer security {self.config.security!r}; it offers: {offers}"
        )

    def _verify(self, shown: list[bytes]) -> str | None:
        config = self.config
        if config.server_certificate is None:
            return trust.verify(shown, self.trusted, self.name, config.url)
        if trust.read(config.server_certificate) != shown[0]:
            raise ConfigError(
                f"{config.url}: the server shows another certificate (SHA-256 {trust.fingerprint(shown[0])}) than "
                f"{config.server_certificate}. If it was renewed, put the new one there; if not, someone is in between"
            )
        return None

    def own(self) -> trust.Own:
        """Our certificate, made if none is configured. Raises ConfigError."""
        config = self.config
        if config.certificate and config.private_key:
            if not config.private_key.exists():
                raise ConfigError(f"{config.private_key}: cannot be read: No such file or directory")
            trust.check_key(config.private_key)
            return trust.given(config.certificate, config.private_key, config.application_uri)
        return trust.own(self._state_folder(), config.application_uri)

    def _state_folder(self) -> Path:
        if self._folder is None:
            raise ConfigError(f"{self.name}: security {self.config.security!r} needs the agent's state folder")
        return self._folder

    def _facts(self) -> Facts:
        config = self.config
        user = config.username or (str(config.user_certificate) if config.user_certificate else "")
        ours = str(self.own()) if config.security != "None" else ""
        return Facts(config.url, config.security, user, ours, float(config.timeout))


async def bounded(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Run a coroutine for so long at most. Raises asyncio.TimeoutError.

    Unlike `asyncio.wait_for` before Python 3.12 it takes the error of work that fails while it is being cancelled.
    Python would report it at the end: "Task exception was never retrieved".
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
        if done:
            return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=TEARDOWN_S)
        if task.done() and not task.cancelled():
            task.exception()
    raise asyncio.TimeoutError


def security_of(endpoint: Any) -> tuple[str, str]:
    """(policy, mode) of an endpoint, as the configuration writes them; mode is "" for None."""
    policy = str(endpoint.SecurityPolicyUri or "").rpartition("#")[2].replace("_", "")
    return policy, endpoint.SecurityMode.name.rstrip("_") if policy != "None" else ""


def troubles() -> tuple[type[BaseException], ...]:
    """Exceptions that asyncua raises when the server, the network or the configuration is at fault."""
    from asyncua import ua
    from cryptography.exceptions import InvalidSignature

    # asyncua raises AssertionError when a server refuses our certificate, AttributeError when the server shows none to
    # encrypt a password for, ValueError for malformed answers
    return (
        ua.UaError, OSError, asyncio.TimeoutError, AssertionError, AttributeError, ValueError, InvalidSignature
    )  # fmt: skip


def _check(name: str, config: ConnectionConfig) -> None:
    """Raise ConfigError for keys that contradict each other, before a socket opens."""
    policy, _, mode = config.security.partition("/")
    if config.security != "None" and (policy not in POLICIES or mode not in MODES):
        raise ConfigError(
            f'{name}: security {config.security!r}: expected "None" or one of {", ".join(POLICIES)}, a slash, and '
            f'{" or ".join(MODES)}, as in "Basic256Sha256/SignAndEncrypt"'
        )
    if split_url(config.url, ("opc.tcp",)) is None:
        raise ConfigError(f"{name}: url {shown(config.url)!r}: expected opc.tcp://host:port/path")
    if "@" in config.url.partition("://")[2].partition("/")[0]:  # it would be in every log and status page
        raise ConfigError(f"{name}: url holds a name or password; give username and password_file instead")
    if "?" in config.url or "#" in config.url:  # the path names an endpoint, which discovery shows to everybody
        raise ConfigError(
            f"{name}: url {shown(config.url)!r} has a query (? or #), which no OPC UA address has (OPC 10000-6, 7); "
            "expected opc.tcp://host:port/path"
        )
    for one, other in (("certificate", "private_key"), ("user_certificate", "user_private_key")):
        if (getattr(config, one) is None) != (getattr(config, other) is None):
            raise ConfigError(f"{name}: {one} and {other} go together; one of them is missing")
    if config.username and config.user_certificate:
        raise ConfigError(f"{name}: username and user_certificate: a server takes one of them")


def _secret(path: Path | None) -> str:
    try:
        return read_secret(path) if path else ""
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e


def _format(path: Path | None) -> str:
    """Format of a certificate or key, "pem" or "der", by its content."""
    try:
        return "pem" if path and read_plain(path, MOST_SECRET_BYTES).lstrip().startswith(b"-----") else "der"
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
