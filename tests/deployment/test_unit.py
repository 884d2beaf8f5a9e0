# SPDX-License-Identifier: Apache-2.0
"""`unit` prints a systemd unit that starts this installation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.programs import BIN

PROGRAMS = ["fedge-agent", "fedge-aggregator"]


def printed(program: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / program, "unit", *options], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_unit_starts_the_program_that_printed_it(program: str, tmp_path: Path) -> None:
    config = tmp_path / "service.toml"
    done = printed(program, "--config", config)
    assert done.returncode == 0
    assert f"\nExecStart={BIN / program} start --config {config}\n" in done.stdout
    assert done.stdout.count("ExecStart=") == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_unit_verifies(program: str, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    unit = tmp_path / f"{program}.service"
    unit.write_text(printed(program).stdout)
    done = subprocess.run(["systemd-analyze", "--man=no", "verify", unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not [x for x in done.stderr.splitlines() if unit.name in x], done.stderr


def test_link_to_an_installation_stays_a_link(tmp_path: Path) -> None:
    """An upgrade moves /opt/fedge to another folder, and the unit stays as it is."""
    (tmp_path / "current").symlink_to(BIN)
    done = subprocess.run([tmp_path / "current/fedge-agent", "unit"], capture_output=True, text=True, check=True)
    assert f"\nExecStart={tmp_path}/current/fedge-agent start --config /etc/fedge/agent.toml\n" in done.stdout


def test_configuration_that_the_service_cannot_see_is_a_warning() -> None:
    done = printed("fedge-agent", "--config", "/home/ann/agent.toml")
    assert done.returncode == 0
    assert "the service cannot see /home/ann/agent.toml" in done.stderr
    assert "/etc/fedge" not in printed("fedge-agent").stderr


def test_path_that_needs_an_escape_is_refused() -> None:
    done = printed("fedge-agent", "--config", "/etc/my fedge/100%.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fedge-agent: '/etc/my fedge/100%.toml': has a character")
