# SPDX-License-Identifier: Apache-2.0
"""Write events, and the newest decisions, into nodes of an OPC UA server such as the PLC of the line.

Promises: an event is delivered when the server has accepted every value of it; a value is written in the node's own
type. Of decisions only the newest is written; one that could not be written in time is skipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from fedge_models.errors import ConfigError, FedgeError, RefusedError, RetryError

from .. import figures, placeholders
from ..figures import Of
from ..protocols.opcua.browsing import Browser
from ..protocols.opcua.calls import Limits, in_parts, limits, read
from ..protocols.opcua.connection import ConnectionConfig, Connector, Link, troubles
from ..protocols.opcua.loop import Loop
from ..protocols.opcua.reasons import Facts, explain
from ..protocols.opcua.tags import parse
from ..types import DRIFT, SILENT, Decision, Event, Output, Receipt

OF_DECISIONS = tuple(figures.select(Of.DECISION))
OF_EVENTS = tuple(figures.select(Of.EVENT | Of.ALERT))
OF_TAGS = ("asset", "model")
TABLES = tuple(figure.name for figure in figures.FIGURES if figure.type in figures.TABLES)
RETRY = ("BadNodeIdUnknown", "BadNotConnected", "BadResourceUnavailable", "BadOutOfService", "BadWaitingForInitialData")


class OpcuaOutputConfig(ConnectionConfig, frozen=True, forbid_unknown_fields=True):
    """``[output.X] type = "opcua"``: node id or path -> value, both with {asset}, {score} and so on."""

    events: dict[str, Any] = msgspec.field(default_factory=dict)  # at each event; {alert} is true until it clears
    silent: dict[str, Any] = msgspec.field(
        default_factory=dict
    )  # when a machine falls silent ({silent}), and decides again
    drift: dict[str, Any] = msgspec.field(default_factory=dict)  # when a machine's inputs drift ({drift}), and no more
    decisions: dict[str, Any] = msgspec.field(default_factory=dict)  # with each new decision, at most ten a second


class OpcuaOutput(Output):
    """Writes to one server over one connection, which opens when there is something to write."""

    Config = OpcuaOutputConfig
    KEEPS_STATE = True

    def __init__(self, name: str, config: OpcuaOutputConfig, state: Path | None = None) -> None:
        self._name, self._config, self.connector = name, config, Connector(name, config, state)
        of_events = ((table, OF_EVENTS) for table in (config.events, config.silent, config.drift))
        for table, fields in (*of_events, (config.decisions, OF_DECISIONS)):
            placeholders.check(list(table.values()), fields, f"output {name}", TABLES)
            placeholders.check(list(table), OF_TAGS, f"output {name}")
            for tag in table:
                if parse(tag.replace("{asset}", "a").replace("{model}", "m")).field:
                    raise ConfigError(f"output {name}: tag {tag!r}: a whole node is written, not a field of it")
        self._loop, self._writer = Loop(name), _Writer(self.connector)
        self.shows_decisions = bool(config.decisions)

    def deliver(self, event: Event) -> Receipt:
        """Write the event's values. Raises RetryError (again later) or RefusedError (the server never will)."""
        values = self._values(event)
        if not values:
            return Receipt(skipped=f"`{self._table(event)[0]}` names no node with a value for it")
        self._loop.call(self._writer.write(values), self._patience)
        return Receipt()

    def preview(self, event: Event) -> dict[str, Any]:
        """The value of each node."""
        return {"url": self._config.url, "write": self._values(event)}

    def check(self) -> list[str]:
        """Connect and read each node whose name does not depend on the asset; nothing is written."""
        config = self._config
        tables = (config.events, config.silent, config.drift, config.decisions)
        tags = [tag for table in tables for tag in table if "{" not in tag]
        try:
            self._loop.call(self._writer.types(tags), self._patience)
        except FedgeError as e:
            return [f"output {self._name}: {e}"]
        finally:
            self.end()
        return []

    def end(self) -> None:
        """Disconnect."""
        with contextlib.suppress(FedgeError):
            self._loop.call(self._writer.close(), self._patience)
        self._loop.stop()

    @property
    def _patience(self) -> float:
        return float(self._config.timeout) * 5

    def show(self, decision: Decision) -> None:
        """Write the decision's values. Raises like `deliver`."""
        values = _filled(self._config.decisions, figures.of_decision(decision))
        self._loop.call(self._writer.write(values), self._patience)

    def _table(self, event: Event) -> tuple[str, dict[str, Any]]:
        """Key and nodes for an event of its kind."""
        own = {SILENT: self._config.silent, DRIFT: self._config.drift}
        return (event.kind, own[event.kind]) if event.kind in own else ("events", self._config.events)

    def _values(self, event: Event) -> dict[str, Any]:
        """Node -> value, of those that have one."""
        known = {**figures.of_event(event), "alert": event.alert, "silent": event.silent}
        known |= {"drift": event.drifts, "drift_reason": event.reason if event.drifts else ""}
        filled = _filled(self._table(event)[1], known)
        return {tag: value for tag, value in filled.items() if value is not None}


def _filled(table: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Node -> value, with the placeholders of both filled."""
    names = {"asset": known["asset"], "model": known["model"]}
    return {placeholders.fill(tag, names): placeholders.fill(value, known) for tag, value in table.items()}


class _Writer:
    """The connection, and types of its nodes. All methods run in the event loop."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._open = contextlib.AsyncExitStack()
        self._link: Link | None = None
        self._limits = Limits()
        self._nodes: dict[str, tuple[Any, Any]] = {}  # tag -> (NodeId, VariantType)

    async def write(self, values: Mapping[str, Any]) -> None:
        """Write all values, or raise the first error."""
        try:
            known = await self.types(list(values))
            assert self._link is not None
            await self._put(self._link, [(t, *known[t], v) for t, v in values.items() if v is not None])
        except RetryError:
            await self.close()  # the next attempt opens a new one
            raise
        except troubles() as e:
            facts = (
                self._link.facts
                if self._link
                else Facts(self._connector.config.url, timeout=float(self._connector.config.timeout))
            )
            await self.close()
            raise explain(e, facts) from e

    async def types(self, tags: list[str]) -> dict[str, tuple[Any, Any]]:
        """Node and type of each tag. Raises RetryError for a missing node, which concerns this event only."""
        link = self._link or await self._connect()
        new = [tag for tag in tags if tag not in self._nodes]
        if new:
            found = await Browser(link.client, self._limits).resolve([parse(tag) for tag in new])
            for tag in new:
                if isinstance(found[tag], str):
                    raise RetryError(f"{link.facts.url}: {found[tag]}")
            for tag, data in zip(new, await read(link.client, self._limits, [found[t] for t in new]), strict=True):
                self._nodes[tag] = found[tag], await self._type(link, tag, found[tag], data)
        return self._nodes

    async def close(self) -> None:
        """Disconnect; errors do not matter."""
        self._link, self._nodes = None, {}
        with contextlib.suppress(Exception):
            await self._open.aclose()

    async def _connect(self) -> Link:
        self._open = contextlib.AsyncExitStack()
        self._link = link = await self._open.enter_async_context(self._connector.open())
        self._limits = await limits(link.client)
        return link

    async def _type(self, link: Link, tag: str, node: Any, data: Any) -> Any:
        """The VariantType of a node: that of its value, or the declared one if it has no value yet."""
        from asyncua import ua

        if data.Value is not None and data.Value.Value is not None:
            return data.Value.VariantType
        if data.StatusCode is not None and data.StatusCode.name == "BadNodeIdUnknown":
            raise RetryError(f"{link.facts.url}: tag {tag}: BadNodeIdUnknown; is there no such node?")
        declared = await link.client.get_node(node).read_data_type()
        if declared.NamespaceIndex or not 1 <= declared.Identifier <= ua.VariantType.LocalizedText.value:
            raise RefusedError(f"{link.facts.url}: tag {tag}: holds {declared.to_string()}, expected a plain value")
        return ua.VariantType(declared.Identifier)

    async def _put(self, link: Link, values: list[tuple[str, Any, Any, Any]]) -> None:
        """Write values, as many per call as the server allows."""
        from asyncua import ua

        async def put(part: Sequence[tuple[str, Any, Any, Any]]) -> Any:
            asked = ua.WriteParameters()
            for tag, node, type_, value in part:
                one = ua.WriteValue()
                one.NodeId, one.AttributeId = node, ua.AttributeIds.Value
                one.Value = ua.DataValue(ua.Variant(_cast(ua, link, tag, type_, value), type_))
                asked.NodesToWrite.append(one)
            return await link.client.uaclient.write(asked)

        for (tag, *_, value), status in zip(values, await in_parts(values, self._limits.write, put), strict=True):
            if not status.is_good():
                kind = RetryError if status.name in RETRY else RefusedError
                raise kind(f"{link.facts.url}: the server does not accept {value!r} for {tag}: {status.name}")


def _cast(ua: Any, link: Link, tag: str, type_: Any, value: Any) -> Any:
    """Convert a value to a node's type. Raises RefusedError."""
    kinds = ua.VariantType
    try:
        if type_ is kinds.Boolean:
            return bool(value)
        if type_ in (kinds.Float, kinds.Double):
            return float(value)
        if kinds.SByte.value <= type_.value <= kinds.UInt64.value:
            return round(float(value))
        if type_ is kinds.String:
            return value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else str(value)
        if type_ is kinds.LocalizedText:
            return ua.LocalizedText(str(value))
    except (ValueError, TypeError, OverflowError) as e:
        raise RefusedError(f"{link.facts.url}: tag {tag}: {value!r} is not of type {type_.name}") from e
    raise RefusedError(f"{link.facts.url}: tag {tag}: holds {type_.name}, expected a number, text or boolean")
