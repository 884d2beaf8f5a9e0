# SPDX-License-Identifier: Apache-2.0
"""Serve the newest decision of each asset from a small OPC UA server of our own, for SCADA and HMIs to read.

Objects/fedge holds one object per asset, with a variable for each figure of its decisions and of its alert
(`VARIABLES`); the folder ``Values`` holds the estimates of a regress model. Promises: nothing can be written from
outside; from other machines nobody reads without what the configuration demands, a certificate, a user, or both. The
operator trusts a certificate by moving it from `opcua/rejected` to `opcua/clients` in the state folder.
"""

from __future__ import annotations

import hmac
import logging
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.system import files, lock, service
from fedge_models.system.secret_file import read_secret

from .. import figures
from ..figures import Of, Type
from ..protocols.opcua import security as trust
from ..protocols.opcua.connection import FOLDER, MODES, POLICIES
from ..protocols.opcua.loop import Loop
from ..types import DRIFT, SILENT, Decision, Event, Output

NAMESPACE = "urn:fedge:decisions"
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
START_S = 60.0  # a small board takes long to build the standard's address space
MAX_REJECTED = 20
TYPES = {Type.NUMBER: "Double", Type.INTEGER: "Int64", Type.TEXT: "String", Type.BOOLEAN: "Boolean"}
OMITTED = ("asset", "time_ns", "latency_s")  # the object, the source time of each value; of no use in a plant
VALUES = "Values"


def _variable_name(figure: str) -> str:
    """The browse name of a figure: "hours_left" is HoursLeft."""
    return "".join(word.capitalize() for word in figure.split("_"))


VARIABLES = {
    _variable_name(figure.name): figure
    for figure in figures.select(Of.DECISION | Of.ALERT).values()
    if figure.type in TYPES and figure.name not in OMITTED
}
OF_ALERT = {name for name, figure in VARIABLES.items() if Of.ALERT in figure.of}


class OpcuaServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[output.X] type = "opcua-server"``."""

    listen: str = "127.0.0.1:4841"
    security: tuple[str, ...] = ("None",)  # each "None" or policy/mode; beyond the loopback not "None"
    application_uri: str = ""  # empty: the one in our certificate, which is made at first use
    username: str = ""  # empty: every client that may connect
    password_file: Path | None = None


class OpcuaServerOutput(Output):
    """Serves the decisions and events that it is given."""

    Config = OpcuaServerConfig
    KEEPS_STATE = True
    shows_decisions = True

    def __init__(self, name: str, config: OpcuaServerConfig, state: Path | None = None) -> None:
        self._name, self._config = name, config
        self._state, self._folder = state, state / FOLDER if state else None
        self._host, self._port = _address(name, config)
        self._loop = Loop(name)
        self._server: Any = None
        self._nodes: dict[str, dict[str, Any]] = {}  # asset -> name -> node
        self.port = 0  # as bound

    def begin(self, folder: Path) -> None:
        """Listen. Raises UnreachableError when the port is taken."""
        self._loop.call(self._start(), START_S)

    def show(self, decision: Decision) -> None:
        """Put the decision's figures into the asset's variables, with the decision's time as source time."""
        self._loop.call(self._put(decision.asset, _readable(decision), decision.time_ns), START_S)

    def deliver(self, event: Event) -> None:
        """Put the alert into the asset's variables, or that it is silent: then its last decision is no value of now."""
        if event.kind == SILENT:
            shown: dict[str, Any] = {"Silent": event.silent, "Reason": event.reason if event.silent else ""}
            if event.silent:
                estimates = (n for n in self._nodes.get(event.decision.asset, ()) if n.startswith(f"{VALUES}."))
                shown |= dict.fromkeys([*(n for n in VARIABLES if n not in OF_ALERT), *estimates])
            self._loop.call(self._put(event.decision.asset, shown, event.decision.time_ns), START_S)
            return
        if event.kind == DRIFT:
            shown = {"Drift": event.drifts, "DriftReason": event.reason if event.drifts else ""}
            self._loop.call(self._put(event.decision.asset, shown, event.decision.time_ns), START_S)
            return
        shown = {"Alert": event.alert, "Severity": event.severity if event.alert else ""}
        self._loop.call(self._put(event.decision.asset, shown, event.decision.time_ns), START_S)

    def check(self) -> list[str]:
        """Check that the password can be read, and that no other program has the port: a running agent has it."""
        try:
            _password(self._config)
            if self._state is None or lock.holder(self._state) is None:
                service.try_address((self._host, self._port))
        except ConfigError as e:
            return [f"output {self._name}: {e}"]
        return []

    def end(self) -> None:
        """Stop listening."""
        if self._server is not None:
            server, self._server, self._nodes = self._server, None, {}
            self._loop.call(server.stop(), START_S)
        self._loop.stop()

    def status(self) -> dict[str, Any]:
        """The address that clients connect to."""
        return {"listens": f"opc.tcp://{self._host}:{self.port}"} if self._server is not None else {}

    async def _start(self) -> None:
        from asyncua import Server, ua

        logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
        config = self._config
        server = Server(user_manager=_Users(config.username, _password(config)))
        await server.init()
        server.set_endpoint(f"opc.tcp://{self._host}:{self._port}/")
        server.set_server_name("fedge-agent")
        server.product_uri = "urn:fedge"
        if any(s != "None" for s in config.security):
            await self._secure(server)
        server.set_security_policy([_policy(ua, s) for s in config.security])
        server.set_identity_tokens([ua.UserNameIdentityToken if config.username else ua.AnonymousIdentityToken])
        self._space = await server.register_namespace(NAMESPACE)
        self._root = await server.nodes.objects.add_object(ua.NodeId("fedge", self._space), f"{self._space}:fedge")
        try:
            await server.start()
        except OSError as e:
            raise UnreachableError(f"{self._name}: {self._host}:{self._port}: cannot listen: {e.strerror or e}") from e
        self.port = server.bserver._server.sockets[0].getsockname()[1]
        self._server = server

    async def _secure(self, server: Any) -> None:
        if self._folder is None:
            raise ConfigError(f"output {self._name}: security needs the agent's state folder")
        ours = trust.own(self._folder, self._config.application_uri)
        await server.set_application_uri(ours.uri)
        await server.load_certificate(trust.read(ours.certificate), "der")
        await server.load_private_key(ours.key.read_bytes(), format="pem")
        server.set_certificate_validator(_Clients(self._folder))

    async def _put(self, asset: str, shown: dict[str, Any], time_ns: int) -> None:
        from asyncua import ua

        if asset not in self._nodes:
            self._nodes[asset] = await self._asset(asset)
        when = datetime.fromtimestamp(time_ns / 1e9, timezone.utc)
        for name, value in shown.items():
            node = self._nodes[asset].get(name) or await self._estimate(asset, name)
            type_ = ua.VariantType[_type_of(name)]
            code = ua.StatusCodes.Good if value is not None else ua.StatusCodes.BadNoData
            held = ua.Variant(value, type_) if value is not None else ua.Variant()
            data = ua.DataValue(held, ua.StatusCode(code), SourceTimestamp=when)
            await self._server.write_attribute_value(node.nodeid, data)

    async def _asset(self, asset: str) -> dict[str, Any]:
        """Make the object of an asset, with variables that have no value yet."""
        from asyncua import ua

        own = await self._root.add_object(ua.NodeId(asset, self._space), f"{self._space}:{asset}")
        nodes = {VALUES: await own.add_object(ua.NodeId(f"{asset}.{VALUES}", self._space), f"{self._space}:{VALUES}")}
        for name, figure in VARIABLES.items():
            nodes[name] = await self._variable(own, f"{asset}.{name}", name, TYPES[figure.type])
        return nodes

    async def _estimate(self, asset: str, name: str) -> Any:
        """Make the variable of a regress model's target for its first estimate; `name`: "Values.<target>"."""
        node = await self._variable(self._nodes[asset][VALUES], f"{asset}.{name}", name.partition(".")[2], "Double")
        self._nodes[asset][name] = node
        return node

    async def _variable(self, parent: Any, node_id: str, name: str, type_: str) -> Any:
        from asyncua import ua

        first = {"Boolean": False, "String": "", "Int64": 0}.get(type_, 0.0)
        path = f"{self._space}:{name}"
        node = await parent.add_variable(ua.NodeId(node_id, self._space), path, first, ua.VariantType[type_])
        if name not in OF_ALERT:  # without an event there is no alert; without a decision no score
            empty = ua.DataValue(ua.Variant(), ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData))
            await self._server.write_attribute_value(node.nodeid, empty)
        return node


class _Users:
    """asyncua's user manager: everybody only reads."""

    def __init__(self, username: str, password: str) -> None:
        self._pair = f"{username}\0{password}".encode() if username else b""

    def get_user(self, server: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        """A user who may read, or None to refuse the login."""
        from asyncua.crypto.permission_rules import User, UserRole

        if isinstance(password, bytes):
            password = password.decode(errors="replace")
        if self._pair and not hmac.compare_digest(f"{username}\0{password}".encode(), self._pair):
            return None
        return User(role=UserRole.User)


class _Clients:
    """asyncua's certificate validator: accepts those in `clients`, stores others in `rejected` for the operator."""

    def __init__(self, folder: Path) -> None:
        self._trusted, self._rejected = folder / "clients", folder / "rejected"

    async def __call__(self, certificate: Any, application: Any) -> None:
        from asyncua import ua
        from asyncua.common.utils import ServiceError
        from cryptography.hazmat.primitives.serialization import Encoding

        der = certificate.public_bytes(Encoding.DER)
        if der in trust.certificates(self._trusted):
            return
        files.make_folder(self._trusted)
        files.make_folder(self._rejected)
        path = self._rejected / f"{trust.fingerprint(der).replace(':', '')[:16]}.der"
        if not path.exists() and len(list(self._rejected.glob("*.der"))) < MAX_REJECTED:
            files.write(path, der)
        raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)


def _type_of(name: str) -> str:
    """OPC UA type of a variable; estimates are numbers."""
    return TYPES[VARIABLES[name].type] if name in VARIABLES else "Double"


def _readable(decision: Decision) -> dict[str, Any]:
    """Variable -> value; None where there is no finite number."""
    known = figures.of_decision(decision)
    shown = {name: known[figure.name] for name, figure in VARIABLES.items() if name not in OF_ALERT}
    shown |= {f"{VALUES}.{target}": estimate for target, estimate in decision.values.items()}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in shown.items()}


def _address(name: str, config: OpcuaServerConfig) -> tuple[str, int]:
    """Host and port to listen on. Raises ConfigError for settings that would let everybody read."""
    host, _, port = config.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f'output {name}: listen {config.listen!r}: expected host:port, as in "127.0.0.1:4841"')
    for one in config.security or [""]:
        policy, _, mode = one.partition("/")
        if one != "None" and (policy not in POLICIES or mode not in MODES):
            expected = '"None" or policy/mode, as in "Basic256Sha256/SignAndEncrypt"'
            raise ConfigError(f"output {name}: security {one!r}: expected {expected}")
    if bool(config.username) != bool(config.password_file):
        raise ConfigError(f"output {name}: username and password_file go together; one of them is missing")
    if host not in LOOPBACK and "None" in config.security:
        raise ConfigError(
            f'output {name}: listen {config.listen!r} can be reached from other machines, and security "None" lets '
            'anybody read; set security = ["Basic256Sha256/SignAndEncrypt"], or listen on 127.0.0.1'
        )
    return host, int(port)


def _policy(ua: Any, text: str) -> Any:
    """asyncua's constant for a policy and mode."""
    if text == "None":
        return ua.SecurityPolicyType.NoSecurity
    policy, _, mode = text.partition("/")
    return ua.SecurityPolicyType[f"{policy}_{mode}"]


def _password(config: OpcuaServerConfig) -> str:
    try:
        return read_secret(config.password_file) if config.password_file else ""
    except OSError as e:
        raise ConfigError(f"{config.password_file}: cannot be read: {e.strerror}") from e
