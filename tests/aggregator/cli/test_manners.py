# SPDX-License-Identifier: Apache-2.0
"""What the command line answers to mistakes: one line that says what there is and what to do, never a traceback."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from fedge_aggregator.cli.main import main
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.federation_bench import MakeBench
from support.running_aggregator import MakeAggregator

EMPTY = """[aggregator]
state = "state"
addresses = ["127.0.0.1"]
listen = "127.0.0.1:0"
operator = "127.0.0.1:0"
"""
READING = [
    ("nodes", "list"), ("model", "list"), ("rounds",), ("audit",), ("release", "list", "f"), ("release", "show", "f"),
]  # fmt: skip


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "aggregator.toml"
    path.write_text(EMPTY)
    return path


def run(toml: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--config", str(toml)])


def refusal(toml: Path, *words: str) -> str:
    """What a command that is refused says."""
    done = run(toml, *words)
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit) and len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize(
    ("command", "next_step"),
    [
        (("nodes", "list"), "invite one: fedge-aggregator invite NAME --federation FEDERATION"),
        (("model", "list"), "add a table [federation.NAME] to "),
        (("rounds",), "fedge-aggregator model add FEDERATION FILE.onnx"),
        (("audit",), "no entries"),
    ],
)
def test_empty_list_says_what_to_do_next(toml: Path, command: tuple[str, ...], next_step: str) -> None:
    done = run(toml, *command)
    assert done.exit_code == 0 and next_step in done.stdout
    assert run(toml, *command, "--json").stdout == "[]\n"


def test_federation_without_a_model_says_how_to_add_one(toml: Path) -> None:
    toml.write_text(EMPTY + "[federation.pump]\n")
    words = "add one: fedge-aggregator model add pump FILE.onnx"
    assert words in run(toml, "model", "list").stdout
    assert words in refusal(toml, "release", "list", "pump")


def test_a_model_whose_local_matches_nothing_is_not_added(toml: Path, tmp_path: Path) -> None:
    toml.write_text(EMPTY + "[federation.pump]\n")
    for local in ("haed.*", "dense1.*"):
        card = Card("classify", (Channel("a"),), WindowSpec(1, 8, 8), ("mean",), ("ok", "worn"), local=local)
        (tmp_path / f"{local[:4]}.onnx").write_bytes(zoo.mlp(card, 1, (4,)).SerializeToString())
    words = (
        "haed.onnx: card: local lists 'haed.*', which matches no tensor of the file, so what was meant would be sent"
    )
    assert words in refusal(toml, "model", "add", "pump", str(tmp_path / "haed.onnx"))
    assert '"graph":null' in run(toml, "model", "list", "--json").stdout
    assert run(toml, "model", "add", "pump", str(tmp_path / "dens.onnx")).exit_code == 0


@pytest.mark.parametrize("command", READING)
def test_every_reading_command_writes_json(make_bench: MakeBench, command: tuple[str, ...]) -> None:
    made = make_bench()
    made.round("a", "b")
    assert made.cli(*command, "--json")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("audit", "--federation", "g"), "no federation 'g' in the configuration; expected one of: f"),
        (("rounds", "--federation", "g"), "no federation 'g' in the configuration; expected one of: f"),
        (("invite", "n", "--federation", "g"), "no federation 'g' in the configuration; expected one of: f"),
        (("release", "show", "f", "7"), "federation 'f' has no release 7; it has 1 to 1"),
        (("release", "rollback", "f", "1"), "expected an older release than 1, got 1"),
        (("release", "unpin", "f"), "federation 'f' is not pinned"),
        (("nodes", "revoke", "zz"), "no node 'zz'; expected one of: a, b, c, d"),
        (("nodes", "release", "zz"), "no node 'zz'; expected one of: a, b, c, d"),
        (("nodes", "release", "a"), "node 'a' is not in quarantine in f"),
        (("invite", "a", "--federation", "f"), "node 'a' has joined already"),
        (("invite", "n/1", "--federation", "f"), "node: name 'n/1': expected 1 to 64 letters"),
        (("invite", "n", "--federation", "f", "--expires", "soon"), "--expires: expected a duration such as"),
        (("invite", "n", "--federation", "f", "--expires", "0s"), "--expires: expected a duration from 1s to 365d"),
        (
            ("invite", "n", "--federation", "f", "--expires", f"{10**30}d"),
            "--expires: expected a duration of at most 100 years",
        ),
        (("audit", "--since", "yesterday"), "--since: expected a duration"),
        (("audit", "--since", "0001-01-01"), "--since: expected a duration"),
        (("status",), "fedge-aggregator has not run with the state folder"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(
    make_bench: MakeBench, command: tuple[str, ...], words: str
) -> None:
    assert words in refusal(make_bench().toml, *command)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("audit", "--what", "operator"), "'operator' is not one of 'invite', 'join', "),
        (("release", "show", "f", str(10**30)), "is not in the range"),
        (("model", "add", "f", "absent.onnx"), "File 'absent.onnx' does not exist"),
    ],
)
def test_word_that_is_not_accepted_is_exit_code_2(make_bench: MakeBench, command: tuple[str, ...], words: str) -> None:
    done = run(make_bench().toml, *command)
    assert done.exit_code == 2 and words in done.stderr


def test_file_or_folder_that_cannot_be_used_is_named(toml: Path, tmp_path: Path) -> None:
    assert f"{tmp_path}: cannot be read: a folder; expected a file" in refusal(tmp_path, "nodes", "list")
    assert "absent.toml: there is no such file; write one with: " in refusal(tmp_path / "absent.toml", "nodes", "list")
    assert "was left as it is" in refusal(toml, "init")
    (tmp_path / "state").write_text("a file where the folder should be")
    for command in (("nodes", "list"), ("start",)):
        assert str(tmp_path / "state") in refusal(toml, *command)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_what_is_not_permitted_says_who_one_is_and_what_to_do(toml: Path, tmp_path: Path) -> None:
    run(toml, "nodes", "list")
    state = tmp_path / "state"
    for denied, command in ((state / "aggregator.sqlite", ("audit",)), (state, ("start",)), (toml, ("nodes", "list"))):
        denied.chmod(0)
        assert "no permission as user " in refusal(toml, *command)
        denied.chmod(0o700)
    tmp_path.chmod(0o500)
    assert "no permission as user " in refusal(tmp_path / "new.toml", "init")
    tmp_path.chmod(0o700)


def test_damaged_state_is_named(toml: Path, tmp_path: Path) -> None:
    (tmp_path / "state/authority").mkdir(parents=True)
    (tmp_path / "state/authority/ca.pem").write_bytes(b"not a certificate")
    assert "ca.pem: cannot be read as a certificate" in refusal(toml, "start")
    (tmp_path / "state/aggregator.sqlite").write_bytes(b"not a database" * 1000)
    assert "aggregator.sqlite: cannot be opened: the file is damaged (file is not a database)" in refusal(
        toml, "nodes", "list"
    )


def test_port_in_use_is_refused_and_leaves_nothing_open(toml: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        toml.write_text(EMPTY.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"'))
        assert f"cannot listen on 127.0.0.1:{port}: " in refusal(toml, "start")
        assert f"cannot listen on 127.0.0.1:{port}: " in refusal(toml, "start")  # not: another one uses the folder


def test_second_start_on_a_state_folder_is_refused_with_the_pid(make_aggregator: MakeAggregator) -> None:
    aggregator = make_aggregator()
    assert f"another fedge-aggregator (pid {os.getpid()}) uses " in refusal(
        aggregator.folder / "aggregator.toml", "start"
    )


@pytest.mark.parametrize("address", ["", "höst", "a b", "https://host"])
def test_address_that_no_certificate_can_carry_is_refused(toml: Path, address: str) -> None:
    toml.write_text(EMPTY.replace('127.0.0.1"]', f'{address}"]'))
    assert "key 'aggregator.addresses': expected host names or IPs, got" in refusal(toml, "nodes", "list")


def commands(group: click.Group) -> list[click.Command]:
    below = [commands(c) if isinstance(c, click.Group) else [c] for c in group.commands.values()]
    return [group, *(command for one in below for command in one)]


def test_first_sentence_of_help_fits_a_terminal() -> None:
    for command in commands(main):
        first = (command.help or "").split("\n\n")[0].strip()
        assert first.endswith(".") and len(first) < 60 and first.count(". ") == 0, (command.name, first)


def test_without_a_configuration_the_command_that_writes_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "aggregator.toml"
    assert f"write one with: fedge-aggregator init --config {path}" in refusal(path, "status")
    done = run(path, "init")
    assert done.exit_code == 0 and f"then: fedge-aggregator start --config {path}" in done.output
