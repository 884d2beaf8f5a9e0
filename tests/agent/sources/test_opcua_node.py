# SPDX-License-Identifier: Apache-2.0
"""The OPC UA source and commands against node-opcua, a stack that is not ours, with every limit of a call set low."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.protocols.opcua import security
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.types import Quality
from support.node_opcua import TAGS, NodeServer, shared_server
from support.opcua_source import RunningSource

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SECURITIES = [
    f"{p}/{m}"
    for p in ("Basic256Sha256", "Aes256Sha256RsaPss", "Aes128Sha256RsaOaep")
    for m in ("Sign", "SignAndEncrypt")
]


@pytest.fixture(scope="module")
def server() -> NodeServer:
    made = shared_server()
    made.do("add", name="M", value={"value": 1.5, "axis": {"x": 0.25, "y": 2}, "name": "n"})
    for i in range(4):
        made.do("add", name=f"Pump{i}/Current", value=i)
    made.do("add", name="Pump1/Wave", value=[1, 2, 3])
    return made


@pytest.fixture(scope="module")
def state(server: NodeServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway and a server that trust each other, as an operator makes it."""
    folder = tmp_path_factory.mktemp("state")
    config = folder / "gw.toml"
    config.write_text(
        f'[agent]\nname = "gw"\nstate = "."\n[source.plc]\ntype = "opcua"\nurl = "{server.url}"\n'
        'security = "Basic256Sha256/SignAndEncrypt"\n'
    )
    [problem] = check(server, folder, security=SECURITIES[0])
    assert "is not trusted; no certificate is" in problem and "fedge-agent trust plc" in problem
    command = ["trust", "plc", "--config", str(config)]
    refused = CliRunner().invoke(main, [*command, "--fingerprint", "AA:BB"])
    assert refused.exit_code == 1 and "AA:BB was expected" in refused.output
    assert CliRunner().invoke(main, command, input="n\n").exit_code == 1
    assert not (folder / "opcua/trusted").exists()
    shown = refused.output.partition("SHA-256  ")[2].split()[0]
    trusted = CliRunner().invoke(main, [*command, "--fingerprint", shown.lower().replace(":", "")])
    assert trusted.exit_code == 0 and (folder / "opcua/trusted/plc.der").exists()
    [problem] = check(server, folder, security=SECURITIES[0])
    assert "probably does not trust our certificate" in problem and str(folder / "opcua/own.der") in problem
    server.do("trust")
    return folder


def check(server: NodeServer, state: Path | None = None, *, tags: tuple[str, ...] = (), **config: Any) -> list[str]:
    return OpcuaSource("plc", OpcuaConfig(server.url, **config), state).check(tags or ("nsu=urn:test:plc;s=T1",))


@pytest.mark.parametrize("secured", ["None", *SECURITIES])
def test_every_security_reads(server: NodeServer, state: Path, secured: str) -> None:
    with RunningSource(server.url, ["Plant/T1"], state, security=secured) as run:
        run.host.wait(lambda: run.host.values("Plant/T1") == [1.0])
    assert not run.host.problems and run.error is None


@pytest.mark.parametrize("secured", ["None", "Aes256Sha256RsaPss/SignAndEncrypt"])
def test_users_come_in_by_password(server: NodeServer, state: Path, tmp_path: Path, secured: str) -> None:
    (tmp_path / "right").write_text("secret\n")
    (tmp_path / "wrong").write_text("guess\n")
    user: dict[str, Any] = {"security": secured, "username": "op"}
    assert check(server, state, **user, password_file=tmp_path / "right") == []
    [problem] = check(server, state, **user, password_file=tmp_path / "wrong")
    assert "refuses user 'op'; check name and password" in problem
    [problem] = check(server, state, **user, password_file=tmp_path / "absent")
    assert "absent: cannot be read" in problem


def test_users_come_in_by_certificate_once_the_server_trusts_it(
    server: NodeServer, state: Path, tmp_path: Path
) -> None:
    user = security.own(tmp_path, "urn:user")
    config: dict[str, Any] = {
        "user_certificate": user.certificate,
        "user_private_key": user.key,
        "security": SECURITIES[3],
    }
    [problem] = check(server, state, **config)
    assert f"refuses user '{user.certificate}'" in problem
    server.do("trust")
    assert check(server, state, **config) == []


def test_a_password_without_security_is_reported_to_be_readable(server: NodeServer, tmp_path: Path) -> None:
    (tmp_path / "right").write_text("secret\n")
    with RunningSource(server.url, ["Plant/T1"], username="op", password_file=tmp_path / "right") as run:
        run.host.wait(lambda: bool(run.host.readings))
    assert "others may read the password" in run.host.problems["security"]


def test_another_certificate_than_the_trusted_one_is_refused(server: NodeServer, state: Path, tmp_path: Path) -> None:
    trusted = tmp_path / "opcua/trusted"
    security.pin(trusted, "plc", security.read(state / "opcua/own.der"))
    [problem] = check(server, tmp_path, security=SECURITIES[0])
    assert "shows another certificate" in problem and "fedge-agent trust plc" in problem
    own: dict[str, Any] = {"server_certificate": state / "opcua/own.der", "security": SECURITIES[0]}
    [problem] = check(server, state, **own)
    assert "shows another certificate" in problem


def test_more_tags_than_a_call_may_hold_by_every_way_to_name_them(server: NodeServer) -> None:
    tags = [
        ("nsu=urn:test:plc;s=T{}", "/Objects/3:Plant/3:T{}", "Plant/T{}", "ns=3;s=T{}")[i % 4].format(i)
        for i in range(TAGS)
    ]
    with RunningSource(server.url, [*tags, "Plant/Pump[2]/Cur*"]) as run:
        run.host.wait(lambda: len(run.host.readings) == TAGS + 1)
    assert {r.tag: r.value for r in run.host.readings} == {
        **{t: float(i) for i, t in enumerate(tags)},
        "Plant/Pump[2]/Cur*": 2.0,
    }
    assert check(server, tags=tuple(tags)) == []


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("Plant/Pump*/Current", "fits 4 nodes; name one of: /Objects/3:Plant/3:Pump0/3:Current"),
        ("Plant/Pump1/Curent", "nothing is called 'Curent' in /Objects/3:Plant/3:Pump1; there is: Current"),
        ("/Objects/3:Plant/3:Nothing", "BadNoMatch"),
        ("ns=3;s=T1x", "BadNodeIdUnknown; the server has: ns=3;s=T1"),
        ("nsu=urn:other;s=T1", "no namespace 'urn:other'"),
        ("ns=3;s=M#axis.z", "no field 'z': it has x, y"),
        ("ns=3;s=M", "is of type Measurement, expected a number"),
        ("Plant/Pump1/Wave#[5]", "no element [5]: it has 3 elements"),
        ("Plant", "BadAttributeIdInvalid"),
    ],
)
def test_tags_that_cannot_be_read_say_what_is_there(server: NodeServer, tag: str, words: str) -> None:
    [problem] = check(server, tags=("Plant/T1", tag))
    assert words in problem and server.url in problem


def test_fields_of_structures_and_arrays(server: NodeServer) -> None:
    tags = ["ns=3;s=M#value", "ns=3;s=M#axis.x", "ns=3;s=M#name", "Plant/Pump1/Wave", "Plant/Pump1/Wave#[1]"]
    with RunningSource(server.url, [*tags, "i=2256#BuildInfo.ProductUri", "ns=3;s=M#nothing"]) as run:
        run.host.wait(lambda: len(run.host.readings) >= 7 and "ns=3;s=M#nothing" in run.host.problems)
    got: dict[str, Any] = {r.tag: r.value for r in run.host.readings}
    assert [got[t] for t in tags[:3]] == [1.5, 0.25, "n"]
    assert got[tags[3]].tolist() == [1, 2, 3] and got[tags[4]] == 2.0
    assert got["i=2256#BuildInfo.ProductUri"] == "NodeOPCUA-Server"
    assert "no field 'nothing': it has value, axis, name" in run.host.problems["ns=3;s=M#nothing"]


def test_status_and_every_change_between_two_publishings(server: NodeServer) -> None:
    server.do("add", name="Fast", value=0)
    with RunningSource(server.url, ["Plant/Fast"], publishing_interval=0.5) as run:
        run.host.wait(lambda: bool(run.host.readings))
        for i in range(1, 40):
            server.do("write", name="Fast", value=i)
        server.do("write", name="Fast", value=99, code="BadSensorFailure")
        server.do("write", name="Fast", value=98, code="UncertainLastUsableValue")
        run.host.wait(lambda: len(run.host.readings) == 42)
    assert run.host.values("Plant/Fast")[:40] == list(range(40))
    assert [r.quality for r in run.host.readings[-2:]] == [Quality.BAD, Quality.UNCERTAIN]
    times = [r.time_ns for r in run.host.readings]
    assert times == sorted(times) and times[-1] > times[0] and not run.host.problems


def test_a_queue_that_is_too_small_is_reported_to_lose_values(server: NodeServer) -> None:
    server.do("add", name="Crowd", value=0)
    with RunningSource(server.url, ["Plant/Crowd"], publishing_interval=0.5, queue_size=2) as run:
        run.host.wait(lambda: bool(run.host.readings))
        for i in range(1, 40):
            server.do("write", name="Crowd", value=i)
        run.host.wait(lambda: "overflow" in run.host.problems)
        assert "values are lost" in run.host.problems["overflow"] and run.host.counts["lost_at_server"]


def test_deadband_where_the_server_has_one(server: NodeServer) -> None:
    server.do("add", name="Noisy", value=10)
    server.do("add", name="Text", value="a")
    with RunningSource(server.url, ["Plant/Noisy", "Plant/Text"], deadband=1.0) as run:
        run.host.wait(lambda: len(run.host.readings) == 2)
        for value in (10.5, 10.9, 12, 12.5, 20):
            server.do("write", name="Noisy", value=value)
        server.do("write", name="Text", value="b")
        run.host.wait(lambda: 20 in run.host.values("Plant/Noisy") and "b" in run.host.values("Plant/Text"))
    assert run.host.values("Plant/Noisy") == [10, 12, 20]
    assert "sends all of: Plant/Text" in run.host.problems["deadband"]


def test_deadband_in_percent_of_the_range(server: NodeServer) -> None:
    with RunningSource(server.url, ["Plant/Analog"], deadband="2%") as run:  # of 200: 4
        run.host.wait(lambda: run.host.values("Plant/Analog") == [100])
        for value in (103, 105, 108, 111):
            server.do("write", name="Analog", value=value)
        run.host.wait(lambda: 111 in run.host.values("Plant/Analog"))
    assert run.host.values("Plant/Analog") == [100, 105, 111] and not run.host.problems


def test_tags_that_come_go_and_come_again(server: NodeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_agent.sources.opcua.RETRY_ITEMS_S", 0.2)
    with RunningSource(server.url, ["Plant/Late/A", "Plant/T1"]) as run:
        run.host.wait(lambda: "Plant/Late/A" in run.host.problems and run.host.values("Plant/T1") == [1.0])
        server.do("add", name="Late/A", value=5)
        run.host.wait(lambda: run.host.values("Plant/Late/A") == [5.0] and not run.host.problems)
        server.do("delete", name="Late/A")
        run.host.wait(lambda: "Plant/Late/A" in run.host.problems)
        assert run.host.readings[-1].quality is Quality.BAD
        server.do("add", name="Late/A", value=6)
        run.host.wait(lambda: 6.0 in run.host.values("Plant/Late/A") and not run.host.problems)


def test_hundreds_of_missing_tags_do_not_keep_values_waiting(
    server: NodeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedge_agent.sources.opcua.RETRY_ITEMS_S", 0.1)
    missing = [f"{way}{i}" for i in range(300) for way in ("Plant/Absent", "ns=3;s=Absent")]
    server.do("add", name="Busy", value=0)
    with RunningSource(server.url, [*missing, "Plant/Busy"]) as run:
        run.host.wait(lambda: len(run.host.problems) == len(missing) and bool(run.host.readings))
        longest = 0.0

        def arrived(value: int) -> bool:
            return value in run.host.values("Plant/Busy")

        for value in range(1, 8):
            began = time.monotonic()
            server.do("write", name="Busy", value=value)
            run.host.wait(partial(arrived, value))
            longest = max(longest, time.monotonic() - began)
    assert longest < 3.0
    explained = [
        p for p in run.host.problems.values() if "there is:" in p or "the server has:" in p or "nothing near" in p
    ]
    assert 0 < len(explained) <= 20


def test_keep_alives_say_that_nothing_has_changed(server: NodeServer) -> None:
    with RunningSource(server.url, ["Plant/T1"], max_age=3.0) as run:
        run.host.wait(lambda: bool(run.host.readings) and len(run.host.batches) > 3)
    assert run.host.alive == sorted(run.host.alive) and run.host.alive[-1] > run.host.readings[-1].time_ns


def test_browse_shows_the_tree_and_writes_lines_that_load(server: NodeServer, state: Path) -> None:
    shown = CliRunner().invoke(main, ["browse", server.url])
    assert shown.exit_code == 0, shown.output
    assert (
        "Measurement  value 1.5, axis x 0.25, y 2, name n" in shown.output and "Float[3]     [1, 2, 3]" in shown.output
    )
    command = ["browse", "plc", "--config", str(state / "gw.toml"), "--under", "Plant/Pump1", "--config-lines"]
    lines = CliRunner().invoke(main, command).output.splitlines()
    assert lines[0] == 'channels.Current = { source = "plc", tag = "ns=3;s=Pump1.Current" }' and len(lines) == 2
    wrong = CliRunner().invoke(main, ["browse", server.url, "--under", "Plant/Pump?"])
    assert wrong.exit_code == 1 and "fits 4 nodes" in wrong.output
