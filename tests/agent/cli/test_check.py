# SPDX-License-Identifier: Apache-2.0
"""What would keep `start` from deciding fails in `check`, in the words of `start`; nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.health import STATUS_FILE
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.asyncua_plc import Plc
from support.canned_http import CannedServer, reply
from support.federation_bench import CARD
from support.programs import Programs
from support.running_aggregator import RunningAggregator
from support.waiting import LONGEST_S

AGENT = [sys.executable, "-c", "from fedge_agent.cli.main import main; main(prog_name='fedge-agent')"]
RAW = Card("anomaly", (Channel("temp"), Channel("press")), WindowSpec(1, 10, 5))


def configure(folder: Path, *parts: str, status: str = "127.0.0.1:0") -> Path:
    path = folder / "gw.toml"
    head = f'[agent]\nname = "gw"\nstate = "gw"\nstatus = "{status}"\n'
    path.write_text("\n".join([head, *parts]))
    return path


def check(path: Path) -> dict[str, list[str]]:
    """What failed, with its problems; the exit code says the same."""
    done = CliRunner().invoke(main, ["check", "--json", "--config", str(path)], prog_name="fedge-agent")
    found = {entry["what"]: entry["problems"] for entry in json.loads(done.stdout)}
    failed = {what: problems for what, problems in found.items() if problems}
    assert done.exit_code == (1 if failed else 0)
    return failed


def machine(model: str, source: str, *channels: str, more: str = "") -> str:
    lines = [f'[asset.pump-1]\nmodel = "{model}"']
    lines += [f'channels.{c} = {{ source = "{source}", tag = "{c}" }}' for c in channels]
    return "\n".join([*lines, more])


@pytest.fixture
def csv(tmp_path: Path) -> str:
    (tmp_path / "data.csv").write_text("temp,press\n20,1\n21,1\n")
    return '[source.csv]\ntype = "files"\npath = "data.csv"'


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "m.onnx").write_bytes(zoo.autoencoder(RAW, [2, 10], (4, 2)).SerializeToString())
    return '[model.m]\nfile = "m.onnx"'


def test_what_is_right_passes(tmp_path: Path, csv: str, model: str) -> None:
    assert check(configure(tmp_path, csv, model, machine("m", "csv", "temp", "press"))) == {}
    assert not (tmp_path / "gw").exists()


@pytest.mark.parametrize(
    ("channels", "more", "words"),
    [
        (("temp",), "", "the model expects the channels ['temp', 'press'], the configuration has ['temp']"),
        (("temp", "press", "flow"), "", "the configuration has ['flow', 'press', 'temp']"),
        (("temp", "press"), "window.length = 30", "expects inputs of shape (2, 10), this asset gives (2, 30)"),
    ],
)
def test_an_asset_that_the_model_does_not_fit(
    tmp_path: Path, csv: str, model: str, channels: tuple[str, ...], more: str, words: str
) -> None:
    (tmp_path / "data.csv").write_text("temp,press,flow\n20,1,2\n")
    [(what, [problem])] = check(configure(tmp_path, csv, model, machine("m", "csv", *channels, more=more))).items()
    assert what == "model m" and words in problem


@pytest.fixture(scope="module")
def aggregator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAggregator]:
    made = RunningAggregator(tmp_path_factory.mktemp("aggregator"))
    yield made
    made.stop()


def joined(aggregator: RunningAggregator, folder: Path, name: str) -> None:
    aggregator.enrol(name)
    shutil.copytree(aggregator.folder / name, folder / "gw")


def test_a_model_that_is_still_to_be_fetched_is_looked_at(
    aggregator: RunningAggregator, tmp_path: Path, csv: str
) -> None:
    joined(aggregator, tmp_path, "gw1")
    wanted = [c.name for c in CARD.channels]
    (tmp_path / "data.csv").write_text(f"{','.join(wanted)},more\n" + ",".join("1" for _ in [*wanted, 0]) + "\n")
    assert check(configure(tmp_path, csv, "[model.pumps]", machine("pumps", "csv", *wanted))) == {}
    found = check(configure(tmp_path, csv, "[model.pumps]", machine("pumps", "csv", *wanted, "more")))
    assert f"asset pump-1: the model expects the channels {wanted}" in found["aggregator"][0]


def test_a_revoked_gateway(aggregator: RunningAggregator, tmp_path: Path, csv: str, model: str) -> None:
    joined(aggregator, tmp_path, "gw2")
    aggregator.app.store.revoke("gw2", 0.0)
    for config in ("[model.pumps]", '[model.pumps]\nfile = "m.onnx"'):
        found = check(configure(tmp_path, csv, config, machine("pumps", "csv", "temp", "press")))
        assert "revoked" in found["aggregator"][0]


@pytest.mark.parametrize("address", ["0.0.0.0:9466", "127.0.0.1", "127.0.0.1:99999", "nowhere.invalid:1"])
def test_a_status_address_that_start_refuses(tmp_path: Path, address: str) -> None:
    path = configure(tmp_path, status=address)
    [[problem]] = check(path).values()
    done = subprocess.run([*AGENT, "start", "--config", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and problem in done.stderr


def test_a_port_of_another_program_fails_also_while_this_agent_runs_elsewhere(tmp_path: Path) -> None:
    programs = Programs(tmp_path)
    configure(tmp_path)
    programs.start("gw")
    try:
        own = (tmp_path / "gw" / STATUS_FILE).read_text()
        assert check(configure(tmp_path, status=own)) == {}
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            [[problem]] = check(configure(tmp_path, status=address)).values()
        assert f"cannot listen on {address}" in problem
    finally:
        assert programs.end() == [0]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ('type = "log"\npath = "missing/events.jsonl"', "missing: no such folder"),
        ('type = "log"\npath = "."', "a folder; expected a file"),
        ('type = "webhook"\nurl = "http://127.0.0.1:9/"', "refused"),
        ('type = "mes"\nurl = "http://127.0.0.1:9/"', "refused"),
        ('type = "mqtt"\nurl = "mqtt://127.0.0.1:9"', "127.0.0.1:9"),
        ('type = "sparkplug"\nurl = "mqtt://127.0.0.1:9"\ngroup = "g"\nnode = "n"', "127.0.0.1:9"),
        ('type = "opcua"\nurl = "opc.tcp://127.0.0.1:9"\ndecisions = { "ns=2;s={asset}" = "{score}" }', "127.0.0.1:9"),
        ('type = "opcua-server"\nlisten = "127.0.0.1:{taken}"', "127.0.0.1:"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_output_that_cannot_be_reached(tmp_path: Path, output: str, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        text = output.replace("{taken}", str(other.getsockname()[1]))
        found = check(configure(tmp_path, f"[output.one]\n{text}"))
    assert list(found) == ["output one"] and words in found["output one"][0]


@pytest.mark.parametrize("kind", ["webhook", "mes"])
@pytest.mark.parametrize(
    "keys", ['token_file = "key"', 'username = "gw"\npassword_file = "key"', 'hmac.key_file = "key"']
)
def test_a_secret_that_is_empty(tmp_path: Path, kind: str, keys: str) -> None:
    with CannedServer(lambda _: reply(200)) as server:
        path = configure(tmp_path, f'[output.one]\ntype = "{kind}"\nurl = "{server.url}"\n{keys}')
        for text, words in (("\n", "key: cannot be read: it is empty; write the password or key into it"), ("k", "")):
            (tmp_path / "key").write_text(text)
            found = check(path)
            assert [words in problem for problem in found.get("output one", [])] == ([True] if words else [])


def test_an_order_whose_answer_names_no_proof_is_remarked_on(tmp_path: Path) -> None:
    """It works, so it does not fail: many targets answer 201 or tell an id."""

    def remarks(keys: str) -> list[str]:
        output = f'[output.one]\ntype = "mes"\nurl = "{server.url}"\n{keys}'
        args = ["check", "--config", str(configure(tmp_path, output))]
        done = CliRunner().invoke(main, args, prog_name="fedge-agent")
        assert done.exit_code == 0
        return [line for line in done.stdout.splitlines() if "tell a refusal from an acceptance" in line]

    with CannedServer(lambda _: reply(200)) as server:
        [line] = remarks("")
        assert line.startswith("ok ") and "create has neither id nor error nor accept" in line
        for key in ("id", "error", "accept"):
            assert remarks(f'create = {{ body = {{ a = "{{key}}" }}, {key} = "/x" }}') == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_uncertain_value_is_used_and_does_not_fail_a_bad_one_does(tmp_path: Path, model: str) -> None:
    plc = Plc()
    try:
        for name in ("temp", "press"):
            plc.add(name)
            plc.write(name, 1.0)
        plc.write("temp", 1.0, plc.ua.StatusCodes.UncertainLastUsableValue)
        source = f'[source.plc]\ntype = "opcua"\nurl = "opc.tcp://127.0.0.1:{plc.port}"'
        pump = machine("m", "plc", "ns=2;s=temp", "ns=2;s=press").replace("channels.ns=2;s=", "channels.")
        path = configure(tmp_path, source, model, pump)
        assert check(path) == {}
        plc.write("temp", 1.0, plc.ua.StatusCodes.BadDeviceFailure)
        [[problem]] = check(path).values()
        assert "BadDeviceFailure" in problem
    finally:
        plc.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_user_without_rights_sees_every_row(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    become = (
        "import os, fedge_agent.outputs.log, fedge_agent.cli.check\nfrom fedge_agent.cli.main import main\n"
        "os.setgid(65534); os.setuid(65534); main(prog_name='fedge-agent')"
    )
    try:
        folder.chmod(0o755)
        path = configure(folder, '[output.log]\ntype = "log"', '[model.m]\nfile = "m.onnx"')
        (folder / "gw").mkdir(mode=0o700)
        (folder / "gw" / STATUS_FILE).write_text("127.0.0.1:1")
        command = [sys.executable, "-c", become, "check", "--config", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 1, done.stderr
    rows = [line[:4] for line in done.stdout.splitlines() if line[:4].strip()]
    assert rows == ["ok  ", "FAIL", "FAIL", "ok  ", "FAIL", "FAIL"], done.stdout
    assert done.stdout.count("no permission as user nobody; run this with sudo") == 4


def everything(folder: Path) -> dict[str, Any]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_nothing_is_changed(tmp_path: Path, csv: str, model: str) -> None:
    path = configure(
        tmp_path, csv, model, machine("m", "csv", "temp", "press"), '[output.log]\ntype = "log"\npath = "e"'
    )
    before = everything(tmp_path)
    assert check(path) == {} and everything(tmp_path) == before
