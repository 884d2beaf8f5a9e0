# SPDX-License-Identifier: Apache-2.0
"""Every test has the marks that its module's imports ask for, so that `-m` chooses what a machine can run."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.marks import marks_of
from support.paths import ROOT, TESTS

COUNTERPART = "from support.counterparts import program\n"
LATE = "def test_x() -> None:\n    from support import mosquitto\n"


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("import numpy as np\n", {"unit"}),
        ("from support.waiting import until\n", {"unit"}),
        ("import subprocess\n", {"process"}),
        ("from support.programs import Programs\n", {"process"}),
        (COUNTERPART, {"counterpart"}),
        (LATE, {"process", "counterpart"}),
    ],
)
def test_marks_follow_from_imports(text: str, marks: set[str], tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(text)
    assert marks_of(tmp_path / "test_x.py") == marks


def test_the_collected_test_has_its_marks(request: pytest.FixtureRequest) -> None:
    assert {mark.name for mark in request.node.iter_markers()} == {"unit"}


def test_whole_programs_are_no_unit_tests() -> None:
    modules = [path for path in (TESTS / "whole").glob("test_*.py") if path.stem != "test_durable_databases"]
    assert len(modules) > 3 and all("process" in marks_of(path) for path in modules)


def test_every_mark_is_documented(request: pytest.FixtureRequest) -> None:
    page = (ROOT / "docs/developers/testing.md").read_text()
    ours = [
        line for line in request.config.getini("markers") if line.startswith(("unit", "process", "counter", "slow"))
    ]
    assert len(ours) == 4
    for line in ours:
        assert f"| `{line.partition(':')[0]}` |" in page
