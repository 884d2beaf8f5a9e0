# SPDX-License-Identifier: Apache-2.0
"""What units and images rely on: the words to systemd, the signals, and the same settings in every way to run.

Booted machines and built images are too slow for here; docs/operator/deployment.md says how they were tested.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.paths import ROOT
from support.programs import BIN, ENV
from support.waiting import LONGEST_S

UNITS = [ROOT / "agent/fedge_agent/fedge-agent.service", ROOT / "aggregator/fedge_aggregator/fedge-aggregator.service"]
IMAGES = [ROOT / "Dockerfile.x86", ROOT / "Dockerfile.jetson"]
AGENT = '[agent]\nname = "gw"\nstate = "state"\n'
AGGREGATOR = (
    '[aggregator]\nstate = "state"\naddresses = ["127.0.0.1"]\nlisten = "127.0.0.1:0"\noperator = "127.0.0.1:0"\n'
)


@pytest.fixture
def systemd(tmp_path: Path) -> socket.socket:
    """systemd's end of the notification socket."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.bind(str(tmp_path / "notify"))
    channel.settimeout(LONGEST_S)
    return channel


@pytest.mark.parametrize(
    ("program", "config"), [("fedge-agent", AGENT), ("fedge-aggregator", AGGREGATOR)], ids=["agent", "aggregator"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_service_tells_systemd_how_it_is(
    program: str, config: str, number: signal.Signals, tmp_path: Path, systemd: socket.socket
) -> None:
    (tmp_path / "service.toml").write_text(config)
    notified = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    command: list[str | Path] = [BIN / program, "start", "--config", tmp_path / "service.toml"]
    with systemd, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**ENV, **notified})
        try:
            messages = [systemd.recv(100) for _ in range(4)]
            process.send_signal(number)
            while messages[-1] == b"WATCHDOG=1" or messages[-1] == b"READY=1":
                messages.append(systemd.recv(100))
            assert process.wait(LONGEST_S) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()
    assert messages[0] == b"READY=1" and messages.count(b"READY=1") == 1
    assert messages.count(b"WATCHDOG=1") >= 3
    assert messages[-1] == b"STOPPING=1"


def test_service_that_systemd_does_not_watch_says_nothing_of_it(tmp_path: Path, systemd: socket.socket) -> None:
    (tmp_path / "service.toml").write_text(AGENT)
    notified = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000", "WATCHDOG_PID": str(os.getpid())}
    command: list[str | Path] = [BIN / "fedge-agent", "start", "--config", tmp_path / "service.toml"]
    with systemd, subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**ENV, **notified}) as process:
        assert systemd.recv(100) == b"READY=1"
        systemd.settimeout(0.6)  # three times the pause between two words, if there were any
        with pytest.raises(TimeoutError):
            systemd.recv(100)
        process.terminate()


@pytest.mark.parametrize("path", [*UNITS, *IMAGES], ids=lambda p: p.name)
def test_every_way_to_run_sets_the_same(path: Path) -> None:
    """One BLAS thread: two cost a quarter of the speed on small layers. ONNX Runtime must not phone home."""
    text = path.read_text()
    assert "OPENBLAS_NUM_THREADS=1" in text
    assert "ORT_DISABLE_TELEMETRY=1" in text


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_image_compiles_by_hash(path: Path) -> None:
    """Layers round times of files: half of the usual .pyc were stale, which cost 40 MiB and every start's time."""
    assert "--invalidation-mode unchecked-hash" in path.read_text()
    assert all("--no-compile" in line for line in re.findall(r"bin/pip install.*", path.read_text()))


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_image_runs_without_rights(path: Path) -> None:
    last = path.read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert re.search(r"install -d -o 10001 -g 10001 -m 0700 /var/lib/fedge-agent\b", last, re.M)


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.stem)
def test_the_kernel_ends_the_service_that_takes_all_memory_and_nothing_else(unit: Path) -> None:
    text = unit.read_text()
    assert "\nMemoryMax=75%\n" in text and "\nRestart=always\n" in text
