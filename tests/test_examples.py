# SPDX-License-Identifier: Apache-2.0
"""The programs in examples/ and the Python of docs/data-scientist/python-api.md run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import fedge_models
import pytest
from support.paths import ROOT

PAGE = (ROOT / "docs/data-scientist/python-api.md").read_text()


def test_the_python_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/data-scientist/python-api.md", "exec"), names)
    assert (tmp_path / "pump.onnx").stat().st_size > 0


@pytest.mark.parametrize("name", fedge_models.__all__)
def test_every_public_name_is_on_the_python_page(name: str) -> None:
    assert re.search(rf"`{name}\b", PAGE)


def test_train_your_own(tmp_path: Path) -> None:
    program, out = ROOT / "examples/train_your_own.py", tmp_path / "worn.onnx"
    done = subprocess.run([sys.executable, "-W", "error", program, out], capture_output=True, text=True, check=True)
    assert "accuracy': 1.0" in done.stdout
    assert fedge_models.load(out).card.labels == ("ok", "worn")
