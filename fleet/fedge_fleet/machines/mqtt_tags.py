# SPDX-License-Identifier: Apache-2.0
"""An MQTT machine with the tags of a gateway: recorded values are published at their time, as the gateway expects them.

A tag "topic" is a message of its own; the tags "topic#/pointer" of one time are one JSON message of their topic.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

from fedge_agent.sources.mqtt_payload import parse_pointer, parse_tag
from fedge_models.system import files

from .mqtt_machine import ALL_SENT_S, connected
from .opcua_tags import Step


def play(
    tags: Mapping[str, str],
    time_pointer: str,
    steps: Iterator[Step],
    port: int,
    ready: Path,
    go: Path,
    done: Path,
    stop: threading.Event,
) -> None:
    """Publish to the broker on this port until `stop`. tags: tag -> column; ready, done: files that say so."""
    client = connected("127.0.0.1", port)
    columns: dict[str, list[str]] = {}
    for tag, column in tags.items():
        columns.setdefault(column, []).append(tag)
    try:
        files.write(ready, str(port).encode())
        while not go.exists():
            if stop.wait(0.02):
                return
        begin, wall = time.monotonic(), time.time()
        for due_s, those in groupby(steps, lambda step: step.due_s):
            if stop.wait(max(0.0, begin + due_s - time.monotonic())):
                return
            for topic, payload in messages(columns, list(those), time_pointer, wall + due_s).items():
                sent = client.publish(topic, payload, qos=1)
        sent.wait_for_publish(ALL_SENT_S)
        files.write(done, b"done")
        stop.wait()
    finally:
        client.disconnect()
        client.loop_stop()


def messages(columns: Mapping[str, list[str]], steps: list[Step], time_pointer: str, at: float) -> dict[str, bytes]:
    """Topic -> payload of the values of one time; `at`: Unix time, s."""
    plain, documents = dict[str, bytes](), dict[str, dict[str, Any]]()
    for step in steps:
        for tag in columns[step.column]:
            topic, place = parse_tag(tag)
            if place.pointer is None:
                plain[topic] = b"" if step.value is None else str(step.value).encode()
            else:
                _set(documents.setdefault(topic, {}), place.pointer, step.value)
    for document in documents.values() if time_pointer else ():
        stamp = datetime.fromtimestamp(at, timezone.utc).isoformat()
        _set(document, parse_pointer(time_pointer, "time"), stamp)
    return plain | {topic: json.dumps(document).encode() for topic, document in documents.items()}


def _set(document: dict[str, Any], pointer: tuple[str, ...], value: Any) -> None:
    for token in pointer[:-1]:
        document = document.setdefault(token, {})
    document[pointer[-1] if pointer else ""] = value
