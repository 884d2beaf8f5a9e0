# SPDX-License-Identifier: Apache-2.0
"""What an agent costs on a small board: resident memory, time to start, and what an installation takes on the disk.

A real `fedge-agent start` with an OPC UA source (a real server in another process), a session and a small MLP that
trains every second for a real aggregator; the figures are read from outside, out of /proc.
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import http.client
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedge_fleet.data import recordings
from fedge_fleet.data.recordings import write_track
from fedge_fleet.demo import scenario
from fedge_fleet.machines.processes import Processes, run

BIN = Path(sys.executable).parent
SITE = "foundry"


def configs(folder: Path, port: int, made: scenario.Scenario) -> None:
    """Write the aggregator's and the agent's configuration, and the model file."""
    (folder / "model.onnx").write_bytes(made.model)
    (folder / "agg.toml").write_text(
        f'[aggregator]\nstate = "{folder}/agg"\naddresses = ["127.0.0.1"]\nlisten = "127.0.0.1:{port}"\n'
        'operator = "127.0.0.1:0"\n[federation.f]\nquorum = 1\ndeadline = "1s"\n'
    )
    plc = (folder / "port").read_text()
    channels = "\n".join(
        f'channels.{name} = {{ source = "plc", tag = "ns=2;s={name}", waveform_hz = {made.tracks[SITE].rate_hz} }}'
        for name, _ in made.tracks[SITE].channels
    )
    (folder / "gw.toml").write_text(
        f"""
[agent]
name = "gw"
state = "{folder}/gw"
[source.plc]
type = "opcua"
url = "opc.tcp://127.0.0.1:{plc}/"
[model.f]
poll = "500ms"
training = {{ interval = "1s", min_samples = 10 }}
[asset.machine]
model = "f"
{channels}
label = {{ source = "plc", tag = "ns=2;s=label" }}
"""
    )


def status(folder: Path) -> dict[str, Any] | None:
    """Return the agent's status page, or None while there is none."""
    try:
        host, _, port = (folder / "gw/status.addr").read_text().rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        connection.request("GET", "/status")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
    except OSError:
        return None
    return answer


def wait(done: Callable[[], Any], processes: Processes) -> float:
    """Return the seconds until done() is true."""
    began = time.monotonic()
    while not done():
        processes.check()
        time.sleep(0.01)
    return time.monotonic() - began


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def installed_mb() -> float:
    """Return the size of the interpreter's site-packages without pip, development tools or peers, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, str(Path(__file__).resolve().parent.parent)], check=True)
        subprocess.run([f"{folder}/bin/pip", "uninstall", "--quiet", "--yes", "pip", "setuptools"], check=True)
        version = sysconfig.get_python_version()
        files = (Path(folder) / f"lib/python{version}/site-packages").rglob("*")
        return sum(f.stat().st_size for f in files if f.is_file()) / 2**20


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    made = scenario.load(None)
    with tempfile.TemporaryDirectory() as name, Processes(Path(name) / "logs", os.environ) as processes:
        folder = Path(name)
        write_track(folder / "track.npz", recordings.simulated()[SITE])
        command: list[str | Path] = [
            BIN / "fedge-fleet",
            "plc",
            "--track",
            folder / "track.npz",
            "--ready",
            folder / "port",
        ]
        processes.start("plc", [*command, "--go", folder / "go"])
        wait((folder / "port").exists, processes)
        configs(folder, 0, made)
        run(
            [BIN / "fedge-aggregator", "model", "add", "f", folder / "model.onnx", "--config", folder / "agg.toml"],
            os.environ,
        )
        processes.start("agg", [BIN / "fedge-aggregator", "start", "--config", folder / "agg.toml"])
        wait((folder / "agg/status.addr").exists, processes)
        config: list[str | Path] = ["--config", folder / "gw.toml"]
        invite: list[str | Path] = [
            BIN / "fedge-aggregator",
            "invite",
            "gw",
            "--federation",
            "f",
            "--config",
            folder / "agg.toml",
        ]
        run([BIN / "fedge-agent", "join", run(invite, os.environ).strip(), *config], os.environ)
        agent = processes.start("gw", [BIN / "fedge-agent", "start", *config])
        (folder / "go").touch()
        wait(lambda: (status(folder) or {"latency": {"decisions": 0}})["latency"]["decisions"] > 5, processes)
        seen = rss_mb(agent.pid)
        deadline = time.monotonic() + (15 if args.quick else 40)
        while time.monotonic() < deadline:
            processes.check()
            time.sleep(0.2)
            seen = max(seen, rss_mb(agent.pid))
        trained = len((status(folder) or {})["models"]["f"]["trainings"])
        processes.end("gw")
        starts = []
        for _ in range(3):  # again, with a model, a scale and samples of its own: the case after a power cut
            (folder / "gw/status.addr").unlink(missing_ok=True)
            began = time.monotonic()
            processes.start("gw", [BIN / "fedge-agent", "start", *config])
            wait(lambda: (status(folder) or {"models": {"f": {"release": None}}})["models"]["f"]["release"], processes)
            starts.append(time.monotonic() - began)
            processes.end("gw")
    figures = {"agent_rss_mb": seen, "trainings": float(trained), "start_s": sorted(starts)[1]}
    if not args.quick:
        figures["installed_mb"] = installed_mb()
    table(["figure", "value"], [[k, f"{v:.2f}"] for k, v in figures.items()])
    finish("footprint", figures, args.json)


if __name__ == "__main__":
    main()
