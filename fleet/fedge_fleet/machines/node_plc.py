# SPDX-License-Identifier: Apache-2.0
"""An OPC UA server from another project: node-opcua serves the tags of `plc.py`, and a track is replayed into it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

from fedge_models.errors import StopError
from fedge_models.system import files

from ..data.recordings import Track
from .plc import NAMESPACE

SCRIPT = Path(__file__).with_name("node_plc.js")


def serve(track: Track, modules: Path, ready: Path, go: Path, stop: threading.Event) -> None:
    """Serve until `stop`; `ready` gets the port, the replay starts when `go` exists. `modules`: where node-opcua is."""
    names = [name for name, _ in track.channels]
    waveform, state = track.kind == "waveform", f"{ready}.pki"
    options = {"namespace": NAMESPACE, "channels": names, "waveform": waveform, "state": state}
    environment = {**os.environ, "NODE_PATH": str(modules)}
    command = ["node", str(SCRIPT), json.dumps(options)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise StopError(f"node-opcua did not start (node {SCRIPT.name}, NODE_PATH {modules})")
            files.write(ready, port.encode())
            while not go.exists():
                if stop.wait(0.02):
                    return
            begin, wall = time.monotonic(), time.time()
            files.write(ready.with_name(ready.name + ".begin"), repr(wall).encode())
            for step in track.steps():
                if stop.wait(max(0.0, begin + step.due_s - time.monotonic())):
                    return
                line = {"time": wall + step.due_s, "values": step.values, "label": step.label}
                process.stdin.write(json.dumps(line) + "\n")
                process.stdin.flush()
            stop.wait()
        finally:
            process.terminate()
