# SPDX-License-Identifier: Apache-2.0
"""Mistakes at the command line of the fleet: one line that says what to do, and no traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fedge_fleet.cli import main

REPLAY = ["--ready", "ready", "--go", "go"]
MISTAKES = {
    "track that is absent": (["plc", "--track", "absent.npz", *REPLAY], "absent.npz: cannot be read: No such file"),
    "track that is text": (["plc", "--track", "text.npz", *REPLAY], "text.npz: is no recorded track; expected"),
    "track of other arrays": (["plc", "--track", "arrays.npz", *REPLAY], "arrays.npz: is no recorded track"),
    "track that is cut off": (["plc", "--track", "cut.npz", *REPLAY], "cut.npz: is no recorded track"),
    "broker without port": (
        ["mqtt-machine", "--track", "text.npz", "--broker", "plant", "--topic", "t", *REPLAY],
        "--broker 'plant': expected HOST:PORT",
    ),
    "store in no folder": (["mes", "--store", "no/folder", "--ready", "ready"], "no/folder: cannot be opened"),
    "chance above one": (["mes", "--store", "db", "--ready", "ready", "--drop", "3"], "3.0 is not in the range"),
    "settings that are absent": (["simulate", "absent.toml"], "absent.toml: cannot be read"),
    "unknown rule": (["simulate", "--rule", "medan"], "did you mean 'median'?"),
    "unknown set": (["simulate", "--set", "foo"], "expected one of: ai4i, bearings"),
    "report that is a file": (["demo", "--out", "text.npz"], "text.npz: a file, or below a file; expected a folder"),
    "report below a file": (["demo", "--out", "text.npz/report"], "text.npz: a file, or below a file"),
    "demo of an empty folder": (["demo", "--data", "."], "neither SKAB"),
}


@pytest.mark.parametrize(("words", "reason"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.npz").write_text("no archive")
    np.savez("arrays.npz", values=np.zeros(3))
    Path("cut.npz").write_bytes(Path("arrays.npz").read_bytes()[:-40])
    found = CliRunner().invoke(main, words)
    assert found.exit_code in (1, 2) and reason in found.output
    assert isinstance(found.exception, SystemExit) and "Traceback" not in found.output
