# SPDX-License-Identifier: Apache-2.0
"""A source's or output's keys, and its sample from the one example configuration."""

from __future__ import annotations

import re

import msgspec
from fedge_agent.config.plugins import load_class
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.sources.registry import SOURCES

from . import example, keys, structs

REGISTRIES = {"source": SOURCES, "output": OUTPUTS}
FAMILY = {  # whose table explains the keys that are alike
    ("source", "sparkplug"): ("source", "mqtt"),
    ("output", "mqtt"): ("source", "mqtt"),
    ("output", "sparkplug"): ("source", "mqtt"),
    ("output", "opcua"): ("source", "opcua"),
    ("output", "webhook"): ("output", "mes"),
    ("source", "http"): ("output", "mes"),
}
KEY = re.compile(r"^# ([a-z]\w*) = ")


def struct_of(kind: str, type_: str) -> type[msgspec.Struct]:
    """The struct of a source's or output's table."""
    struct: type[msgspec.Struct] = load_class(REGISTRIES[kind][type_]).Config
    return struct


def keys_of(kind: str, type_: str) -> str:
    """The table of a type's keys."""
    tables = example.read(keys.EXAMPLES["agent"])
    words: dict[str, str] = {}
    for found in (*_of_type(tables, *FAMILY.get((kind, type_), (kind, type_))), *_of_type(tables, kind, type_)):
        words |= {k: v for k, v in found.comments.items() if v}
    return structs.rendered(struct_of(kind, type_), words)


def sample(kind: str, type_: str) -> str:
    """A type's table of the example: what has to be given is in force, a commented line shows a default."""
    needed = {f.encode_name for f in msgspec.structs.fields(struct_of(kind, type_)) if f.required} | {"type"}
    tables = example.read(keys.EXAMPLES["agent"])
    first = next(t for t in tables if t.path[0] == kind and len(t.path) == 2 and t.type == type_)
    nested = [t for t in tables if t.path[:2] == first.path[:2] and len(t.path) > 2]
    lines = [_in_force(line, needed) for line in first.lines if line.strip()]
    lines += [line for t in nested for line in t.lines if line.strip()]
    return "```toml\n" + "\n".join(lines) + "\n```"


def _in_force(line: str, needed: set[str]) -> str:
    found = KEY.match(line)
    if line.startswith("# [") or (found and found[1] in needed):
        return line.removeprefix("# ")
    return line


def _of_type(tables: list[example.Table], kind: str, type_: str) -> list[example.Table]:
    return [t for t in tables if t.path[0] == kind and t.type == type_]
