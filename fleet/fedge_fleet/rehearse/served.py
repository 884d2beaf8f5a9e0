# SPDX-License-Identifier: Apache-2.0
"""Sources that are replayed through a real server on this machine, so that the gateway's own connector is tried too.

An OPC UA source reads a server with its tags, an MQTT source a broker. Both stamp values with this machine's clock, so
the replay runs in real time. What cannot be served so is replayed as a file, and the reason is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedge_agent.sources.mqtt_payload import parse_tag
from fedge_agent.types import Table

from ..machines import opcua_tags
from ..machines.local import free_port, program
from .tables import Recording
from .uses import Use

SECURITY = (
    *("security", "server_certificate", "certificate", "private_key", "application_uri", "username", "password_file"),
    *("user_certificate", "user_private_key", "ca_file"),
)


class ServedPart(NamedTuple):
    """A table that a server gives to the source `name`, whose other keys stay."""

    name: str
    kind: str  # "opcua" or "mqtt"
    recording: Recording
    tags: list[str]  # columns
    columns: dict[str, str]  # tag of the gateway -> column
    keys: Table  # of the source, without those for security
    port: int

    @property
    def source(self) -> Table:
        """The table of the source."""
        scheme = {"opcua": "opc.tcp", "mqtt": "mqtt"}[self.kind]
        return {"type": self.kind, **self.keys, "url": f"{scheme}://127.0.0.1:{self.port}"}


def part(
    name: str, table: Table, config: Any, recording: Recording, columns: Mapping[Use, str]
) -> tuple[ServedPart | None, str]:
    """The part that serves a source, or why there is none."""
    kind = str(table["type"])
    if kind not in REASONS:
        return None, f"there is no server of type {kind} here"
    if blocks := [use.full for use in columns if use.waveform_hz is not None]:
        return None, f"{blocks[0]} is a waveform"
    if why := REASONS[kind](config, [use.tag for use in columns]):
        return None, why
    keys = {key: value for key, value in table.items() if key not in (*SECURITY, "type", "url")}
    by_tag = {use.tag: column for use, column in columns.items()}
    tags = list(dict.fromkeys(columns.values()))
    return ServedPart(name, kind, recording, tags, by_tag, keys, free_port()), ""


def plan(part: ServedPart, rows: Path, begin_ns: int, folder: Path) -> dict[str, Any]:
    """What `fedge-fleet replay` is told."""
    return {
        "kind": part.kind,
        "rows": str(rows),
        "begin_ns": begin_ns,
        "tags": part.columns,
        "time": part.keys.get("time", ""),
        "port": part.port,
        **{name: str(folder / f"{part.name}.{name}") for name in ("ready", "done", "go")},
    }


def _why_not_opcua(_: Any, tags: Sequence[str]) -> str:
    return next((f"tag {tag!r} is {why}" for tag in tags if (why := opcua_tags.why_not(tag))), "")


def _why_not_mqtt(config: Any, tags: Sequence[str]) -> str:
    if config.payload == "array":
        return "its payloads are blocks of samples"
    places: dict[str, set[bool]] = {}
    for tag in tags:
        topic, place = parse_tag(tag)
        if place.pointer == ():
            return f"tag {tag!r} is a whole document"
        places.setdefault(topic, set()).add(place.pointer is None)
    if config.time and (plain := [topic for topic, kinds in places.items() if True in kinds]):
        return f"time = {config.time!r}, but topic {plain[0]!r} has a tag without a pointer"
    mixed = [topic for topic, kinds in places.items() if len(kinds) > 1]
    if mixed:
        return f"topic {mixed[0]!r} has tags with a pointer and one without"
    return "" if program("mosquitto") else "the broker mosquitto is not installed (apt-get install mosquitto)"


REASONS: dict[str, Callable[[Any, Sequence[str]], str]] = {"opcua": _why_not_opcua, "mqtt": _why_not_mqtt}
