# SPDX-License-Identifier: Apache-2.0
"""The lines of both Dockerfiles that install fedge, run here: neither an engine nor a network is needed for them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.installation import CLEAN
from support.paths import ROOT

pytestmark = pytest.mark.slow

IMAGES: dict[str, dict[str, str]] = {
    "Dockerfile.x86": {},
    "Dockerfile.jetson": {"ORT_PACKAGE": "onnxruntime", "ORT_INDEX": ""},  # as on a machine without NVIDIA's wheels
}


def build_stage(image: str) -> tuple[dict[str, str], str]:
    """Defaults of the arguments of the stage that installs, and its command with the virtual environment."""
    stage = (ROOT / image).read_text().split("\nFROM ")[1]
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", stage, re.M))
    [command] = re.findall(r"^RUN (python3 -m venv (?:.*\\\n)*.*)$", stage, re.M)
    assert re.search(r"^COPY \. /src\nWORKDIR /src$", stage, re.M)
    return arguments, command


@pytest.mark.parametrize("image", IMAGES)
def test_image_installs_what_is_locked(image: str, source: Path, wheelhouse: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "src")
    shutil.copytree(wheelhouse, tmp_path / "src/wheelhouse")
    arguments, command = build_stage(image)
    env = {**CLEAN, **arguments, **IMAGES[image], "PIP_NO_INDEX": "1"}
    script = command.replace("/opt/fedge", str(tmp_path / "fedge"))
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path / "src", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    program: list[str | Path] = [
        tmp_path / "fedge/bin/python",
        "-Ic",
        "import PIL, onnxruntime, fedge_agent.sources.registry",
    ]
    assert subprocess.run(program, cwd=tmp_path, env=CLEAN, check=False).returncode == 0
    left = {path.name for path in (tmp_path / "fedge").glob("lib/python*/site-packages/*")}
    assert not left & {"pip", "setuptools"}
