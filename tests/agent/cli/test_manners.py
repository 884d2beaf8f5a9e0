# SPDX-License-Identifier: Apache-2.0
"""What a person can do wrong on the command line is one line that helps, never a traceback."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from fedge_agent.cli import recorded
from fedge_agent.cli.main import main
from fedge_agent.health import STATUS_FILE
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.waiting import LONGEST_S, until

AGENT = [sys.executable, "-c", "from fedge_agent.cli.main import main; main(prog_name='fedge-agent')"]


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(w) for w in words], prog_name="fedge-agent")


def configured(folder: Path, status: str = "127.0.0.1:0") -> Path:
    """A configuration of an agent that only logs."""
    path = folder / "agent.toml"
    path.write_text(f'[agent]\nname = "gw"\nstate = "state"\nstatus = "{status}"\n[output.log]\ntype = "log"\n')
    return path


@contextmanager
def started(config: Path) -> Iterator[subprocess.Popen[str]]:
    """An agent whose page answers."""
    address = config.parent / "state" / STATUS_FILE
    address.unlink(missing_ok=True)  # of one that was killed
    with subprocess.Popen([*AGENT, "start", "--config", str(config)], stderr=subprocess.PIPE, text=True) as process:
        until(lambda: address.exists() or process.poll() is not None, "the agent's page")
        try:
            assert process.poll() is None
            yield process
        finally:
            process.kill()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    card = Card("anomaly", (Channel("a"),), WindowSpec(1.0, 10, 5), ("mean", "std"))
    (tmp_path / "net.onnx").write_bytes(zoo.autoencoder(card, 2, (2,)).SerializeToString())
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32))
    return tmp_path / "net.onnx"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--optimizer", "foo"], "'foo' is not one of 'sgd', 'adam', 'adamw'"),
        (["--batch", "0"], "0 is not in the range x>=1"),
        (["--epochs=-1"], "-1 is not in the range x>=0"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--seed=-1"], "-1 is not in the range x>=0"),
        (["--out", "no/such/folder/o.onnx"], "there is no folder"),
    ],
)
def test_a_bad_value_names_the_choices_before_anything_is_trained(model: Path, words: list[str], why: str) -> None:
    done = call("train", model, "--data", model.parent / "d.npz", *words)
    assert done.exit_code == 2 and why in done.stderr, done.output


@pytest.mark.parametrize(
    "words", [["check"], ["start"], ["status"], ["join", "line"], ["label", "a", "b"], ["trust", "s"]]
)
def test_a_configuration_that_is_not_there_is_reported_with_how_to_write_one(tmp_path: Path, words: list[str]) -> None:
    done = call(*words, "--config", tmp_path / "agent.toml")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert f"no such file; write one with: fedge-agent init --config {tmp_path}/agent.toml" in done.stderr


@pytest.mark.parametrize("kind", ["a folder", "bytes"])
def test_a_configuration_that_is_no_file_of_ours(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "agent.toml"
    if kind == "a folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe\x00")
    done = call("check", "--config", path)
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and "agent.toml" in done.stderr


def test_a_second_start_is_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with started(config) as first:
        second = subprocess.run(
            [*AGENT, "start", "--config", config], capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        assert second.returncode == 1 and second.stderr.count("\n") == 1
        assert f"another fedge-agent (pid {first.pid}) uses {tmp_path / 'state'}" in second.stderr
        status = call("status", "--config", config)
        assert status.exit_code == 0 and "no assets: add [asset.NAME]" in status.output
        assert json.loads(call("status", "--json", "--config", config).output)["name"] == "gw"
    gone = call("status", "--config", config)
    assert gone.exit_code == 1 and "fedge-agent is not running with the state folder" in gone.stderr
    with started(config):  # the lock ended with its process
        assert call("status", "--config", config).exit_code == 0


def test_a_process_that_is_stopped_is_not_reported_as_gone(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with started(config) as agent:
        os.kill(agent.pid, signal.SIGSTOP)
        done = call("status", "--config", config)
        assert done.exit_code == 1 and f"fedge-agent runs (pid {agent.pid}), but its page at" in done.stderr


def test_a_port_in_use_is_reported_with_the_address_by_start_and_by_check(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        config = configured(tmp_path, address)
        for command in ("start", "check"):
            done = subprocess.run(
                [*AGENT, command, "--config", config], capture_output=True, text=True, timeout=LONGEST_S, check=False
            )
            output = done.stdout + done.stderr
            assert done.returncode == 1 and "Traceback" not in output
            assert f"cannot listen on {address}: Address already in use; another program listens there" in output


def test_check_fails_where_start_would(tmp_path: Path) -> None:
    done = call("check", "--json", "--config", configured(tmp_path, "0.0.0.0:9466"))
    assert done.exit_code == 1
    found = {entry["what"]: entry["problems"] for entry in json.loads(done.output)}
    assert "not a loopback address" in found["status page 0.0.0.0:9466"][0] and found["output log"] == []


def test_check_names_what_is_in_the_way_of_the_state_folder(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert call("check", "--config", config).exit_code == 0 and not (tmp_path / "state").exists()
    (tmp_path / "state").write_text("a file")
    for command in ("check", "start"):
        done = call(command, "--config", config)
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
        assert f"{tmp_path / 'state'}: a file, or below a file; expected a folder" in done.output


def test_columns_of_figures_do_not_run_together(capsys: pytest.CaptureFixture[str]) -> None:
    recorded._figures({"before": {"auroc": 0.5, "average_precision": 0.25}, "after": {"auroc": 1.0}}, False)
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["auroc", "average_precision"] and rows == [["before", "0.5", "0.25"], ["after", "1", "-"]]


def test_another_program_on_the_remembered_port_is_no_agent(tmp_path: Path) -> None:
    config = configured(tmp_path)
    (tmp_path / "state").mkdir()
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        (tmp_path / "state" / STATUS_FILE).write_text(f"127.0.0.1:{other.server_port}")
        done = call("status", "--config", config)
        other.shutdown()
        thread.join()
    assert done.exit_code == 1 and "fedge-agent is not running" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
@pytest.mark.parametrize("command", ["status", "start", "check"])
def test_no_permission_says_who_may(tmp_path: Path, command: str) -> None:
    config = configured(tmp_path)
    (tmp_path / "state").mkdir(mode=0)
    done = call(command, "--config", config)
    assert done.exit_code == 1 and "no permission as user" in done.stderr and "run this with sudo" in done.stderr


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join([*names, name]), command
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


@pytest.mark.parametrize("name", [name for name, _ in commands(main)])
def test_help_begins_with_a_short_sentence(name: str) -> None:
    command = dict(commands(main))[name]
    first = (command.help or "").split("\n\n")[0].strip()
    assert first.endswith(".") and len(first) < 60, first


def test_exit_codes_and_completion_are_in_the_help() -> None:
    text = " ".join(call("--help").output.split())
    assert (
        "0 done; 1 an error" in text
        and "2 a PROBLEM that needs a person (status;" in text
        and 'eval "$(_FEDGE_AGENT_COMPLETE=bash_source fedge-agent)"' in text
    )
    done = subprocess.run(
        AGENT, env={**os.environ, "_FEDGE_AGENT_COMPLETE": "bash_source"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "_fedge_agent_completion" in done.stdout
