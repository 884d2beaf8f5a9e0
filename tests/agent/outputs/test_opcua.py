# SPDX-License-Identifier: Apache-2.0
"""OPC UA outputs against node-opcua: values written into a PLC's nodes, and our own small server read by its client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.outputs.opcua import OpcuaOutput, OpcuaOutputConfig
from fedge_agent.outputs.opcua_server import OpcuaServerConfig, OpcuaServerOutput
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.types import Decision, Event
from fedge_models.errors import ConfigError, RefusedError, RetryError, UnreachableError
from support.counterparts import others, program
from support.node_opcua import NodeServer, shared_server
from support.paths import SUPPORT
from support.waiting import LONGEST_S

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NOW_NS = 1_700_000_000_000_000_000
DECISION = Decision(
    "pump-1", "f", 7, NOW_NS, 0.25, 2.5, "normal", 0.0, 0.001, "a", {"life": 42.0}, {"life": (40.0, 45.0)}, 12.5, 10.0
)


def event(state: str, severity: str = "low") -> Event:
    decision = Decision("pump-1", "f", 7, NOW_NS, 3.5, 2.5, "anomaly", 0.0, 0.001, "a")
    return Event("gw:f:pump-1:1", state, decision, 3.5, severity)


@pytest.fixture(scope="module")
def plc() -> NodeServer:
    made = shared_server()
    for name, value in (("Score", 0), ("Alert", False), ("Label", ""), ("Release", 0), ("Life", 0)):
        made.do("add", name=f"pump-1/{name}", value=value)
    return made


@pytest.fixture
def written(plc: NodeServer) -> Iterator[Any]:
    """Makes outputs; they end with the test."""
    made: list[OpcuaOutput] = []

    def make(**config: Any) -> OpcuaOutput:
        made.append(OpcuaOutput("panel", OpcuaOutputConfig(plc.url, **config)))
        return made[-1]

    yield make
    for output in made:
        output.end()


def test_events_and_decisions_are_written_in_the_nodes_own_types(plc: NodeServer, written: Any) -> None:
    output = written(
        events={"Plant/{asset}/Alert": "{alert}", "nsu=urn:test:plc;s=Plant": "{key}"},
        decisions={
            "Plant/{asset}/Score": "{score}",
            "Plant/{asset}/Label": "{label} of {model} {release}",
            "Plant/{asset}/Release": "{release}",
            "Plant/{asset}/Life": "{values.life}",
        },
    )
    output.show(DECISION)
    got = [plc.do("read", name=f"pump-1/{n}") for n in ("Score", "Label", "Release", "Life")]
    assert got == [0.25, "normal of f 7", 7, 42]
    alerts = written(events={"Plant/{asset}/Alert": "{alert}", "Plant/{asset}/Score": "{score}"})
    for state, alert in (("opened", True), ("raised", True), ("cleared", False)):
        alerts.deliver(event(state))
        assert plc.do("read", name="pump-1/Alert") is alert
    assert plc.do("read", name="pump-1/Score") == 3.5


@pytest.mark.parametrize(
    ("tag", "value", "kind", "words"),
    [
        ("Plant/pump-1/Nothing", "{score}", RetryError, "nothing is called 'Nothing'"),
        ("ns=3;s=nothing", "{score}", RetryError, "BadNodeIdUnknown"),
        ("i=2258", "{score}", RefusedError, "holds DateTime"),
        ("i=2261", "x", RefusedError, "does not accept 'x' for i=2261: Bad"),  # BuildInfo.ProductName: not writable
        ("Plant/pump-1/Score", "{label}", RefusedError, "'anomaly' is not of type Double"),
        ("Plant/pump-1/Release", "{context.part}", RefusedError, "'' is not of type Double"),
    ],
)
def test_what_cannot_be_written_says_why(written: Any, tag: str, value: str, kind: type, words: str) -> None:
    with pytest.raises(kind) as caught:
        written(events={tag: value}).deliver(event("opened"))
    assert words in str(caught.value)


def test_a_server_that_is_away_is_tried_again_and_check_says_so(plc: NodeServer, written: Any) -> None:
    output = written(events={"Plant/pump-1/Alert": "{alert}"}, timeout=1.0)
    assert output.check() == []
    away = OpcuaOutput("panel", OpcuaOutputConfig("opc.tcp://127.0.0.1:9", events={"Plant/x": 1}))
    with pytest.raises(UnreachableError, match="nothing listens there"):
        away.deliver(event("opened"))
    [problem] = away.check()
    assert problem.startswith("output panel: opc.tcp://127.0.0.1:9: nothing listens there")
    [problem] = written(events={"Plant/x": 1}).check()
    assert "nothing is called 'x'" in problem


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"events": {"ns=2;s=a": "{scor}"}}, "did you mean {score}"),
        ({"decisions": {"ns=2;s=a": "{alert}"}}, "unknown field {alert}"),
        ({"decisions": {"ns=2;s={line}": "{score}"}}, "unknown field {line}"),
        ({"decisions": {"": "{score}"}}, "neither a node id"),
        ({"decisions": {"ns=2;s=a#Field": "{score}"}}, "a whole node"),
    ],
)
def test_wrong_templates_are_refused_before_a_socket_opens(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpcuaOutput("panel", OpcuaOutputConfig("opc.tcp://127.0.0.1:9", **config))
    assert words in str(caught.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpcuaServerOutput]:
    made = OpcuaServerOutput("scada", OpcuaServerConfig("127.0.0.1:0"))
    made.begin(tmp_path_factory.mktemp("outputs"))
    yield made
    made.end()


def ask(server: OpcuaServerOutput, tmp_path: Path, nodes: list[str], *clients: dict[str, str]) -> list[dict[str, Any]]:
    """What node-opcua gets as each of these clients."""
    url = f"opc.tcp://127.0.0.1:{server.port}/"
    options = {"url": url, "pki": str(tmp_path / "pki"), "nodes": nodes, "clients": clients}
    command = [program("node"), str(SUPPORT / "opcua_client.js"), json.dumps(options)]
    env = {**os.environ, "COUNTERPARTS": str(others("node", "node_modules"))}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=LONGEST_S)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_scada_reads_the_newest_decision_and_cannot_write(server: OpcuaServerOutput, tmp_path: Path) -> None:
    names = ["Score", "Label", "Alert", "Severity", "Values.life", "HoursLeft", "Release", "Threshold"]
    nodes = [f"ns=2;s=pump-1.{n}" for n in names]
    server.deliver(event("opened", "medium"))
    ours = OpcuaSource("scada", OpcuaConfig(f"opc.tcp://127.0.0.1:{server.port}"))
    problems = ours.check([*nodes[:3], "fedge/pump-1/Alert"])
    assert [p.rpartition(": ")[2] for p in problems] == ["BadWaitingForInitialData"] * 2
    server.show(DECISION)
    [got] = ask(server, tmp_path, nodes, {})
    assert got["values"] == [0.25, "normal", True, "medium", 42, 12.5, 7, 2.5] and set(got["status"]) == {"Good"}
    assert got["written"] == "BadUserAccessDenied" and got["times"][0].startswith("2023-11-14T22:13:20")


def test_a_port_that_is_taken_is_tried_again(server: OpcuaServerOutput, tmp_path: Path) -> None:
    other = OpcuaServerOutput("second", OpcuaServerConfig(f"127.0.0.1:{server.port}"))
    with pytest.raises(UnreachableError, match="cannot listen"):
        other.begin(tmp_path)
    other.end()


def test_who_is_not_known_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    security, password = ("Basic256Sha256/SignAndEncrypt",), tmp_path / "password"
    config = OpcuaServerConfig("127.0.0.1:0", security=security, username="scada", password_file=password)
    server = OpcuaServerOutput("scada", config, tmp_path / "state")
    server.begin(tmp_path)
    server.show(DECISION)
    nodes, state = ["ns=2;s=pump-1.Score"], tmp_path / "state/opcua"
    secure = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}
    user = {**secure, "user": "scada", "password": "secret"}
    strangers = ask(server, tmp_path, nodes, {}, user)
    assert [answer.keys() for answer in strangers] == [{"error"}] * 2
    [rejected] = (state / "rejected").iterdir()
    shutil.move(rejected, state / "clients" / rejected.name)
    wrong = {**user, "password": "guess"}, {**user, "user": "admin", "password": ""}
    known, *unknown = ask(server, tmp_path, nodes, user, secure, *wrong)
    assert known["values"] == [0.25] and [answer.keys() for answer in unknown] == [{"error"}] * 3
    server.end()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"listen": "4841"}, "host:port"),
        ({"listen": "0.0.0.0:4841"}, "reached from other machines"),
        ({"security": ["Basic256Sha256"]}, "policy/mode"),
        ({"security": []}, "policy/mode"),
        ({"username": "a"}, "go together"),
    ],
)
def test_a_server_that_would_let_everybody_in_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OpcuaServerOutput("scada", OpcuaServerConfig(**config))
