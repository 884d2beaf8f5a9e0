"""OPC UA: a subscription that comes back by itself.

asyncua's own reconnection loses its subscription silently when tags appear late or the server limits items per call,
so every connection here is a fresh client: any doubt (connection lost, status change, no heartbeat) ends the run, and
the host starts another. Items are created in chunks within the server's limits; items that are bad are tried again.
Source time stamps and status codes are honoured. asyncio lives only inside `run`'s own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import math
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.settings import Seconds

from ..types import Quality, Reading, SourceHost

HEARTBEAT = "i=2258"  # Server_ServerStatus_CurrentTime, Part 5 table 123: changes on every server
EPOCH = datetime(1970, 1, 1)
RETRY_ITEMS_S = 5.0
DEFAULT_CHUNK = 500
BROWSE_LIMIT = 3000  # nodes looked at to find names near a missing one
MIN_QUEUE = 64


class OpcuaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "opcua"``; a tag is a node id such as "ns=2;s=Pump1.Current"."""

    url: str
    security: str = "None"  # or policy/mode, e.g. "Basic256Sha256/SignAndEncrypt"
    certificate: Path | None = None  # ours, DER or PEM; its SAN URI must be the application_uri
    private_key: Path | None = None
    server_certificate: Path | None = None  # pinned; needed unless security is "None"
    application_uri: str = "urn:fedge:agent"
    username: str = ""
    password_file: Path | None = None
    publishing_interval: Seconds = Seconds(0.1)
    sampling_interval: Seconds = Seconds(0)  # 0: as fast as the server samples
    queue_size: int = 0  # values the server keeps per tag between two publishings; 0: enough
    max_age: Seconds = Seconds(10)  # without any value or heartbeat for so long the connection is given up
    timeout: Seconds = Seconds(5)  # of each call


class OpcuaSource:
    """Reads tags of one OPC UA server."""

    Config = OpcuaConfig

    def __init__(self, name: str, config: OpcuaConfig) -> None:
        self._name, self._config = name, config

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """One connection, until `host.stop` or trouble. Raises UnreachableError or ConfigError."""
        asyncio.run(_Connection(self._config, list(tags), host).run())

    def check(self, tags: Sequence[str]) -> list[str]:
        """Connect, read each tag once, disconnect."""
        try:
            return asyncio.run(_check(self._config, list(tags)))
        except (UnreachableError, ConfigError) as e:
            return [str(e)]


class _Connection:
    """One connection. Its datachange callbacks only append; everything else happens once per publish response."""

    def __init__(self, config: OpcuaConfig, tags: list[str], host: SourceHost) -> None:
        self._config, self._tags, self._host = config, tags, host
        self._names: dict[Any, str] = {}  # NodeId -> tag
        self._readings: list[Reading] = []
        self._scheduled = False
        self._heard = time.monotonic()
        self._newest = (0, 0.0)  # source time of the newest value, and when it came
        self._broken: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        client = await _connect(self._config)
        client.connection_lost_callback = self._lost
        try:
            await self._subscribe_all(client)
            self._host.problem("connection", None)
            await self._watch(client)
        except _troubles() as e:
            raise UnreachableError(f"{self._config.url}: {_words(e)}") from e
        finally:
            self._flush()
            with contextlib.suppress(Exception):  # it is being given up; nothing is left to lose
                await asyncio.wait_for(client.disconnect(), 2)

    # callbacks of asyncua

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """One changed value."""
        tag = self._names.get(node.nodeid)
        if tag is not None:
            reading = _reading(tag, value, data.monitored_item.Value)
            self._readings.append(reading)
        self._heard = time.monotonic()
        if not self._scheduled:
            assert self._loop is not None
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def status_change_notification(self, status: Any) -> None:
        """The server ended the subscription, or asyncua found that it no longer answers."""
        self._broken = f"the server shut down or stopped answering ({status.Status.name})"

    async def _lost(self, error: Exception) -> None:
        self._broken = f"connection lost: {_words(error)}"

    # the rest

    def _flush(self) -> None:
        """Hand over what one publish response brought; whatever it did not bring has not changed until then."""
        readings, self._readings, self._scheduled = self._readings, [], False
        now = time.monotonic()
        if readings:
            last = {r.tag: r.time_ns for r in readings}  # not the largest of all: the clock may have been set back
            self._newest = (max(last.values()), now)
        stamp, came = self._newest
        self._host.emit(readings, stamp + round((now - came) * 1e9) if stamp else None)

    async def _subscribe_all(self, client: Any) -> None:
        from asyncua import ua  # noqa: PLC0415

        interval_ms = self._config.publishing_interval * 1000
        subscription = await client.create_subscription(interval_ms, self)
        await subscription.subscribe_data_change(client.get_node(HEARTBEAT))
        self._subscription, self._chunk = subscription, await _chunk(client)
        self._queue = self._config.queue_size or max(
            MIN_QUEUE, 2 * math.ceil(self._config.publishing_interval / max(self._config.sampling_interval, 0.005))
        )
        self._missing = await self._subscribe(client, self._tags)
        self._ua = ua

    async def _subscribe(self, client: Any, tags: list[str]) -> list[str]:
        """Create the items of the tags; returns those that the server refused, with a problem stated for each."""
        from asyncua import ua  # noqa: PLC0415

        refused = []
        for start in range(0, len(tags), self._chunk):
            part = tags[start : start + self._chunk]
            nodes = [client.get_node(_node_id(tag)) for tag in part]
            self._names.update({n.nodeid: t for n, t in zip(nodes, part, strict=True)})
            results = await self._subscription.subscribe_data_change(
                nodes, queuesize=self._queue, sampling_interval=self._config.sampling_interval * 1000
            )
            for tag, result in zip(part, results, strict=True):
                if isinstance(result, ua.StatusCode):
                    refused.append(tag)
                    self._host.problem(tag, await _missing(client, self._config.url, tag, result.name))
                else:
                    self._host.problem(tag, None)
        return refused

    async def _watch(self, client: Any) -> None:
        """Until stop: look for trouble, and try missing items again."""
        tried = time.monotonic()
        while not self._host.stop.is_set():
            await asyncio.sleep(0.2)
            if self._broken:
                raise UnreachableError(f"{self._config.url}: {self._broken}")
            silent = time.monotonic() - self._heard
            if silent > self._config.max_age:
                raise UnreachableError(f"{self._config.url}: no value and no heartbeat for {silent:.0f} s")
            if self._missing and time.monotonic() - tried > RETRY_ITEMS_S:
                self._missing, tried = await self._subscribe(client, self._missing), time.monotonic()


def _reading(tag: str, value: Any, data: Any) -> Reading:
    code = data.StatusCode.value if data.StatusCode else 0
    quality = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)[code >> 30]  # Part 4, 7.39: severity bits
    stamp = data.SourceTimestamp or data.ServerTimestamp
    if stamp is None:
        stamp = datetime.now(timezone.utc)
    if stamp.tzinfo is not None:
        stamp = stamp.astimezone(timezone.utc).replace(tzinfo=None)
    age = stamp - EPOCH
    time_ns = (age.days * 86400 + age.seconds) * 1_000_000_000 + age.microseconds * 1000
    if isinstance(value, (bool, int, float)):
        return Reading(tag, time_ns, float(value), quality)
    if isinstance(value, str):
        return Reading(tag, time_ns, value, quality)
    if isinstance(value, list):
        try:
            block = np.asarray(value, np.float32)
        except (ValueError, TypeError):
            return Reading(tag, time_ns, math.nan, Quality.BAD)
        shape = data.Value.Dimensions
        return Reading(tag, time_ns, block.reshape(shape) if shape and len(shape) > 1 else block, quality)
    return Reading(tag, time_ns, math.nan, Quality.BAD)


async def _connect(config: OpcuaConfig) -> Any:
    """A connected client. Raises UnreachableError in the operator's words, ConfigError for unusable files."""
    from asyncua import Client  # noqa: PLC0415

    logging.getLogger("asyncua").setLevel(logging.ERROR)  # what matters of the rest is said here
    client = Client(config.url, timeout=config.timeout)
    client.application_uri = config.application_uri
    if config.username:
        client.set_user(config.username)
        if config.password_file:
            try:
                client.set_password(config.password_file.read_text().strip())
            except OSError as e:
                raise ConfigError(f"{config.password_file}: cannot be read: {e.strerror}") from e
    try:
        if config.security != "None":
            await client.set_security_string(_security(config))
        await asyncio.wait_for(client.connect(), config.timeout * 2)
    except AssertionError as e:
        raise UnreachableError(
            f"{config.url}: the server closed the secure channel; it probably does not trust our certificate yet: "
            "move it from the server's rejected to its trusted certificates"
        ) from e
    except _troubles() as e:
        raise UnreachableError(f"{config.url}: {_words(e)}") from e
    return client


def _security(config: OpcuaConfig) -> str:
    files = (config.certificate, config.private_key, config.server_certificate)
    policy, _, mode = config.security.partition("/")
    if not mode or None in files:
        raise ConfigError(
            f"{config.url}: security {config.security!r} needs the form policy/mode, and certificate, private_key and "
            "server_certificate"
        )
    return ",".join([policy, mode, *map(str, files)])


def _troubles() -> tuple[type[BaseException], ...]:
    """What asyncua raises when the other side or the network is at fault."""
    from asyncua import ua  # noqa: PLC0415

    return (ua.UaError, OSError, asyncio.TimeoutError)


def _words(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _node_id(tag: str) -> Any:
    from asyncua import ua  # noqa: PLC0415

    try:
        return ua.NodeId.from_string(tag)
    except (ua.UaError, ValueError) as e:
        raise ConfigError(f'tag {tag!r} is not a node id; expected e.g. "ns=2;s=Pump1.Current" or "ns=2;i=1001"') from e


async def _chunk(client: Any) -> int:
    """How many items one call may create: the server's OperationLimits (Part 5, 6.3.11), within reason."""
    with contextlib.suppress(Exception):  # optional on servers
        limit = int(await client.get_node("i=11714").read_value())  # MaxMonitoredItemsPerCall
        if limit > 0:
            return min(limit, DEFAULT_CHUNK)
    return DEFAULT_CHUNK


async def _missing(client: Any, url: str, tag: str, why: str) -> str:
    """Say what is wrong with a tag, and what the server has near it."""
    names: list[str] = []
    queue = [client.nodes.objects]
    with contextlib.suppress(*_troubles()):
        while queue and len(names) < BROWSE_LIMIT:
            for child in await queue.pop(0).get_children():
                if child.nodeid.NamespaceIndex:
                    names.append(child.nodeid.to_string())
                    queue.append(child)
    near = difflib.get_close_matches(tag, names, n=3, cutoff=0.4)
    return f"{url}: tag {tag}: {why}; " + (f"the server has: {', '.join(near)}" if near else "nothing near it is there")


async def _check(config: OpcuaConfig, tags: list[str]) -> list[str]:
    client = await _connect(config)
    problems = []
    try:
        for tag in tags:
            try:
                await client.get_node(_node_id(tag)).read_data_value(raise_on_bad_status=True)
            except _troubles() as e:
                problems.append(await _missing(client, config.url, tag, type(e).__name__))
            except ConfigError as e:
                problems.append(str(e))
    finally:
        with contextlib.suppress(Exception):
            await client.disconnect()
    return problems
