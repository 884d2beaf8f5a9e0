# SPDX-License-Identifier: Apache-2.0
"""requirements*.lock: every dependency is pinned with hashes, for each supported Python and machine."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCRIPT = runpy.run_path(str(ROOT / "scripts/wheelhouse.py"))
locked = SCRIPT["locked"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
DEVELOPMENT = {"dev", "bench", "docs"}  # extras of people who work on fedge, not of a deployment
LOCKS = sorted(ROOT.glob("requirements*.lock"))
LOCK = """\
# a comment
one==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via fedge (pyproject.toml)
two==2.0 ; python_full_version < '3.11' \\
    --hash=sha256:cc
two==2.1 ; python_full_version >= '3.11' and platform_machine == 'aarch64' \\
    --hash=sha256:dd
"""


def pins(name: str, python: str, machine: str) -> dict[str, str]:
    """Version by name, of a lock file for a target."""
    lines = locked((ROOT / name).read_text(), python, machine)
    found = [Requirement(line.split(" --hash")[0]) for line in lines]
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in found}


def lacking(dependencies: list[str], pinned: dict[str, str], python: str, machine: str) -> list[str]:
    """The dependencies that a lock does not pin to a version that they allow."""
    target = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}
    wanted = [r for r in map(Requirement, dependencies) if r.marker is None or r.marker.evaluate(target)]
    return [
        str(r)
        for r in wanted
        if not r.specifier.contains(pinned.get(canonicalize_name(r.name), "0.dev0"), prereleases=True)
    ]


def test_lines_of_another_python_or_machine_are_left_out() -> None:
    one = "one==1.0 --hash=sha256:aa --hash=sha256:bb"
    assert locked(LOCK, "3.10", "x86_64") == [one, "two==2.0 --hash=sha256:cc"]
    assert locked(LOCK, "3.13", "x86_64") == [one]
    assert locked(LOCK, "3.13", "aarch64") == [one, "two==2.1 --hash=sha256:dd"]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_dependency_is_pinned(python: str, machine: str) -> None:
    runtime = pins("requirements.lock", python, machine)
    build = pins("requirements-build.lock", python, machine)
    assert not lacking(PROJECT["project"]["dependencies"], runtime, python, machine)
    assert not lacking(PROJECT["build-system"]["requires"], build, python, machine)
    for extra in SCRIPT["extras"]():
        both = {**runtime, **pins(f"requirements-{extra}.lock", python, machine)}
        assert not lacking(PROJECT["project"]["optional-dependencies"][extra], both, python, machine)


def test_every_extra_of_a_deployment_has_a_lock() -> None:
    assert set(SCRIPT["extras"]()) == PROJECT["project"]["optional-dependencies"].keys() - DEVELOPMENT


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_every_pin_has_hashes(lock: Path) -> None:
    for line in re.sub(r"\\\n", "", lock.read_text()).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_lock_names_no_index_and_no_folder(lock: Path) -> None:
    """It is made on one machine and used on another."""
    assert not re.search(r"://|--index|--find-links|(^|\s)/", lock.read_text())
