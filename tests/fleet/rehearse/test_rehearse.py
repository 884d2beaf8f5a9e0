# SPDX-License-Identifier: Apache-2.0
"""`fedge-fleet rehearse` with real processes: what it reports, and that nothing stays behind however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.rehearsal import write_folder
from support.waiting import LONGEST_S, until

BIN = Path(sys.executable).parent
SECRET = "hunter2"  # in the user's files


@contextmanager
def rehearsing(root: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(BIN / "fedge-fleet"), "rehearse", str(root), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def children(process: subprocess.Popen[str]) -> list[Path]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [Path("/proc") / pid for pid in text.split()]


def line_with(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr is not None
    return next(line for line in process.stderr if words in line)


def gone(pids: list[Path]) -> bool:
    """Whether no such process is left, but for those that nobody has waited for yet."""
    states = [(pid / "stat").read_text().rpartition(")")[2].split()[0] for pid in pids if (pid / "stat").exists()]
    return all(state in "ZX" for state in states)


def test_a_folder_is_rehearsed_from_its_own_files(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user")
    for name in ("press-1", "press-2"):
        path = root / f"{name}.agent.toml"
        path.write_text(path.read_text().replace("token_file", f'headers = {{ X-Key = "{SECRET}" }}\ntoken_file'))
    files = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    report = tmp_path / "report.html"
    with rehearsing(root, "--speed", "100", "--rounds", "1", "--json", "--report", str(report)) as process:
        out, err = process.communicate(timeout=2 * LONGEST_S)
    assert process.returncode == 0, out + err
    found = json.loads(out)
    for gateway in found["gateways"].values():
        assert gateway["decided"] >= 70 and gateway["replayed"] == {"plc": 800} and gateway["readings"] == {"plc": 800}
        (mes,) = gateway["outputs"]
        assert mes["opened"] >= 1 and mes["total"] == mes["opened"] + mes["raised"] + mes["cleared"]
        assert mes["example"]["create"]["method"] == "POST"
        assert gateway["rounds"]["pump"] and gateway["bytes_per_day"] > 0 and gateway["memory_mib"] > 20
        assert "release" in gateway["serves"]["pump"] and not gateway["problems"]
    assert found["federations"]["pump"]["rounds"] >= 1 and found["failed"] is None
    assert any("[output.mes]" in words and "nothing is sent" in words for words in found["differs"])
    assert SECRET not in out + err + report.read_text() and "press-1" in report.read_text()
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == files


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_a_rehearsal_that_is_ended_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    root = write_folder(tmp_path / "user", ("press-1",))
    with rehearsing(root, "--speed", "1") as process:
        line_with(process, "running at")
        pids = children(process)
        assert len(pids) == 2 and not gone(pids)
        process.send_signal(number)
        process.wait(LONGEST_S)
        assert process.returncode == (-number if number is signal.SIGKILL else 130)
    until(lambda: gone(pids))


@pytest.mark.slow
def test_a_gateway_that_ends_is_a_problem_with_its_last_words(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user")
    with rehearsing(root, "--speed", "1", "--json") as process:
        line_with(process, "running at")
        victim = next(pid for pid in children(process) if b"press-2/agent.toml" in (pid / "cmdline").read_bytes())
        subprocess.run(["kill", "-9", victim.name], check=True)
        out, err = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 2, err
    failed = json.loads(out)["failed"]
    assert failed.startswith("gateway-press-2 ended with code -9") and "status page on" in failed


@pytest.mark.slow
def test_a_gateway_reads_a_server_with_its_tags(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user", ("press-1",))
    text = (root / "press-1/plc.csv").read_text().splitlines()
    (root / "press-1/plc.csv").write_text("\n".join(text[:40]) + "\n")
    with rehearsing(root, "--connectors", "--rounds", "0", "--json") as process:
        line_with(process, "running at 1 times")
        pids = children(process)
        assert len(pids) == 3
        out, err = process.communicate(timeout=2 * LONGEST_S)
    gateway = json.loads(out)["gateways"]["press-1"]
    assert gateway["readings"]["plc"] >= 70 and gateway["windows"]["pump-1"] >= 4, out + err
    assert any("reads an OPC UA server of this machine" in words for words in json.loads(out)["differs"])
    assert gone(pids)
