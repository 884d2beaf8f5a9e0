# SPDX-License-Identifier: Apache-2.0
"""Every key of the three configuration files, from their structs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import msgspec
from fedge_agent.config import schema as agent
from fedge_aggregator.config import schema as aggregator
from fedge_fleet.simulate import config as simulation

from . import example, structs
from .markdown import code, prose, table

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "agent": ROOT / "agent/fedge_agent/agent.example.toml",
    "aggregator": ROOT / "aggregator/fedge_aggregator/aggregator.example.toml",
}
ROOTS: dict[str, type[msgspec.Struct]] = {"agent": agent.Config, "aggregator": aggregator.Config}


def sections(struct: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Each table of a file and its struct, in the order of the file; a struct that comes again is shown once."""
    seen: set[type[msgspec.Struct]] = set()
    for name, found in _below(struct, path):
        if found not in seen:
            seen.add(found)
            yield name, found


def _below(struct: type[msgspec.Struct], path: str) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        for hint in (hints[field.name], *get_args(hints[field.name])):
            if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
                many = get_origin(hints[field.name]) is dict
                name = ".".join(filter(None, (path, field.encode_name, "X" if many else "")))
                yield name, hint
                yield from _below(hint, name)


def page(which: str) -> str:
    """The tables of one file: agent, aggregator or simulate."""
    if which == "simulate":
        return _simulation()
    tables = example.read(EXAMPLES[which])
    parts = []
    for path, struct in sections(ROOTS[which]):
        words = example.comments(tables, tuple(path.replace("X", "*").split(".")))
        first = " ".join((struct.__doc__ or "").split("\n\n")[0].split())
        parts.append(f"### `[{path}]`\n\n{prose(_sentence(first))}\n\n{structs.rendered(struct, words)}")
    return "\n\n".join(parts)


def _sentence(docstring: str) -> str:
    """A struct's first sentence without the table's name, which the heading has."""
    text = docstring.split(": ", 1)[-1] if docstring.startswith("``[") else docstring
    return text[:1].upper() + text[1:]


def _simulation() -> str:
    fields = {f.name: f for f in msgspec.structs.fields(simulation.Config)}
    hints = get_type_hints(simulation.Config, include_extras=True)
    rows = [
        (code(name), structs.kind(get_args(hints[name])[0]), structs.default(fields[name], hints[name]), meaning)
        for name, meaning in simulation.keys().items()
    ]
    return table(("key", "takes", "default", "meaning"), rows)
