# SPDX-License-Identifier: Apache-2.0
"""Read tags of an OPC UA server through subscriptions that recover by themselves.

Any doubt (connection lost, status change, no answer for `timeout`, neither value nor keep-alive for `max_age`, a value
that a read shows and the subscription does not) ends the run, and the host starts another one with a new client. A
server that is merely slow is not given up: whatever it sends shows that it lives. Tags that are missing or vanish are
looked for again every few seconds, and those of which nothing comes are read from time to time (`evidence`). Each
publish response becomes one batch; asyncua's own subscription object, which starts a task per value, is not used.
asyncio runs only inside `run`'s own thread.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from fedge_models.errors import ConfigError, FedgeError, UnreachableError
from fedge_models.system import times
from fedge_models.system.settings import Positive, Seconds

from ..protocols.opcua.browsing import Browser
from ..protocols.opcua.calls import limits, load_types, read
from ..protocols.opcua.connection import ConnectionConfig, Connector, Link
from ..protocols.opcua.evidence import Answer, Evidence
from ..protocols.opcua.monitor import GONE, HEARTBEAT, HEARTBEAT_HANDLE, NO_ROOM, Granted, Monitor, Sampling
from ..protocols.opcua.namespaces import Namespaces, Placed, indexes
from ..protocols.opcua.readings import OVERFLOW, reading, unknown
from ..protocols.opcua.reasons import explain, no_answer
from ..protocols.opcua.tags import Tag, parse
from ..types import Quality, Reading, Source, SourceHost
from .polling import published

Natural = Annotated[int, msgspec.Meta(ge=0)]
RETRY_ITEMS_S = 5.0
LOOK_S = 0.2
REPORT_S = 1.0  # how often to say what is wrong with nodes
QUIET_S = 10.0  # without values lost at the server, after which that is over
SHOWN = 5  # tags in a message
SPACES_FILE = "namespaces.json"
BAD_S = 5.0  # a status that is bad for longer is a problem
ASKED = 500  # silent nodes that are read at once
FAST_S = 1.0  # a server that chooses the sampling interval is hardly slower
MOST_AT_ONCE = 30_000  # readings of responses that belong together


class OpcuaConfig(ConnectionConfig, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "opcua"``; a tag is a node id or browse path (`protocols.opcua.tags`)."""

    publishing_interval: Positive = Positive(0.1)
    sampling_interval: Seconds = Seconds(0)  # 0: as fast as the server can
    queue_size: Natural = 0  # values per tag that the server queues between two publishings; 0: enough
    deadband: float | str = 0.0  # smaller changes are not sent: a number, or e.g. "2%" of the tag's EURange
    max_age: Positive = Positive(10)  # without any value or keep-alive for so long the connection ends
    max_still: Seconds = Seconds(30)  # a tag whose time is of no use, and of which nothing moves for so long, is bad


class OpcuaSource(Source):
    """Reads tags of one OPC UA server."""

    Config = OpcuaConfig
    KEEPS_STATE = True

    def __init__(self, name: str, config: OpcuaConfig, state: Path | None = None) -> None:
        self._config, self.connector = config, Connector(name, config, state)
        self._sampling = Sampling(
            float(config.publishing_interval),
            float(config.sampling_interval),
            config.queue_size,
            _deadband(name, config.deadband),
            float(config.max_age),
        )
        # These three outlive connections.
        self._evidence, self._read = Evidence(float(config.max_still)), set[str]()  # tags of which a value came
        self._spaces = Namespaces(config.url, state / "sources" / name / SPACES_FILE if state else None)

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """One connection, until `host.stop` or trouble. Raises UnreachableError or ConfigError."""
        memory = _Memory(self._evidence, self._spaces, self._read)
        run = _Run(self._config, self.connector, self._sampling, memory, [parse(t) for t in tags], host)
        asyncio.run(run.run())

    def check(self, tags: Sequence[str]) -> list[str]:
        """Connect, read each tag once, disconnect."""
        problems, known = [], []
        for tag in tags:
            try:
                known.append(parse(tag))
            except ConfigError as e:
                problems.append(str(e))
        try:
            found, self.seen = asyncio.run(_check(self.connector, known, self._spaces))
            pace = min(self._sampling.publishing, self._sampling.sampling or FAST_S)  # values that change are queued
            self.trial = published(list(self.seen.values()), pace, time.time_ns())
            return problems + found
        except FedgeError as e:
            return [*problems, str(e)]


class _Memory(NamedTuple):
    """What one connection leaves to the next."""

    evidence: Evidence
    spaces: Namespaces
    read: set[str]  # tags of which a value came


class _Run:
    """One connection. `_tags[handle]`: the tags of a monitored item; several may share one node."""

    def __init__(
        self,
        config: OpcuaConfig,
        connector: Connector,
        sampling: Sampling,
        memory: _Memory,
        tags: list[Tag],
        host: SourceHost,
    ) -> None:
        self._config, self._connector, self._sampling = config, connector, sampling
        self._evidence, self._spaces, self._known = memory
        self._wanted, self._host = tags, host
        self._gone: set[str] = set()  # missing tags of which values came before, and that are stated as bad
        self._tags: list[list[Tag]] = [[]]
        self._handles: dict[Any, int] = {}  # node -> handle
        self._missing: list[Tag] = []
        self._begun: dict[int, list[Reading]] = {}  # subscription -> readings of responses that announced more
        self._others: dict[int, frozenset[str]] = {}  # subscription -> the tags of the others
        self._newest = (0, 0.0)  # time of the newest value, and when it came
        self._unsound: set[str] = set()  # tags whose last time is not known to be of the source's clock
        self._heard = time.monotonic()
        self._overflowed = -math.inf  # monotonic, s: when values were lost at the server
        self._slowest = 0.0  # sampling interval that the server chose, s
        self._coarse: list[str] = []  # tags for which the server refused the deadband
        self._moved: dict[str, list[str]] = {}  # what namespace has another index -> its tags
        self._said: set[str] = set()  # subjects of problems with nodes
        self._broken: str | None = None

    async def run(self) -> None:
        async with self._connector.open(probe=False) as link:
            link.client.connection_lost_callback = self._lost
            self._url, self._facts, self._client = link.facts.url, link.facts, link.client
            await self._subscribe(link)
            self._host.problem("connection", None)
            self._host.problem("security", link.note or None)
            await self._watch()

    async def _lost(self, error: Exception) -> None:
        self._broken = self._broken or str(explain(error, self._facts))

    async def _subscribe(self, link: Link) -> None:
        """Create the subscriptions, and the items of all tags."""
        self._limits = await limits(link.client)
        if any(t.field for t in self._wanted):
            await load_types(link.client, self._limits)
        self._evidence.connected(time.monotonic())
        self._monitor = Monitor(link.client, self._limits, self._sampling, self._published)
        await self._monitor.begin()
        self._missing = await self._add(self._wanted)

    async def _add(self, tags: list[Tag]) -> list[Tag]:
        """Create items for the tags; returns the missing ones, each with a problem stated."""
        browser = Browser(self._client, self._limits)
        placed = await _placed(self._client, self._spaces, tags)
        lost, tags = [tag for tag in tags if tag.text in placed.lost], placed.tags
        for tag in lost:
            self._host.problem(tag.text, f"{self._url}: {placed.lost[tag.text]}")
        self._state_moved(placed.moved)
        found = await browser.resolve(tags)
        by_node: dict[Any, list[Tag]] = {}
        unresolved = [tag for tag in tags if isinstance(found[tag.text], str)]
        for tag in unresolved:
            self._host.problem(tag.text, f"{self._url}: {found[tag.text]}")
        missing = [*lost, *unresolved]
        for tag in tags:
            if not isinstance(found[tag.text], str):
                by_node.setdefault(found[tag.text], []).append(tag)
        await self._monitor.remove([self._handles.pop(node) for node in by_node if node in self._handles])
        self._tags += by_node.values()
        self._handles |= zip(by_node, range(len(self._tags) - len(by_node), len(self._tags)), strict=True)
        outcome = await self._monitor.add(list(by_node))
        no_room = []
        for handle, granted in outcome.items():
            if granted.status:
                missing += self._tags[handle]
                del self._handles[self._monitor.nodes[handle]]
            if granted.status in NO_ROOM:
                no_room += self._tags[handle]
            for tag in self._tags[handle]:
                await self._state_outcome(tag, granted, browser)
        self._state_room(no_room)
        self._state_grants(outcome)
        self._divide()
        return missing

    def _state_moved(self, moved: dict[str, list[str]]) -> None:
        """State that namespaces have other indexes than when their tags were first read."""
        self._moved |= moved
        each = "; ".join(f"namespace {what}: {self._host.about(tags)}" for what, tags in self._moved.items())
        more = "They are read there; write nsu=URI; instead of ns=, so that no index matters"
        self._host.problem("namespaces", f"{self._url}: {each}. {more}" if each else None)

    async def _state_outcome(self, tag: Tag, granted: Granted, browser: Browser) -> None:
        """State or withdraw the problem of one tag."""
        if not granted.status or granted.status in NO_ROOM:  # for which there is one problem for all
            self._host.problem(tag.text, None)
            return
        near = await browser.near(tag) if granted.status in GONE else ""
        self._host.problem(tag.text, f"{self._url}: tag {tag.text}: {granted.status}{near}")

    def _state_room(self, tags: list[Tag]) -> None:
        """State a problem if the server has no room for some tags."""
        held = self._monitor.subscriptions.values()
        self._host.problem(
            "room",
            f"{self._url}: the server takes {sum(len(s.handles) for s in held):,} items in {len(held)} subscriptions, "
            f"and has no room for {len(tags):,} more ({NO_ROOM[0]}); raise its limits, or read fewer tags; not read: "
            f"{self._about(tags)}"
            if tags
            else None,
        )

    def _state_grants(self, outcome: dict[int, Granted]) -> None:
        """State problems where the server grants less than was asked for."""
        self._coarse += [tag.text for handle, g in outcome.items() if g.coarse for tag in self._tags[handle]]
        if self._coarse:
            some = self._host.about(self._coarse)
            self._host.problem("deadband", f"{self._url}: the server has no deadband for, and sends all of: {some}")
        between = max((s.publishing for s in self._monitor.subscriptions.values()), default=0.0)
        for granted in outcome.values():
            self._slowest = max(self._slowest, granted.sampling)
            if granted.sampling > 0 and not granted.status and granted.queue < between / granted.sampling - 1:
                self._host.problem(
                    "queue",
                    f"{self._url}: the server keeps {granted.queue} values of a tag, and samples "
                    f"{between / granted.sampling:.0f} between two publishings; shorten publishing_interval",
                )

    def _divide(self) -> None:
        """Note the tags that each subscription says nothing about."""
        held = self._monitor.subscriptions.values()
        own = {s.id: {tag.text for handle in s.handles for tag in self._tags[handle]} for s in held}
        everything = set().union(*own.values())
        self._others = {number: frozenset(everything - tags) for number, tags in own.items()}

    def _published(self, result: Any) -> None:
        """Read a publish response; one without values is a keep-alive: nothing has changed until now.

        A response that announces more is used together with what follows: the tags in it have no newer values than the
        others, these only come later.
        """
        from asyncua import ua

        self._heard = now = time.monotonic()
        subscription = self._monitor.subscriptions.get(result.SubscriptionId)
        if subscription is not None:
            subscription.heard = now
        readings = self._begun.pop(result.SubscriptionId, [])
        for part in result.NotificationMessage.NotificationData or ():
            if isinstance(part, ua.DataChangeNotification):
                for item in part.MonitoredItems:
                    readings += self._read(item.ClientHandle, item.Value, now)
            elif isinstance(part, ua.StatusChangeNotification):
                self._broken = self._broken or f"{self._url}: the server ended the subscription ({part.Status.name})"
        if result.MoreNotifications and len(readings) < MOST_AT_ONCE:
            self._begun[result.SubscriptionId] = readings
            return  # a server that always has more is ahead of us: then what there is must do
        if readings:
            self._note_newest(readings, now)
        stamp, came = self._newest
        unsure = self._others.get(result.SubscriptionId, frozenset())
        alive = stamp + round((now - came) * 1e9) if stamp and not result.MoreNotifications else None
        until = self._evidence.clock.until(now)  # one tag may be ahead of all others
        self._host.emit(readings, alive if alive is None or until is None else min(alive, until), unsure)

    def _note_newest(self, readings: list[Reading], now: float) -> None:
        """Note the newest time of the source's clock; tags with another clock, or with values of long ago, say nothing
        of it if others do."""
        last = {r.tag: r.time_ns for r in readings}  # not the largest: the clock may have been set back
        known = {tag: ns for tag, ns in last.items() if tag not in self._unsound} if self._unsound else last
        if known or not self._newest[0]:
            self._newest = (max((known or last).values()), now)

    def _read(self, handle: int, data: Any, now: float) -> list[Reading]:
        """The readings of a node's value, one for each of its tags."""
        if handle == HEARTBEAT_HANDLE:
            self._evidence.hear(data, now)
            return []
        readings, tags = [], self._tags[handle]
        stamp = self._evidence.take(self._monitor.nodes[handle], data, now)
        if stamp.repeated:
            return []
        for tag in tags:
            try:
                made = reading(tag.text, tag.field, data, stamp.time_ns)
            except LookupError as e:
                made = unknown(tag.text, stamp.time_ns)
                self._host.problem(tag.text, f"{self._url}: tag {tag.text}: {e.args[0]}")
            readings.append(unknown(tag.text, stamp.time_ns) if stamp.still else made)
            self._known.add(tag.text)
            (self._unsound.discard if stamp.sound else self._unsound.add)(tag.text)
        if stamp.replaced:
            self._host.count("server_time_used", len(tags))
        if stamp.wrong_ns is not None:
            example = f"{self._about(tags)}: {times.shown(stamp.wrong_ns)} UTC"
            self._host.count("times_implausible", len(tags), example)
        if data.StatusCode is not None and data.StatusCode.value:
            self._handle_status(data.StatusCode, tags)
        return readings

    def _handle_status(self, status: Any, tags: list[Tag]) -> None:
        """Handle a status that says more than good or bad: values lost in between, or a node that vanished."""
        if status.value & OVERFLOW == OVERFLOW:
            self._overflowed = time.monotonic()
            self._host.count("lost_at_server", len(tags), self._about(tags))
            text = f"{self._url}: values are lost at the server before they are sent; "
            self._host.problem("overflow", text + "raise queue_size or shorten publishing_interval")
        if status.name in GONE:
            self._missing += [tag for tag in tags if tag not in self._missing]

    async def _watch(self) -> None:
        """Until stop: end the run on trouble, ask silent nodes, and look for missing tags again."""
        tried = asked = reported = time.monotonic()
        wait, overdue = RETRY_ITEMS_S, False
        while not self._host.stop.is_set():
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            overdue = self._check(now, overdue)
            if now - asked >= min(self._config.timeout, self._config.max_age):
                await self._ask(now)
                asked = time.monotonic()
            if now - reported >= REPORT_S:
                self._report(now)
                reported = now
            if self._missing and now - tried > wait:
                again, self._missing = self._missing, []
                self._missing += await self._add(again)
                tried = time.monotonic()
                wait = max(RETRY_ITEMS_S, 10 * (tried - now))  # looking for many takes time that values need

    def _check(self, now: float, overdue: bool) -> bool:
        """Raise UnreachableError when the connection is of no use; returns whether a subscription is overdue.

        One that is overdue gets another look: this process itself may not have run for a while.
        """
        if self._broken:
            raise UnreachableError(self._broken)
        silent = now - self._monitor.silent_since()
        if silent <= self._monitor.patience():
            return False
        if overdue:
            raise UnreachableError(f"{self._url}: no value and no heartbeat for {silent:.0f} s (max_age)")
        return True

    async def _ask(self, began: float) -> None:
        """Read the server's clock, and nodes of which nothing came. Raises UnreachableError without an answer."""
        from asyncua import ua

        age = max(float(self._config.max_age), 3 * (self._slowest + self._sampling.publishing))
        silent = self._evidence.silent(began, age, min(ASKED, self._limits.read - 1))
        nodes = [node for node in silent if node in self._handles]
        try:
            values = await read(self._client, self._limits, [ua.NodeId(HEARTBEAT), *nodes], age)
        except (asyncio.TimeoutError, ua.uaerrors.BadTimeout) as e:
            await asyncio.sleep(LOOK_S)
            if self._heard <= began:
                raise UnreachableError(no_answer(self._facts)) from e
            return  # it is slow, but it lives
        self._judge(dict(zip(nodes, values[1:], strict=True)), began)

    def _judge(self, values: dict[Any, Any], began: float) -> None:
        """Use what a read of silent nodes gave, but of those that were heard meanwhile."""
        readings, now = [], time.monotonic()
        for node, data in values.items():
            if self._evidence.heard_since(node, began):
                continue
            answer = self._evidence.answer(node, data, now, exact=not self._sampling.deadband[0])
            if answer is Answer.MISSED:
                tags = self._about(self._tags[self._handles[node]])
                raise UnreachableError(f"{self._url}: the subscription no longer sends the changes of {tags}")
            if answer is Answer.NEWS:
                readings += self._read(self._handles[node], data, now)
        if readings:
            self._host.emit(readings)

    def _report(self, now: float) -> None:
        """Say which nodes are not known to be alive, have no usable source time, or a bad status."""
        still = list(self._evidence.take_still(now))
        if still:
            self._host.emit([unknown(tag.text, ns) for node, ns in still for tag in self._tags_of([node])])
        self._state_gone(now)
        if now - self._overflowed > QUIET_S:
            self._host.problem("overflow", None)
        off = "; if that is as it should be: max_still = 0"
        problem, note = self._host.problem, self._host.note
        self._say(problem, "still", self._evidence.still(), "not known to be alive, so without a value", off)
        self._say(note, "source time", self._evidence.faults(), "the server's time is used instead of the source's")
        self._say(problem, "bad", self._evidence.bad(now, BAD_S), "the server gives no value")

    def _state_gone(self, now: float) -> None:
        """Say once of missing tags of which values came before that they have none now."""
        stamp, came = self._newest
        gone = {tag.text for tag in self._missing} & self._known
        if stamp and gone - self._gone:
            alive = stamp + round((now - came) * 1e9)
            self._host.emit([unknown(text, alive) for text in sorted(gone - self._gone)])
            self._gone |= gone
        self._gone &= gone

    def _say(
        self,
        state: Callable[[str, str | None], None],
        subject: str,
        groups: dict[str, list[Any]],
        what: str,
        more: str = "",
    ) -> None:
        """State or withdraw one thing for all nodes; `groups`: by the reason."""
        known = {why: tags for why, nodes in groups.items() if (tags := self._tags_of(nodes))}
        each = "; ".join(f"{why}: {self._about(tags)}" for why, tags in known.items())
        state(subject, f"{self._url}: {what}: {each}{more}" if known else None)

    def _tags_of(self, nodes: Iterable[Any]) -> list[Tag]:
        return [tag for node in nodes if node in self._handles for tag in self._tags[self._handles[node]]]

    def _about(self, tags: Iterable[Tag]) -> str:
        return self._host.about([tag.text for tag in tags])


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


async def _placed(client: Any, spaces: Namespaces, tags: Sequence[Tag], remember: bool = True) -> Placed:
    """The tags with the indexes that their namespaces have at this server now."""
    from asyncua import ua

    if not any(indexes(tag) for tag in tags):
        return Placed(list(tags), {}, {})
    try:
        array = await client.get_namespace_array()
    except ua.UaError:  # a server that does not say its namespaces: indexes are all there is
        array = []
    return spaces.place(tags, array, remember)


async def _check(connector: Connector, tags: list[Tag], spaces: Namespaces) -> tuple[list[str], dict[str, Reading]]:
    """Read each tag once, in chunks; returns the problems, and what can be used."""
    seen: dict[str, Reading] = {}
    async with connector.open() as link:
        limit = await limits(link.client)
        if any(t.field for t in tags):
            await load_types(link.client, limit)
        browser = Browser(link.client, limit)
        placed = await _placed(link.client, spaces, tags, remember=False)
        tags = placed.tags
        found = await browser.resolve(tags)
        moved = [f"namespace {what}: {', '.join(texts[:SHOWN])}" for what, texts in placed.moved.items()]
        wrong = [*placed.lost.values(), *moved, *(f for f in found.values() if isinstance(f, str))]
        problems = [f"{link.facts.url}: {text}" for text in wrong]
        there = [t for t in tags if not isinstance(found[t.text], str)]
        values = await read(link.client, limit, [found[t.text] for t in there])
        for tag, data in zip(there, values, strict=True):
            if why := _wrong(tag, data):
                near = await browser.near(tag) if why in GONE else ""
                problems.append(f"{link.facts.url}: tag {tag.text}: {why}{near}")
            else:
                seen[tag.text] = reading(tag.text, tag.field, data, 0)
        return problems, seen


def _wrong(tag: Tag, data: Any) -> str:
    """Why a value cannot be used; "" if it can."""
    if data.StatusCode is not None and data.StatusCode.value >> 30 > 1:  # Uncertain is used, and counted
        return str(data.StatusCode.name)
    try:
        bad = reading(tag.text, tag.field, data, 0).quality is Quality.BAD
    except LookupError as e:
        return str(e.args[0])
    kind = type(data.Value.Value).__name__ if data.Value is not None else "nothing"
    return f"is of type {kind}, expected a number, text, array, or a field of it behind a #" if bad else ""
