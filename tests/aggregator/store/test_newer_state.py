# SPDX-License-Identifier: Apache-2.0
"""A database that a newer version wrote: every command says what to do, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from fedge_aggregator.cli.main import main
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.database import FORMAT
from support.databases import change, rows

CONFIG = """[aggregator]
state = "state"
addresses = ["127.0.0.1"]
listen = "127.0.0.1:8443"
operator = "127.0.0.1:0"
[federation.f]
"""
WORDS = (
    f"a newer version of fedge wrote it: format {FORMAT + 1}, this version knows up to {FORMAT}; install that version "
    "again or a newer one, or restore a backup of the state folder"
)
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("start",), ("audit",), ("invite", "gw", "--federation", "f"), ("model", "list"), ("model", "add", "f", "m.onnx"),
    ("nodes", "list"), ("nodes", "revoke", "gw"), ("nodes", "release", "gw"), ("release", "list", "f"),
    ("release", "show", "f"), ("release", "rollback", "f", "1"), ("release", "pin", "f", "--reason", "x"),
    ("rounds",), ("statistics", "f"),
)  # fmt: skip


def test_every_command_says_what_to_do_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text(CONFIG)
    card = Card("anomaly", (Channel("a"),), WindowSpec(1.0, 10, 5))
    (tmp_path / "m.onnx").write_bytes(zoo.autoencoder(card, [1, 10], (2,)).SerializeToString())
    for words in COMMANDS[4], COMMANDS[2]:
        done = CliRunner().invoke(main, [*words, "--config", "a.toml"])
        assert done.exit_code == 0, done.output
    path = tmp_path / "state/aggregator.sqlite"
    assert rows(path, "PRAGMA user_version") == [(FORMAT,)]
    change(path, f"PRAGMA user_version = {FORMAT + 1}")
    before = path.read_bytes()
    for words in COMMANDS:
        done = CliRunner().invoke(main, [*words, "--config", "a.toml"])
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit), (words, done.output)
        assert done.stderr == f"fedge-aggregator: state/aggregator.sqlite: cannot be opened: {WORDS}\n"
    assert path.read_bytes() == before
    assert not list((tmp_path / "state").glob("*.damaged-*"))
