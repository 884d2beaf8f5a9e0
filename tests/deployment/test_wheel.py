# SPDX-License-Identifier: Apache-2.0
"""What users install works: the wheel in an environment of its own, without a network and outside of the checkout."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fedge_models import __version__
from support.installation import CLEAN, Installation, Service, blocks
from support.paths import ROOT

pytestmark = pytest.mark.slow

AGENT = '[agent]\nname = "gw"\nstate = "{root}/var/lib/private/fedge-agent"\n'
AGGREGATOR = (
    '[aggregator]\nstate = "{root}/var/lib/private/fedge-aggregator"\n'
    'addresses = ["127.0.0.1"]\nlisten = "127.0.0.1:0"\noperator = "127.0.0.1:0"\n'
)
REGISTRIES = {"SOURCES", "OUTPUTS", "OPERATORS", "RULES", "MIXINGS", "OPTIMIZERS", "SETS", "ATTACKS"}
ROOMS = ("models/", "agent/", "aggregator/", "fleet/")
NEXT = "99.0.0"
[INSTALL] = blocks("Install without a network")[1:]
UPGRADE, SWITCH, ROLLBACK = blocks("Upgrade and roll back")


@pytest.fixture(scope="module")
def installed(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """fedge as docs/operator/deployment.md installs it without a network."""
    made = Installation(tmp_path_factory.mktemp("machine"))
    shutil.copytree(wheelhouse, made.root / "wheelhouse")
    made.follow(versions(INSTALL))
    (made.root / "etc/fedge/agent.toml").write_text(AGENT.format(root=made.root))
    (made.root / "etc/fedge/aggregator.toml").write_text(AGGREGATOR.format(root=made.root))
    return made


def versions(script: str) -> str:
    """A block of the page with this version in place of its example, and with the next one."""
    return script.replace("0.1.0", __version__).replace("0.2.0", NEXT)


def service(machine: Installation, program: str) -> Service:
    """The service of the unit file that the installed program prints."""
    config = machine.root / f"etc/fedge/{program.removeprefix('fedge-')}.toml"
    unit = machine.run(machine.bin / program, "unit", "--config", config).stdout
    return Service(unit, machine.root / f"{program}.notify")


def test_every_module_and_every_registry_entry_is_installed(installed: Installation, tracked: list[str]) -> None:
    done = installed.run(installed.bin / "python", "-I", ROOT / "tests/deployment/import_everything.py")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["folder"]).is_relative_to(installed.root)
    files = [path for path in tracked if path.startswith(ROOMS) and path.endswith(".py")]
    assert len(found["modules"]) == len(files)
    assert found["registries"].keys() >= REGISTRIES
    assert all(found["registries"][name] for name in REGISTRIES)


def test_installation_is_what_the_lock_says(installed: Installation) -> None:
    """Nothing of the development environment is needed, and every requirement is met."""
    assert installed.run(installed.bin / "pip", "check").returncode == 0
    listed = json.loads(installed.run(installed.bin / "pip", "list", "--format", "json").stdout)
    names = {re.sub(r"[-_.]+", "-", entry["name"]).lower() for entry in listed}
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.M))
    assert names - {"pip", "setuptools"} <= locked | {"fedge"}


@pytest.mark.parametrize("program", ["fedge-agent", "fedge-aggregator", "fedge-fleet"])
def test_program_prints_its_version(program: str, installed: Installation) -> None:
    assert installed.run(installed.bin / program, "--version").stdout == f"{program}, version {__version__}\n"


def test_check_of_the_example_names_what_it_cannot_reach(installed: Installation) -> None:
    config = installed.root / "example/agent.toml"
    assert installed.run(installed.bin / "fedge-agent", "init", "--config", config).returncode == 0
    done = installed.run(installed.bin / "fedge-agent", "check", "--config", config)
    assert done.returncode == 1
    assert f"ok   configuration {config}" in done.stdout
    assert "FAIL source plc\n     opc.tcp://192.0.2.10:4840: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_example_of_the_aggregator_is_a_configuration(installed: Installation) -> None:
    config = installed.root / "example/aggregator.toml"
    assert installed.run(installed.bin / "fedge-aggregator", "init", "--config", config).returncode == 0
    load = (
        "import sys; from pathlib import Path; from fedge_aggregator.config import load; load.load(Path(sys.argv[1]))"
    )
    done = installed.run(installed.bin / "python", "-Ic", load, config)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", ["fedge-agent", "fedge-aggregator"])
def test_unit_starts_the_installed_service(program: str, installed: Installation) -> None:
    with service(installed, program) as started:
        assert Path(started.command[0]) == installed.bin / program
        assert started.stop() == 0


def test_demo_runs(installed: Installation) -> None:
    """Until agents have decided; the whole demo is `make demo`."""
    command: list[str | Path] = [installed.bin / "fedge-fleet", "demo", "--out", installed.root / "report"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=CLEAN, cwd=installed.root
    ) as demo:
        assert demo.stdout
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if re.search(r"decisions +[1-9]", line):
                break
        demo.send_signal(signal.SIGINT)
        lines += demo.stdout
    assert demo.returncode == 130, "".join(lines)
    assert lines[-1] == "stopped; every process has ended\n"


def test_upgrade_and_rollback_without_a_network(installed: Installation, source: Path, tmp_path: Path) -> None:
    _carry_the_next_release(source, tmp_path, installed.root / "wheelhouse")
    with service(installed, "fedge-agent") as agent:
        installed.follow(versions(UPGRADE))
        assert "gw: up" in installed.follow(versions(SWITCH), agent)
        assert _version(installed) == f"fedge-agent, version {NEXT}\n"
        assert (installed.root / f"var/lib/private/fedge-agent-{__version__}").is_dir()
        installed.follow(versions(ROLLBACK), agent)
        assert _version(installed) == f"fedge-agent, version {__version__}\n"
        assert agent.stop() == 0


def _carry_the_next_release(source: Path, folder: Path, wheelhouse: Path) -> None:
    """Replace our wheel by that of the same files under the next version."""
    shutil.copytree(source, folder / "next")
    module = folder / "next/models/fedge_models/__init__.py"
    module.write_text(module.read_text().replace(f'"{__version__}"', f'"{NEXT}"'))
    [old] = wheelhouse.glob("fedge-*.whl")
    old.unlink()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        wheelhouse,
        folder / "next",
    ]
    subprocess.run(command, capture_output=True, check=True)


def _version(machine: Installation) -> str:
    return machine.run(machine.bin / "fedge-agent", "--version").stdout
