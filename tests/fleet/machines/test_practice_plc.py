# SPDX-License-Identifier: Apache-2.0
"""`fedge-fleet plc` without options: a pump to practise with."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from fedge_agent.cli.main import main as agent
from fedge_fleet.cli import main
from fedge_fleet.machines.practice_pump import CHANNELS, DEMAND_S, FAULT_S, FAULT_TAG, HEALTHY_S, pump
from support.waiting import LONGEST_S

BIN = Path(sys.executable).parent
EXAMPLE = Path(__file__).resolve().parents[3] / "agent/fedge_agent/agent.example.toml"


def test_a_fault_shows_in_both_channels() -> None:
    track = pump(hours=1.0)
    fault = track.label == 1
    assert fault.sum() == 2 * FAULT_S and not fault[:HEALTHY_S].any()
    earlier = HEALTHY_S - 2 * round(DEMAND_S)  # the same demand, and no fault
    healthy, broken = (track.values[:, start : start + FAULT_S] for start in (earlier, HEALTHY_S))
    assert broken[1].mean() < healthy[1].mean() - 0.4
    assert (np.diff(broken).std(axis=1) > 2 * np.diff(healthy).std(axis=1)).all()
    assert np.isfinite(track.values).all()


def test_its_tags_are_those_of_the_example_configuration() -> None:
    text = EXAMPLE.read_text("utf-8")
    assert all(f"ns=2;s={tag}" in text for tag in (*(name for name, _ in CHANNELS), FAULT_TAG))


def test_it_serves_until_it_is_stopped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([BIN / "fedge-fleet", "plc", "--port", str(port)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"opc.tcp://127.0.0.1:{port}/ is ready; Ctrl-C ends it\n".encode()
            shown = CliRunner().invoke(agent, ["browse", f"opc.tcp://127.0.0.1:{port}"])
            assert shown.exit_code == 0 and "Pump1.Current" in shown.output and "Pump1.Fault" in shown.output
            again = CliRunner().invoke(main, ["plc", "--port", str(port)])
            assert again.exit_code == 1 and f"port {port} cannot be opened" in again.stderr
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(LONGEST_S) == 0
