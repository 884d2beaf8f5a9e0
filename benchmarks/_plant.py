# SPDX-License-Identifier: Apache-2.0
"""A small plant whose parts can fail: four machines on four protocols, a MES, an aggregator, and a real agent.

Each part has its faults as methods. The machines run in threads of this process, so that they can misbehave in any way;
the OPC UA server, the broker, the aggregator and the agent are processes, so that they can be stopped and killed.
"""

from __future__ import annotations

import _common  # noqa: F401  # isort: skip  # sets the BLAS threads first

import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from fedge_fleet.machines.mes import Mes
from fedge_fleet.machines.processes import Processes, run
from fedge_models.system.service import HttpServer

BIN = Path(sys.executable).parent
RATE_HZ = 2.0  # of the machines in this process; the pump has 1 Hz
PUMP_HZ = 1.0
CONFIG = """[agent]
name = "soak"
state = "agent"
log_level = "warning"

[source.plc]
type = "opcua"
url = "opc.tcp://127.0.0.1:{opcua}"

[source.broker]
type = "mqtt"
url = "mqtt://127.0.0.1:{mqtt}"
client_id = "soak"
time = "/ts"

[source.logger]
type = "files"
path = "oven.csv"
time_column = "time"
tail = true
poll = "250ms"

[source.meter]
type = "http"
url = "http://127.0.0.1:{meter}/"
poll = "500ms"
time = "/ts"

[model.line]
poll = "2s"
training = {{ min_samples = 32, interval = "2m" }}

[template.machine]
model = "line"
baseline = "2m"
window = {{ rate_hz = {rate}, length = 10, hop = 4, max_hold = "5s" }}
when = {{ min_gap = "1m" }}

[asset.pump]
template = "machine"
window = {{ rate_hz = {pump}, length = 10, hop = 4, max_hold = "5s" }}
channels.a = {{ source = "plc", tag = "ns=2;s=Pump1.Current" }}
channels.b = {{ source = "plc", tag = "ns=2;s=Pump1.Pressure" }}

[asset.press]
template = "machine"
channels.a = {{ source = "broker", tag = "plant/press#/a" }}
channels.b = {{ source = "broker", tag = "plant/press#/b", range = [-50, 200] }}

[asset.oven]
template = "machine"
channels.a = {{ source = "logger", tag = "a" }}
channels.b = {{ source = "logger", tag = "b" }}

[asset.heater]
template = "machine"
channels.a = {{ source = "meter", tag = "/a" }}
channels.b = {{ source = "meter", tag = "/b" }}

[output.mes]
type = "mes"
url = "http://127.0.0.1:{mes}/work-orders"
create = {{ body = {{ asset = "{{asset}}" }} }}
"""
AGGREGATOR = """[aggregator]
state = "aggregator"
addresses = ["127.0.0.1"]
listen = "127.0.0.1:0"
operator = "127.0.0.1:0"
log_level = "warning"

[federation.line]
"""


class Machine:
    """A machine with two values; its thread hands a sample over at each tick, as its faults say."""

    def __init__(self, hand_over: Callable[[float, Any, Any], None], seed: int) -> None:
        self.silent = self.worn = False
        self.bend: Callable[[float, Any, Any], tuple[float, Any, Any]] = lambda t, a, b: (t, a, b)
        self._hand_over, self._rng = hand_over, random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin with the samples."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def heal(self) -> None:
        """End every fault."""
        self.silent = self.worn = False
        self.bend = lambda t, a, b: (t, a, b)

    def _run(self) -> None:
        while not self._stop.wait(1 / RATE_HZ):
            t = time.time()
            a = 20 + math.sin(t / 7) + 0.05 * self._rng.gauss(0, 1) + 9 * self.worn
            b = 1.5 + 0.1 * math.cos(t / 11) + 0.01 * self._rng.gauss(0, 1) - 0.9 * self.worn
            if not self.silent:
                self._hand_over(*self.bend(t, round(a, 4), round(b, 4)))


class SickMes(Mes):
    """A MES that can answer 500."""

    sick = False

    def create(self, key: str, body: str) -> tuple[int, int]:
        return (500, 0) if self.sick else super().create(key, body)


class Meter(HttpServer):
    """A meter with the newest sample at /, over HTTP."""

    sick = False
    sample: tuple[float, Any, Any] = (0.0, 0.0, 0.0)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MeterPage)


class _MeterPage(BaseHTTPRequestHandler):
    server: Meter
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        t, a, b = self.server.sample
        body = json.dumps({"ts": t, "a": a, "b": b}).encode()
        self.send_response(500 if self.server.sick else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


class Plant:
    """All of it, in one folder; `processes` ends what it starts."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.folder, self.processes = folder, processes
        self.mes, self.meter = SickMes(folder / "mes.sqlite"), Meter()
        for server in (self.mes, self.meter):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self.opcua_port, self.mqtt_port = _free_port(), _free_port()
        (folder / "mosquitto.conf").write_text(f"listener {self.mqtt_port} 127.0.0.1\nallow_anonymous true\n")
        self.start_broker()
        self.start_pump()
        self.oven_csv = folder / "oven.csv"
        self.oven_csv.write_text("time,a,b\n")
        self.press = Machine(self._publish, 1)
        self.oven = Machine(self._append, 2)
        self.heater = Machine(self._show, 3)
        self._client = self._connected()

    def start(self) -> None:
        """Configure, join and start aggregator and agent; the machines run."""
        ports = {"opcua": self.opcua_port, "mqtt": self.mqtt_port, "meter": self.meter.server_address[1]}
        text = CONFIG.format(**ports, mes=self.mes.server_address[1], rate=RATE_HZ, pump=PUMP_HZ)
        (self.folder / "agent.toml").write_text(text)
        (self.folder / "aggregator.toml").write_text(AGGREGATOR)
        self.call("fedge-agent", "model", "new", "line", "--config", "agent.toml", "--out", "line.onnx")
        self.call("fedge-aggregator", "model", "add", "line", "line.onnx", "--config", "aggregator.toml")
        self.aggregator = self._service("fedge-aggregator", "aggregator")
        invite = ("invite", "soak", "--federation", "line", "--config", "aggregator.toml")
        self.call("fedge-agent", "join", self.call("fedge-aggregator", *invite).strip(), "--config", "agent.toml")
        for machine in (self.press, self.oven, self.heater):
            machine.start()
        self.agent = self._service("fedge-agent", "agent")

    def stop(self) -> None:
        """End the machines and the servers of this process."""
        for machine in (self.press, self.oven, self.heater):
            machine.stop()
        self._client.disconnect()
        self._client.loop_stop()
        self.mes.shutdown()
        self.meter.shutdown()

    def status(self) -> tuple[int, str]:
        """(exit code, text) of `fedge-agent status`."""
        command = [str(BIN / "fedge-agent"), "status", "--config", "agent.toml"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)
        return done.returncode, done.stdout + done.stderr

    def call(self, program: str, *arguments: str) -> str:
        """Run a command in the plant's folder."""
        return run(["env", "-C", str(self.folder), str(BIN / program), *arguments], os.environ)

    def start_broker(self) -> None:
        """Start mosquitto and wait for its port."""
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") or "mosquitto"
        self.broker = self.processes.start("mosquitto", [program, "-c", str(self.folder / "mosquitto.conf")])
        _wait_for_port(self.mqtt_port)

    def start_pump(self) -> None:
        """Start the OPC UA server of the pump."""
        self.pump = self.processes.start("pump", [BIN / "fedge-fleet", "plc", "--port", str(self.opcua_port)])
        _wait_for_port(self.opcua_port)

    def end(self, name: str) -> None:
        """End a process by its name."""
        self.processes.end(name)

    def freeze(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a process where it is, as a machine that hangs."""
        process.send_signal(signal.SIGSTOP)

    def thaw(self, process: subprocess.Popen[bytes]) -> None:
        """Let it run on."""
        process.send_signal(signal.SIGCONT)

    def _service(self, program: str, name: str) -> subprocess.Popen[bytes]:
        command = ["env", "-C", str(self.folder), str(BIN / program), "start", "--config", f"{name}.toml"]
        process = self.processes.start(name, command)
        while not (self.folder / name / "status.addr").exists():
            self.processes.check()
            time.sleep(0.05)
        return process

    def _connected(self) -> Any:
        from paho.mqtt import client as mqtt

        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.reconnect_delay_set(1, 2)
        client.connect("127.0.0.1", self.mqtt_port)
        client.loop_start()
        return client

    def _publish(self, t: float, a: Any, b: Any) -> None:
        self._client.publish("plant/press", json.dumps({"ts": t, "a": a, "b": b}))

    def _append(self, t: float, a: Any, b: Any) -> None:
        with self.oven_csv.open("a") as file:
            file.write(f"{t:.3f},{a},{b}\n")

    def _show(self, t: float, a: Any, b: Any) -> None:
        self.meter.sample = t, a, b


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait_for_port(port: int) -> None:
    while True:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
