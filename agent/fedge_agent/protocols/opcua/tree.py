# SPDX-License-Identifier: Apache-2.0
"""List the nodes of a server for `fedge-agent browse`: a tree with types and values, or configuration lines."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from itertools import count
from typing import Any, NamedTuple

from .browsing import Browser, Child
from .calls import Limits, read

MAX_NODES = 100_000
NUMBERS = (bool, int, float)
SHOWN = 60  # characters of a value


class Leaf(NamedTuple):
    """One node: its path of names, its node id, and the type and value of a variable."""

    path: tuple[str, ...]
    node: str
    variable: bool
    type: str = ""
    text: str = ""
    value: Any = None


async def tree(client: Any, limit: Limits, start: Any, depth: int) -> list[Leaf]:
    """Read the nodes below `start`, parents before children, each once; below Objects without the server's own."""
    from asyncua import ua

    browser, order = Browser(client, limit), dict[Any, tuple[tuple[str, ...], Child]]()
    below: dict[Any, list[Any]] = {}
    level, objects = [start], start == ua.NodeId(ua.ObjectIds.ObjectsFolder)
    for deep in range(depth):
        found = await browser.children(level)
        level = []
        for parent, children in found.items():
            for child in children:
                if child.id in order or (objects and not deep and not child.id.NamespaceIndex):
                    continue
                order[child.id] = ((*order[parent][0], child.name) if parent in order else (child.name,), child)
                below.setdefault(parent, []).append(child.id)
                level.append(child.id)
        if not level or len(order) > MAX_NODES:
            break
    variables = [node for node, (_, child) in order.items() if child.variable]
    values = dict(zip(variables, await read(client, limit, variables), strict=True))
    return [_leaf(*order[node], values.get(node)) for node in _descend(below, start)]


def _descend(below: dict[Any, list[Any]], start: Any) -> Iterator[Any]:
    waiting = list(reversed(below.get(start, [])))
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(below.get(node, []))


def _leaf(path: tuple[str, ...], child: Child, data: Any) -> Leaf:
    node = child.id.to_string()
    if data is None:
        return Leaf(path, node, child.variable)
    value = data.Value.Value if data.Value is not None else None
    if value is None:
        status = data.StatusCode.name if data.StatusCode is not None and data.StatusCode.value else "no value"
        return Leaf(path, node, True, "", status)
    kind = data.Value.VariantType.name
    one = value[0] if isinstance(value, list) and value else value
    kind = type(one).__name__ if kind == "ExtensionObject" else kind
    kind += f"[{len(value)}]" if isinstance(value, list) else ""
    return Leaf(path, node, True, kind, shown(value), value)


def shown(value: Any) -> str:
    """Write a value in one short line."""
    fields = fields_of(value)
    text = ", ".join(f"{name} {shown(inner)}" for name, inner in fields.items()) if fields else _plain(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a decoded structure; {} for any other value."""
    if isinstance(value, Enum) or not hasattr(value, "__dataclass_fields__"):
        return {}
    return {name: getattr(value, name) for name in value.__dataclass_fields__ if name != "Encoding"}


def lines(leaves: list[Leaf], source: str) -> Iterator[str]:
    """Write configuration lines for all possible channels: numbers, arrays of numbers, and both inside structures."""
    found = [(leaf, inside, value) for leaf in leaves for inside, value in _channels(leaf.value)]
    names = _names([(*leaf.path, *re.findall(r"\w+", inside)) for leaf, inside, _ in found])
    for name, (leaf, inside, value) in zip(names, found, strict=True):
        tag = leaf.node + (inside or ("#" if "#" in leaf.node else ""))
        wave = ", waveform_hz = 1000.0" if isinstance(value, list) else ""
        hint = "  # waveform_hz: as the machine samples it" if wave else ""
        text = json.dumps(tag, ensure_ascii=False)
        yield f'channels.{name} = {{ source = "{source}", tag = {text}{wave} }}{hint}'


def _channels(value: Any, inside: str = "") -> Iterator[tuple[str, Any]]:
    """Each number or array of numbers in a value, and what to write behind the node id for it."""
    if isinstance(value, NUMBERS) or (isinstance(value, list) and value and isinstance(value[0], NUMBERS)):
        yield inside, value
    for name, inner in fields_of(value).items():
        yield from _channels(inner, f"{inside}.{name}" if inside else f"#{name}")


def _names(paths: list[tuple[str, ...]]) -> list[str]:
    """A channel name for each path: as few of its last names as make it unique."""
    cleaned = [[re.sub(r"\W+", "_", part, flags=re.A).strip("_") or "_" for part in path] for path in paths]
    ends = Counter("_".join(w[-n:]) for w in cleaned for n in range(1, len(w) + 1))
    names: dict[str, None] = {}
    for parts in cleaned:
        tails = ["_".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        name = next((tail for tail in tails if ends[tail] == 1), tails[-1])
        twins = (f"{name}_{n}" for n in count(2))
        names[name if name not in names else next(twin for twin in twins if twin not in names)] = None
    return list(names)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(shown(v) for v in value[:5]) + (", …]" if len(value) > 5 else "]")
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(getattr(value, "Text", None) or value) if not isinstance(value, bytes) else f"{len(value)} bytes"
