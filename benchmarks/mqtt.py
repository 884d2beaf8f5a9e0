# SPDX-License-Identifier: Apache-2.0
"""What an MQTT source costs: messages a second through broker, inbox, windows and decisions, each acknowledged only
when it is durable; CPU of the agent for each; its resident memory without OPC UA.

A real `fedge-agent start` and a real mosquitto; twenty pumps share a subscription, a message has two readings in JSON
and a time stamp. The agent learns from the first hundred seconds of source time, then the rest waits at the broker and
is taken as fast as it goes.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import http.client
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection
from fedge_fleet.machines.processes import Processes
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

BIN = Path(sys.executable).parent
PUMPS, RATE, HOP = 20, 10.0, 10
BEGIN_MS = 1_700_000_000_000
CARD = Card("anomaly", (Channel("current"), Channel("pressure")), WindowSpec(RATE, 20, HOP), ("mean", "std", "rms"))


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def listens(port: int) -> bool:
    """Whether the broker listens."""
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def configuration(folder: Path, port: int) -> str:
    """Write the configuration: twenty pumps of one model."""
    pumps = "".join(
        f"""
[asset.pump-{i}]
model = "f"
channels.current = {{ source = "broker", tag = "plant/pump-{i}/state#/motor/current" }}
channels.pressure = {{ source = "broker", tag = "plant/pump-{i}/state#/pressure" }}
"""
        for i in range(PUMPS)
    )
    return f"""
[agent]
name = "gw"
state = "{folder}/gw"
[source.broker]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
client_id = "gw"
subscriptions = ["plant/+/state"]
time = "/ts"
time_unit = "ms"
[model.f]
file = "{folder}/model.onnx"
training = {{ interval = "5s", min_samples = 50 }}
{pumps}"""


def status(folder: Path) -> dict[str, Any]:
    """Return the agent's status page."""
    host, _, port = (folder / "gw/status.addr").read_text().rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/status")
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def wait(done: Callable[[], Any], processes: Processes) -> None:
    """Wait until done() is true."""
    while not done():
        processes.check()
        time.sleep(0.02)


class Plant:
    """Publishes ticks of all pumps."""

    def __init__(self, port: int) -> None:
        self.tick, self._rng = 0, random.Random(0)
        self._connection = Connection(Broker(url=f"mqtt://127.0.0.1:{port}"))
        self._connection.open()

    def run(self, ticks: int) -> None:
        """Publish this many more ticks, each with a message a pump."""
        for _ in range(ticks):
            stamp = BEGIN_MS + round(self.tick * 1000 / RATE)
            sent = []
            for i in range(PUMPS):
                body = {"ts": stamp, "motor": {"current": self._rng.gauss(5, 1)}, "pressure": self._rng.gauss(2, 0.1)}
                sent.append(self._connection.publish(f"plant/pump-{i}/state", json.dumps(body).encode()))
            self._connection.wait(sent)
            self.tick += 1

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    if (mosquitto := shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")) is None:
        print("mosquitto is not installed (make counterparts): nothing is measured")
        return
    with tempfile.TemporaryDirectory() as name, Processes(Path(name) / "logs", os.environ) as processes:
        folder, port = Path(name), free_port()
        (folder / "mosquitto.conf").write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n"
        )
        processes.start(
            "mosquitto",
            [mosquitto, "-c", folder / "mosquitto.conf"],
        )
        (folder / "model.onnx").write_bytes(zoo.autoencoder(CARD, 6, (4, 2)).SerializeToString())
        (folder / "gw.toml").write_text(configuration(folder, port))
        wait(lambda: listens(port), processes)
        command: list[str | Path] = [BIN / "fedge-agent", "start", "--config", folder / "gw.toml"]
        agent = processes.start("gw", command)
        wait((folder / "gw/status.addr").exists, processes)
        wait(lambda: status(folder)["models"]["f"]["waits_for"] != "a model", processes)
        time.sleep(1)
        plant = Plant(port)
        plant.run(1000)
        wait(lambda: status(folder)["latency"]["decisions"], processes)
        resident = rss_mb(agent.pid)
        processes.end("gw")
        ticks = 500 if args.quick else 1500
        plant.run(ticks)
        agent = processes.start("gw", command)
        wait(lambda: status_or_none(folder, agent.pid), processes)
        began, used, had = time.monotonic(), cpu_s(agent.pid), status(folder)["sources"]["broker"]["readings"]
        wait(lambda: status(folder)["sources"]["broker"]["readings"] >= 2 * PUMPS * ticks, processes)
        count = (2 * PUMPS * ticks - had) / 2
        took, used = time.monotonic() - began, cpu_s(agent.pid) - used
        inbox = status(folder)["inbox"]
        resident = max(resident, rss_mb(agent.pid))
        plant.close()
    figures = {
        "messages_per_s": count / took,
        "cpu_us_per_message": 1e6 * used / count,
        "agent_rss_mb_mqtt": resident,
        "inbox_mb": inbox["bytes"] / 2**20,
    }
    table(["figure", "value"], [[k, f"{v:.2f}"] for k, v in figures.items()])
    finish("mqtt", figures, args.json)


def status_or_none(folder: Path, pid: int) -> bool:
    """Return the status of the agent that runs now, or None."""
    try:
        return bool(status(folder)["uptime_s"] >= 0) and Path(f"/proc/{pid}").exists()
    except OSError:
        return False


if __name__ == "__main__":
    main()
