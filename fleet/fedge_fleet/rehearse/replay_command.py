# SPDX-License-Identifier: Apache-2.0
"""`fedge-fleet replay`: one recording of a rehearsal as an OPC UA server or an MQTT machine. `rehearse` starts it."""

from __future__ import annotations

import asyncio
import csv
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system.plain_file import read_plain

from ..machines.opcua_tags import Step

MOST_BYTES = 16 << 20


class ReplayPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is replayed, and how."""

    kind: str  # "opcua" or "mqtt"
    rows: Path  # as `tables.write` writes them
    begin_ns: int  # time of the recording at which the replay begins
    tags: dict[str, str]  # tag -> column
    time: str = ""  # mqtt: JSON pointer to the time stamp
    port: int  # of the server, or of the broker
    ready: Path  # this file says that clients may connect
    go: Path  # the replay begins when this file exists
    done: Path  # this file says that everything was sent


@click.command()
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay(plan: Path) -> None:
    """Serve a recording of a rehearsal over OPC UA or MQTT.

    PLAN is a JSON file that `fedge-fleet rehearse --connectors` writes. Nothing but this computer is reached.
    """
    try:
        found = msgspec.json.decode(read_plain(plan, MOST_BYTES), type=ReplayPlan, dec_hook=_path)
    except msgspec.DecodeError as e:
        raise ConfigError(f"{plan}: expected a plan that `fedge-fleet rehearse --connectors` wrote: {e}") from e
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # what matters of it is an exception here
    if found.kind == "opcua":
        from ..machines import opcua_tags

        serving = opcua_tags.serve(
            found.tags, _texts(found.rows), _steps(found), found.port, found.ready, found.go, found.done
        )
        asyncio.run(serving)
        return
    from ..machines import mqtt_tags

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    mqtt_tags.play(found.tags, found.time, _steps(found), found.port, found.ready, found.go, found.done, stop)


def _steps(plan: ReplayPlan) -> Iterator[Step]:
    for stamp, column, value, quality in _rows(plan.rows):
        made: float | str | None = None if quality == "bad" else _value(value)
        yield Step((int(stamp) - plan.begin_ns) / 1e9, column, made)


def _texts(rows: Path) -> frozenset[str]:
    """Columns with a value that is no number."""
    return frozenset(c for _, c, value, quality in _rows(rows) if quality != "bad" and isinstance(_value(value), str))


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows, None)  # the header
        yield from rows


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _path(type_: type, value: Any) -> Any:
    return type_(value)
