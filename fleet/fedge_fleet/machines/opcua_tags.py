# SPDX-License-Identifier: Apache-2.0
"""An OPC UA server with the tags of a gateway, into which recorded values are written at their time.

Tags are node ids (``ns=2;s=…``, ``nsu=…;s=…``) and paths without wildcards. A value's source time is when it is due.
Until the replay begins, every tag waits for initial data. Nothing but this computer can reach the server.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from fedge_agent.protocols.opcua.tags import Tag, parse
from fedge_models.system import files

NAMESPACE = "urn:fedge:rehearsal"
MOST_INDEX = 1000  # of a namespace: all before it are made, too
DEFAULT_SPACE = 2
_INDEXED = re.compile(r"ns=(\d+);(.+)")
_NAMED = re.compile(r"nsu=([^;]*);(.+)")


class Step(NamedTuple):
    """A recorded value: when it is due, of which column, and itself; None: of bad quality."""

    due_s: float
    column: str
    value: float | str | None


def why_not(text: str) -> str:
    """Why a tag cannot be served, in words; empty: it can. Raises ConfigError for what is no tag."""
    tag = parse(text)
    if tag.field:
        return "a field of a structure, or an element of an array"
    if tag.node:
        found = _INDEXED.fullmatch(tag.node)
        if _NAMED.fullmatch(tag.node) or (found and 0 < int(found[1]) <= MOST_INDEX):
            return ""
        return "a node of the server itself (namespace 0)"
    if any(element.wild for element in tag.path):
        return "a path with a wildcard"
    if tag.exact and (tag.path[0].name != "Objects" or len(tag.path) < 2):
        return "a path that does not begin with /Objects"
    return ""


async def serve(
    tags: Mapping[str, str], texts: frozenset[str], steps: Iterator[Step], port: int, ready: Path, go: Path, done: Path
) -> None:
    """Serve until SIGTERM. tags: tag -> column; texts: columns with text; ready, done: files that say so."""
    from asyncua import Server

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    nodes = await _nodes(server, tags, texts)
    async with server:
        files.write(ready, str(port).encode())
        replay = asyncio.create_task(_replay(server, nodes, texts, steps, go, lambda: files.write(done, b"done")))
        await stop.wait()
        replay.cancel()


async def _nodes(server: Any, tags: Mapping[str, str], texts: frozenset[str]) -> dict[str, list[Any]]:
    """Column -> the nodes that have its values."""
    from asyncua import ua

    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    made: dict[str, list[Any]] = {}
    folders: dict[tuple[Any, ...], Any] = {}
    for text, column in tags.items():
        kind = ua.VariantType.String if column in texts else ua.VariantType.Double
        first = "" if column in texts else 0.0
        node = await _add(server, ua, parse(text), folders, first, kind)
        waiting = ua.DataValue(ua.Variant(), ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData))
        await server.write_attribute_value(node.nodeid, waiting)
        made.setdefault(column, []).append(node)
    return made


async def _add(server: Any, ua: Any, tag: Tag, folders: dict[tuple[Any, ...], Any], first: Any, kind: Any) -> Any:
    """Add the variable of a tag, and the objects on its path."""
    if tag.node:
        node_id = await _node_id(server, ua, tag.node)
        return await server.nodes.objects.add_variable(node_id, str(node_id.Identifier), first, kind)
    parent, path = server.nodes.objects, tag.path[1:] if tag.exact else tag.path
    for i, element in enumerate(path):
        space = DEFAULT_SPACE if element.space is None else element.space
        await _space(server, space)
        name = ua.QualifiedName(element.name, space)
        if i == len(path) - 1:
            return await parent.add_variable(ua.NodeId(f"{tag.text}", max(space, 1)), name, first, kind)
        key = tuple(path[: i + 1])
        if key not in folders:
            folders[key] = await parent.add_object(ua.NodeId(f"object {key}", max(space, 1)), name)
        parent = folders[key]
    raise AssertionError(tag)


async def _node_id(server: Any, ua: Any, text: str) -> Any:
    if named := _NAMED.fullmatch(text):
        space = await server.register_namespace(named[1])
        return ua.NodeId.from_string(f"ns={space};{named[2]}")
    indexed = _INDEXED.fullmatch(text)
    assert indexed is not None
    await _space(server, int(indexed[1]))
    return ua.NodeId.from_string(text)


async def _space(server: Any, index: int) -> None:
    """Make the namespaces up to an index."""
    while len(known := await server.get_namespace_array()) <= index:
        await server.register_namespace(f"{NAMESPACE}:{len(known)}")


async def _replay(
    server: Any,
    nodes: Mapping[str, list[Any]],
    texts: frozenset[str],
    steps: Iterator[Step],
    go: Path,
    finished: Callable[[], None],
) -> None:
    from asyncua import ua

    while not go.exists():
        await asyncio.sleep(0.02)
    begin, wall = time.monotonic(), time.time()
    for step in steps:
        await asyncio.sleep(max(0.0, begin + step.due_s - time.monotonic()))
        stamp = datetime.fromtimestamp(wall + step.due_s, timezone.utc)
        if step.value is None:
            variant, status = ua.Variant(), ua.StatusCode(ua.StatusCodes.Bad)
        elif step.column in texts:
            variant, status = ua.Variant(str(step.value), ua.VariantType.String), ua.StatusCode()
        else:
            variant, status = ua.Variant(step.value, ua.VariantType.Double), ua.StatusCode()
        for node in nodes[step.column]:
            await server.write_attribute_value(node.nodeid, ua.DataValue(variant, status, SourceTimestamp=stamp))
    finished()
