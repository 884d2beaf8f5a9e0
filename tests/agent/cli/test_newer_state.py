# SPDX-License-Identifier: Apache-2.0
"""A state folder that a newer version wrote: nothing in it is changed, commands say what to do, the agent decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fedge_agent.cli.main import main
from fedge_agent.durable.spool import Spool
from fedge_agent.types import AlertState
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.database import FORMAT
from support.canned_http import CannedServer, reply
from support.databases import change, rows
from support.events import changed, make_event
from support.programs import Programs

CONFIG = """
[agent]
name = "gw"
state = "gw"
[model.m]
file = "m.onnx"
[source.s]
type = "files"
path = "d.csv"
tail = true
start = "begin"
time_column = "time"
[source.pictures]
type = "images"
path = "pictures"
[asset.pump]
model = "m"
channels.a = { source = "s", tag = "a" }
[output.mes]
type = "mes"
url = "%s/orders"
[output.mes.create]
body = { name = "{key}" }
id = "/id"
"""
KEY = "gw:m:pump:1"
WORDS = (
    f"a newer version of fedge wrote it: format {FORMAT + 1}, this version knows up to {FORMAT}; install that version "
    "again or a newer one, or restore a backup of the state folder"
)

AT = ("--at", "2023-11-14 22:13")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("order", "list"), ("order", "show", "1"), ("order", "drop", "1", "--reason", "x"), ("order", "retry", "1"),
    ("event", "list"), ("event", "ack", KEY), ("event", "accept", KEY), ("event", "comment", KEY, "text"),
    ("event", "shelve", "pump", "--for", "1h"), ("question", "list"), ("question", "answer", "1", "normal"),
    ("question", "skip", "1"), ("label", "pump", "normal", *AT),
)  # fmt: skip


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """An agent that has run with each of its databases, one event delivered and one waiting."""
    card = Card("anomaly", (Channel("a"),), WindowSpec(1.0, 10, 5))
    (tmp_path / "m.onnx").write_bytes(zoo.autoencoder(card, [1, 10], (2,)).SerializeToString())
    (tmp_path / "d.csv").write_text("\n".join(["time,a", *(f"{1_700_000_000 + i},{i % 7}" for i in range(60)), ""]))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "gw").mkdir()
    with CannedServer(lambda _: reply(201, '{"id": "WO-1"}')) as mes:
        (tmp_path / "gw.toml").write_text(CONFIG % mes.url)
        made = Programs(tmp_path)
        put(tmp_path, KEY)
        made.start("gw")
        made.wait(lambda: made.status("gw")["outputs"]["mes"]["delivered"] == 1, "the order")
        assert made.end() == [0]
        made.running.clear()
        put(tmp_path, "gw:m:pump:2")
        yield made
        made.end()


def put(folder: Path, key: str) -> None:
    spool = Spool(folder / "gw/spool.sqlite")
    spool.put_event(["mes"], changed(make_event(), key=key, asset="pump"), AlertState(1))
    spool.close()


def newer(folder: Path) -> dict[Path, bytes]:
    """Raise the format of every database, as a newer version does; the files and their bytes."""
    found = sorted((folder / "gw").rglob("*.sqlite"))
    for path in found:
        assert rows(path, "PRAGMA user_version") == [(FORMAT,)]
        change(path, f"PRAGMA user_version = {FORMAT + 1}")
    return {path: path.read_bytes() for path in found}


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--config", str(folder / "gw.toml")], prog_name="fedge-agent")


def test_every_command_on_the_state_says_what_to_do_and_changes_nothing(programs: Programs, tmp_path: Path) -> None:
    before = newer(tmp_path)
    for words in COMMANDS:
        done = run(tmp_path, *words)
        assert done.exit_code == 2 and isinstance(done.exception, SystemExit), (words, done.output)
        assert WORDS in done.stderr and len(done.stderr.splitlines()) == 1, (words, done.stderr)
        assert str(tmp_path / "gw") in done.stderr
    checked = run(tmp_path, "check")
    assert checked.exit_code == 1 and checked.stdout.count(WORDS) == len(before)
    assert {path: path.read_bytes() for path in before} == before


def test_the_agent_decides_without_newer_files_and_the_newer_version_finds_them_whole(
    programs: Programs, tmp_path: Path
) -> None:
    """Each of its databases; what waits in the spool is delivered when a version that knows it runs again."""
    before = newer(tmp_path)
    names = {str(path.relative_to(tmp_path / "gw")) for path in before}
    assert names == {
        "inbox.sqlite", "outputs/mes.sqlite", "samples.sqlite", "sources/pictures/pictures.sqlite", "spool.sqlite"
    }  # fmt: skip
    programs.start("gw")
    with (tmp_path / "d.csv").open("a") as file:
        file.write("".join(f"{1_700_001_000 + i},{i % 7}\n" for i in range(1000)))
    programs.wait(lambda: programs.status("gw")["latency"]["decisions"] > 0, "a decision")
    told = programs.told("gw")
    for name in ("spool", "inbox", "samples", "outputs/mes"):
        assert f"PROBLEM {name} cannot be written: {tmp_path / 'gw' / name}.sqlite: cannot be opened: {WORDS}" in told
    assert programs.end() == [0]
    programs.running.clear()
    assert {path: path.read_bytes() for path in before} == before
    assert not list((tmp_path / "gw").rglob("*.damaged-*"))
    for path in before:
        change(path, f"PRAGMA user_version = {FORMAT}")
    programs.start("gw")
    programs.wait(lambda: not programs.status("gw")["outputs"]["mes"]["pending"], "the order that waited")
    assert "PROBLEM" not in programs.told("gw")
    assert programs.status("gw")["outputs"]["mes"]["delivered"] == 1
