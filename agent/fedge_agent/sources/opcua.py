# SPDX-License-Identifier: Apache-2.0
"""Read tags of an OPC UA server through a subscription that recovers by itself.

Any doubt (connection lost, status change, neither value nor keep-alive for `max_age`) ends the run, and the host starts
another one with a new client. Items are created in chunks within the server's limits; tags that are missing or vanish
are looked for again every few seconds. Each publish response becomes one batch; asyncua's own subscription object,
which starts a task per value, is not used. asyncio runs only inside `run`'s own thread.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedge_models.errors import ConfigError, FedgeError, UnreachableError
from fedge_models.system.settings import Seconds

from ..protocols.opcua.browsing import Browser, chunks, limits, load_types, read
from ..protocols.opcua.connection import ConnectionConfig, Connector, Link
from ..protocols.opcua.readings import OVERFLOW, reading, time_ns
from ..protocols.opcua.reasons import explain
from ..protocols.opcua.tags import Tag, parse
from ..types import Quality, Reading, Source, SourceHost

HEARTBEAT = 2258  # Server_ServerStatus_CurrentTime, Part 5 table 123: changes on every server
RETRY_ITEMS_S = 5.0
MIN_QUEUE = 64
LIFE_S = 60.0  # how long the server keeps the subscription after our last request
LOOK_S = 0.2
GONE = ("BadNodeIdUnknown", "BadNodeIdInvalid")


class OpcuaConfig(ConnectionConfig, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "opcua"``; a tag is a node id or browse path (`protocols.opcua.tags`)."""

    publishing_interval: Seconds = Seconds(0.1)
    sampling_interval: Seconds = Seconds(0)  # 0: as fast as the server can
    queue_size: int = 0  # values per tag that the server queues between two publishings; 0: enough
    deadband: float | str = 0.0  # smaller changes are not sent: a number, or e.g. "2%" of the tag's EURange
    max_age: Seconds = Seconds(10)  # without any value or keep-alive for so long the connection ends


class OpcuaSource(Source):
    """Reads tags of one OPC UA server."""

    Config = OpcuaConfig
    KEEPS_STATE = True

    def __init__(self, name: str, config: OpcuaConfig, state: Path | None = None) -> None:
        self._config, self.connector = config, Connector(name, config, state)
        self._deadband = _deadband(name, config.deadband)

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """One connection, until `host.stop` or trouble. Raises UnreachableError or ConfigError."""
        asyncio.run(_Run(self._config, self.connector, self._deadband, [parse(t) for t in tags], host).run())

    def check(self, tags: Sequence[str]) -> list[str]:
        """Connect, read each tag once, disconnect."""
        problems, known = [], []
        for tag in tags:
            try:
                known.append(parse(tag))
            except ConfigError as e:
                problems.append(str(e))
        try:
            return problems + asyncio.run(_check(self.connector, known))
        except FedgeError as e:
            return [*problems, str(e)]


class _Run:
    """One connection. `_items[handle]`: node and tags of a monitored item; several tags may share one node."""

    def __init__(
        self, config: OpcuaConfig, connector: Connector, deadband: tuple[int, float], tags: list[Tag], host: SourceHost
    ) -> None:
        self._config, self._connector, self._deadband, self._tags, self._host = config, connector, deadband, tags, host
        self._items: list[tuple[Any, list[Tag]]] = []
        self._missing: list[Tag] = []
        self._heard = time.monotonic()
        self._newest = (0, 0.0)  # source time of the newest value, and when it came
        self._overflows = 0
        self._coarse: list[str] = []  # tags for which the server refused the deadband
        self._broken: str | None = None

    async def run(self) -> None:
        async with self._connector.open() as link:
            link.client.connection_lost_callback = self._lost
            self._url, self._facts = link.facts.url, link.facts
            await self._subscribe(link)
            self._host.problem("connection", None)
            self._host.problem("security", link.note or None)
            await self._watch(link.client)

    async def _lost(self, error: Exception) -> None:
        hung = isinstance(error, asyncio.TimeoutError) or type(error).__name__ == "BadTimeout"
        self._broken = f"{self._url}: the server stopped answering" if hung else str(explain(error, self._facts))

    async def _subscribe(self, link: Link) -> None:
        """Create the subscription, and the items of the heartbeat and of all tags."""
        from asyncua import ua

        client, config = link.client, self._config
        interval = max(float(config.publishing_interval), 0.001)
        asked = ua.CreateSubscriptionParameters()
        asked.RequestedPublishingInterval = interval * 1000
        asked.RequestedMaxKeepAliveCount = max(1, math.floor(config.max_age / 3 / interval))
        asked.RequestedLifetimeCount = max(3 * asked.RequestedMaxKeepAliveCount, math.ceil(LIFE_S / interval))
        asked.MaxNotificationsPerPublish, asked.PublishingEnabled = 10_000, True
        self._ua, self._client, self._limits = ua, client, await limits(client)
        if any(t.field for t in self._tags):
            await load_types(client, self._limits)
        made = await client.uaclient.create_subscription(asked, self._published)
        self._subscription, self._interval = made.SubscriptionId, made.RevisedPublishingInterval / 1000
        self._items = [(ua.NodeId(HEARTBEAT), [])]
        await self._create([0], deadband=False)
        self._missing = await self._add(self._tags)

    async def _add(self, tags: list[Tag]) -> list[Tag]:
        """Create items for the tags; returns the missing ones, each with a problem stated."""
        browser = Browser(self._client, self._limits)
        found = await browser.resolve(tags)
        by_node: dict[Any, list[Tag]] = {}
        missing = [tag for tag in tags if isinstance(found[tag.text], str)]
        for tag in missing:
            self._host.problem(tag.text, f"{self._url}: {found[tag.text]}")
        for tag in tags:
            if not isinstance(found[tag.text], str):
                by_node.setdefault(found[tag.text], []).append(tag)
        first = len(self._items)
        self._items += by_node.items()
        results = await self._create(range(first, len(self._items)), deadband=bool(self._deadband[0]))
        for (_, hanging), why in zip(self._items[first:], results, strict=True):
            for tag in hanging:
                if why:
                    missing.append(tag)
                    self._host.problem(tag.text, f"{self._url}: tag {tag.text}: {why}{await browser.near(tag)}")
                else:
                    self._host.problem(tag.text, None)
        return missing

    async def _create(self, handles: Sequence[int], deadband: bool) -> list[str]:
        """Monitored items; "" for each that the server made, else the name of its status."""
        ua, outcome = self._ua, {}
        for part in chunks(handles, self._limits.items):
            asked = ua.CreateMonitoredItemsParameters()
            asked.SubscriptionId, asked.TimestampsToReturn = self._subscription, ua.TimestampsToReturn.Both
            asked.ItemsToCreate = [self._request(handle, deadband) for handle in part]
            results = await self._client.uaclient.create_monitored_items(asked)
            for handle, result in zip(part, results, strict=True):
                outcome[handle] = "" if result.StatusCode.is_good() else result.StatusCode.name
                if not outcome[handle]:
                    self._check_queue(handle, result)
        refused = [h for h, why in outcome.items() if deadband and re.search("Filter|Deadband", why)]
        if refused:  # text, booleans, tags without EURange: every change is sent instead
            outcome |= zip(refused, await self._create(refused, deadband=False), strict=True)
            self._coarse += [tag.text for h in refused for tag in self._items[h][1]]
            some = ", ".join(self._coarse[:5]) + (" …" if len(self._coarse) > 5 else "")
            self._host.problem("deadband", f"{self._url}: the server has no deadband for, and sends all of: {some}")
        return [outcome[handle] for handle in handles]

    def _request(self, handle: int, deadband: bool) -> Any:
        ua, config = self._ua, self._config
        asked, sampling = ua.MonitoredItemCreateRequest(), float(config.sampling_interval)
        asked.ItemToMonitor.NodeId, asked.ItemToMonitor.AttributeId = self._items[handle][0], ua.AttributeIds.Value
        asked.MonitoringMode = ua.MonitoringMode.Reporting
        wanted = asked.RequestedParameters
        wanted.ClientHandle, wanted.SamplingInterval, wanted.DiscardOldest = handle, sampling * 1000, True
        per_publishing = math.ceil(self._interval / max(sampling, 0.005))
        wanted.QueueSize = 1 if not handle else config.queue_size or max(MIN_QUEUE, 2 * per_publishing)
        if deadband:
            kind, size = self._deadband
            wanted.Filter = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, kind, size)
        return asked

    def _check_queue(self, handle: int, result: Any) -> None:
        """State a problem if the granted queue cannot hold all values between two publishings."""
        between = self._interval * 1000 / result.RevisedSamplingInterval if result.RevisedSamplingInterval > 0 else 0
        if handle and result.RevisedQueueSize < between - 1:
            text = (
                f"{self._url}: the server keeps {result.RevisedQueueSize} values of a tag, and samples {between:.0f} "
            )
            self._host.problem("queue", text + "between two publishings; shorten publishing_interval")

    def _published(self, result: Any) -> None:
        """Read a publish response; one without values is a keep-alive: nothing has changed until now."""
        self._heard = now = time.monotonic()
        ua, items, readings = self._ua, self._items, []
        for part in result.NotificationMessage.NotificationData or ():
            if isinstance(part, ua.DataChangeNotification):
                for item in part.MonitoredItems:
                    data = item.Value
                    for tag in items[item.ClientHandle][1]:
                        try:
                            readings.append(reading(tag.text, tag.field, data))
                        except LookupError as e:
                            readings.append(Reading(tag.text, time_ns(data.SourceTimestamp), math.nan, Quality.BAD))
                            self._host.problem(tag.text, f"{self._url}: tag {tag.text}: {e.args[0]}")
                    if data.StatusCode is not None and data.StatusCode.value:
                        self._handle_status(data.StatusCode, items[item.ClientHandle][1])
            elif isinstance(part, ua.StatusChangeNotification):
                # asyncua itself reports BadShutdown when an answer does not come in time
                what = (
                    "shut down or stopped answering" if part.Status.name == "BadShutdown" else "ended the subscription"
                )
                self._broken = self._broken or f"{self._url}: the server {what} ({part.Status.name})"
        if readings:
            last = {r.tag: r.time_ns for r in readings}  # not the largest: the clock may have been set back
            self._newest = (max(last.values()), now)
        stamp, came = self._newest
        self._host.emit(readings, stamp + round((now - came) * 1e9) if stamp else None)

    def _handle_status(self, status: Any, tags: list[Tag]) -> None:
        """Handle a status that says more than good or bad: values lost in between, or a node that vanished."""
        if status.value & OVERFLOW == OVERFLOW:
            self._overflows += 1
            text = f"{self._url}: {self._overflows} times values were lost at the server before they were sent; "
            self._host.problem("queue", text + "raise queue_size or shorten publishing_interval")
        if status.name in GONE:
            self._missing += [tag for tag in tags if tag not in self._missing]

    async def _watch(self, client: Any) -> None:
        """Until stop: end the run on trouble, and look for missing items again."""
        tried, wait = time.monotonic(), RETRY_ITEMS_S
        while not self._host.stop.is_set():
            await asyncio.sleep(LOOK_S)
            if self._broken:
                raise UnreachableError(self._broken)
            silent = time.monotonic() - self._heard
            if silent > self._config.max_age:
                raise UnreachableError(f"{self._url}: no value and no heartbeat for {silent:.0f} s")
            if self._missing and time.monotonic() - tried > wait:
                began, again, self._missing = time.monotonic(), self._missing, []
                self._missing += await self._add(again)
                tried = time.monotonic()
                wait = max(RETRY_ITEMS_S, 10 * (tried - began))  # looking for many takes time that values need


def _deadband(name: str, text: float | str) -> tuple[int, float]:
    """Parse a deadband: (DeadbandType, size), 0 none, 1 absolute, 2 percent (Part 4, 7.22.2). Raises ConfigError."""
    if isinstance(text, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
        if not match or float(match[1]) > 100:
            raise ConfigError(f'{name}: deadband {text!r}: expected a number, or a percentage such as "2%"')
        return (2, float(match[1])) if float(match[1]) else (0, 0.0)
    if not 0 <= text < math.inf:
        raise ConfigError(f"{name}: deadband {text!r}: expected a number that is not negative")
    return (1, float(text)) if text else (0, 0.0)


async def _check(connector: Connector, tags: list[Tag]) -> list[str]:
    """Read each tag once, in chunks; returns the problems."""
    async with connector.open() as link:
        limit = await limits(link.client)
        if any(t.field for t in tags):
            await load_types(link.client, limit)
        browser = Browser(link.client, limit)
        found = await browser.resolve(tags)
        problems = [f"{link.facts.url}: {f}" for f in found.values() if isinstance(f, str)]
        there = [t for t in tags if not isinstance(found[t.text], str)]
        values = await read(link.client, limit, [found[t.text] for t in there])
        for tag, data in zip(there, values, strict=True):
            if why := _wrong(tag, data):
                near = await browser.near(tag) if why in GONE else ""
                problems.append(f"{link.facts.url}: tag {tag.text}: {why}{near}")
        return problems


def _wrong(tag: Tag, data: Any) -> str:
    """Why a value cannot be used; "" if it can."""
    if data.StatusCode is not None and not data.StatusCode.is_good():
        return str(data.StatusCode.name)
    try:
        bad = reading(tag.text, tag.field, data).quality is Quality.BAD
    except LookupError as e:
        return str(e.args[0])
    kind = type(data.Value.Value).__name__ if data.Value is not None else "nothing"
    return f"is of type {kind}, expected a number, text, array, or a field of it behind a #" if bad else ""
