# SPDX-License-Identifier: Apache-2.0
"""A machine that speaks MQTT: replays one track as JSON messages, for a broker that is there.

Every message holds all channels, the scheduled time in Unix seconds, and the label, which is null during the test part:
what is judged is not taught. Until the replay begins a retained message says that nothing is known yet. QoS 1: the
broker keeps for a gateway's session what the gateway has not had.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from fedge_models.errors import UnreachableError
from fedge_models.system import files

from ..data.recordings import Track

CONNECT_S = 10.0
ALL_SENT_S = 10.0
QUEUE = 10_000


def play(track: Track, host: str, port: int, topic: str, ready: Path, go: Path, stop: threading.Event) -> None:
    """Publish until the end or `stop`; `ready` gets the broker's port, the replay starts when `go` exists."""
    client = connected(host, port)
    try:
        names = [name for name, _ in track.channels]
        nothing: dict[str, Any] = {"time": time.time(), **dict.fromkeys([*names, "label"])}
        client.publish(topic, json.dumps(nothing), qos=1, retain=True).wait_for_publish(ALL_SENT_S)
        files.write(ready, str(port).encode())
        while not go.exists():
            if stop.wait(0.02):
                return
        _replay(client, track, topic, ready.with_name(ready.name + ".begin"), stop)
        stop.wait()
    finally:
        client.disconnect()
        client.loop_stop()


def _replay(client: Any, track: Track, topic: str, started: Path, stop: threading.Event) -> None:
    begin, wall = time.monotonic(), time.time()
    files.write(started, repr(wall).encode())
    for step in track.steps():
        if stop.wait(max(0.0, begin + step.due_s - time.monotonic())):
            return
        message = {"time": wall + step.due_s, **step.values, "label": step.label}
        client.publish(topic, json.dumps(message), qos=1)


def connected(host: str, port: int) -> Any:
    """Return a client that is connected to the broker. Raises UnreachableError."""
    from paho.mqtt import client as mqtt

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_queued_messages_set(QUEUE)
    there = threading.Event()
    client.on_connect = lambda *_: there.set()
    try:
        client.connect(host, port)
    except OSError as e:
        raise UnreachableError(f"mqtt://{host}:{port}: {e}") from e
    client.loop_start()
    if not there.wait(CONNECT_S):
        raise UnreachableError(f"mqtt://{host}:{port}: no answer to our connecting")
    return client
