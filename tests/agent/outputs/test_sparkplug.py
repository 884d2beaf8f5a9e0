# SPDX-License-Identifier: Apache-2.0
"""Our edge node: pure, and read by a host that is not ours (npm sparkplug-payload) over a real mosquitto."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.outputs.registry import build
from fedge_agent.protocols.mqtt.connection import Message
from fedge_agent.protocols.sparkplug import codec, state
from fedge_agent.protocols.sparkplug.edge_node import EdgeNode, Value
from fedge_agent.protocols.sparkplug.host_view import HostView, rebirth
from fedge_agent.protocols.sparkplug.node_view import Patience
from fedge_agent.protocols.sparkplug.topics import NodeId
from fedge_agent.protocols.sparkplug.values import BOOLEAN, DOUBLE, STRING
from fedge_agent.types import Decision, Event, Quality
from fedge_models.errors import ConfigError, UnreachableError, WireError
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.mosquitto import Mosquitto
from support.npm_sparkplug import NpmSparkplug

FUZZ = settings(max_examples=examples(60), deadline=None, derandomize=True)

T = 1_700_000_000_000


def read(message: tuple[str, bytes]) -> tuple[str, int | None, dict[str, Any]]:
    """(type and device, seq, name or alias -> value)."""
    topic, data = message
    payload = codec.decode(data)
    metrics = [codec.read_metric(m) for m in payload.metrics]
    return topic.split("/", 2)[2], payload.seq, {m.name or f"#{m.alias}": m.value for m in metrics}


def node(bdseq: int = -1) -> EdgeNode:
    return EdgeNode(NodeId("g", "n"), bdseq, {"agent": Value(STRING, "fedge")})


def test_births_data_by_exception_and_death() -> None:
    edge = node()
    assert read(edge.connecting(T)) == ("NDEATH/n", None, {"bdSeq": 0})
    assert read(edge.births(T)[0]) == ("NBIRTH/n", 0, {"bdSeq": 0, "Node Control/Rebirth": False, "agent": "fedge"})
    first = {"score": Value(DOUBLE, 1.0), "alert": Value(BOOLEAN, False), "left": Value(DOUBLE, None)}
    (born,) = edge.update("pump", first, T, T)
    assert read(born) == ("DBIRTH/n/pump", 1, {"score": 1.0, "alert": False, "left": None})
    aliases = {m.name: m.alias for m in map(codec.read_metric, codec.decode(born[1]).metrics)}
    assert edge.update("pump", first, T, T) == []
    (data,) = edge.update("pump", {**first, "score": Value(DOUBLE, 2.0)}, T, T)
    assert read(data) == ("DDATA/n/pump", 2, {f"#{aliases['score']}": 2.0})
    (again,) = edge.update("pump", {"more": Value(STRING, "x")}, T, T)  # a metric that no birth named yet
    assert read(again) == ("DBIRTH/n/pump", 3, {"score": 2.0, "alert": False, "left": None, "more": "x"})
    assert {m.name: m.alias for m in map(codec.read_metric, codec.decode(again[1]).metrics)}.items() >= aliases.items()
    assert [read(m)[:2] for m in edge.births(T)] == [("NBIRTH/n", 0), ("DBIRTH/n/pump", 1)]


def test_each_connection_has_the_next_bdseq_and_255_is_followed_by_0() -> None:
    edge = node(253)
    numbers = []
    for _ in range(4):
        death = read(edge.connecting(T))[2]["bdSeq"]
        assert read(edge.births(T)[0])[2]["bdSeq"] == death
        numbers.append(death)
    assert numbers == [254, 255, 0, 1]


def test_seq_of_our_node_goes_round_at_256() -> None:
    edge = node()
    edge.connecting(T)
    messages = edge.births(T)
    for i in range(600):
        messages += edge.update("pump", {"score": Value(DOUBLE, float(i))}, T, T)
    assert [read(m)[1] for m in messages] == [i % 256 for i in range(601)]


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "a\0"])
def test_ids_with_reserved_characters_are_refused(name: str) -> None:
    table = {"type": "sparkplug", "url": "mqtt://127.0.0.1:1", "group": "g", "node": "n"}
    for key in ("group", "node"):
        with pytest.raises(ConfigError, match=rf"output\.spb: {key} .*: expected text without"):
            build("spb", {**table, key: name}, "test")
    if "/" not in name:  # which begins the device
        with pytest.raises(ConfigError):
            HostView([f"g/{name}/d/m"], Patience(0, 1, 1, 0))


def test_only_a_rebirth_is_answered() -> None:
    edge = node()
    edge.births(T)
    topic, data = rebirth(edge.id, T)
    assert edge.rebirth_requested(topic, data)
    alias = codec.Metric("", 1, T, BOOLEAN, True, "boolean_value")
    false = codec.Metric("Node Control/Rebirth", None, T, BOOLEAN, False, "boolean_value")
    for metrics in ([], [false], [alias], [alias._replace(alias=None)]):
        assert not edge.rebirth_requested(topic, codec.encode(T, None, metrics))
    for strange, bytes_ in (
        ("spBv1.0/g/NCMD/x", data),
        (topic, b"\xff"),
        (topic, b"\x12\x03\x0a\x01\xff"),
        ("x", data),
    ):
        with pytest.raises(WireError):
            edge.rebirth_requested(strange, bytes_)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.dictionaries(st.sampled_from(["score", "left", "more"]), st.none() | st.floats(0, 9), min_size=1),
        st.sampled_from(["", "rebirth", "connect"]),
    ),
    max_size=20,
)


@FUZZ
@given(CHANGES)
def test_our_host_knows_what_our_node_sent(changes: Any) -> None:
    """Every value as last sent, through aliases, rebirths and new connections; no seq is ever missing."""
    tags = [f"g/n/{d}/{m}" for d in ("a", "b") for m in ("score", "left", "more")]
    view, edge, now = HostView(tags, Patience(0, 1, 1, 0)), node(), T
    view.connected(0, T)
    known: dict[str, Any] = {}
    latest: dict[str, Any] = {}
    messages = [edge.connecting(now), *edge.births(now)]
    for device, values, what in changes:
        now += 1
        messages += edge.update(device, {k: Value(DOUBLE, v) for k, v in values.items()}, now, now)
        latest |= {f"g/n/{device}/{k}": v for k, v in values.items()}
        if what == "connect":
            messages.append(edge.death(now))
            edge.connecting(now)
        messages += edge.births(now) if what else []
    for topic, data in messages:
        for reading in view.take(topic, data, False, 1.0, T).readings:
            known[reading.tag] = None if reading.quality is Quality.BAD else reading.value
    assert known == latest
    assert {"gaps", "metrics that no birth named"}.isdisjoint(view.counts.totals)


# against a real broker, read by somebody else


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield made
    made.stop()


def output(broker: Mosquitto, **keys: Any) -> Any:
    table = {"type": "sparkplug", **broker.keys, "group": "plant", "node": "gw1", **keys}
    return build("spb", {**table, "password_file": str(table["password_file"])}, "test")


def decision(score: float, **more: Any) -> Decision:
    fields: dict[str, Any] = {"threshold": math.inf, "label": "normal", "missing": 0.0, "latency_s": 0.001} | more
    return Decision("pump-1", "pumps", 7, time.time_ns(), score, **fields)


def event(state: str) -> Event:
    return Event("gw:pumps:pump-1:1", state, decision(3.0, threshold=2.0, label="anomaly"), 3.0)


def metrics(message: dict[str, Any]) -> dict[str, Any]:
    return {m.get("name") or m["alias"]: m["value"] for m in message["payload"]["metrics"]}


def test_a_host_of_somebody_else_reads_what_we_publish(broker: Mosquitto, tmp_path: Path) -> None:
    with NpmSparkplug(broker, "host") as host:
        ours = output(broker)
        ours.begin(tmp_path)
        ours.show(decision(1.25, values={"life": 80.5}, bounds={"life": (70.0, 90.0)}, context={"job": "J7"}))
        nbirth = host.message("NBIRTH")
        assert nbirth["topic"] == "spBv1.0/plant/NBIRTH/gw1" and not nbirth["retain"] and nbirth["qos"] == 0
        assert metrics(nbirth) == {"bdSeq": 0, "Node Control/Rebirth": False}
        dbirth = host.message("DBIRTH")
        assert dbirth["topic"] == "spBv1.0/plant/DBIRTH/gw1/pump-1"
        assert metrics(dbirth) == {
            **{"score": 1.25, "threshold": None, "label": "normal", "channel": "", "model": "pumps", "release": 7},
            **{"missing": 0, "values/life": 80.5, "bounds/life/low": 70, "bounds/life/high": 90, "alert": False},
            **{"hours_left": None, "hours_left_at_least": None, "context/job": "J7", "provisional": False},
            **{"silent": False, "bounds_for": ""},
        }
        aliases = {m["name"]: m["alias"] for m in dbirth["payload"]["metrics"]}
        ours.show(decision(2.5, threshold=2.0, values={"life": 80.5}, bounds={"life": (70, 90)}, context={"job": "J7"}))
        ddata = host.message("DDATA")
        assert metrics(ddata) == {aliases["score"]: 2.5, aliases["threshold"]: 2.0}  # what changed, and no names
        assert [m["payload"]["seq"] for m in (nbirth, dbirth, ddata)] == [0, 1, 2]

        ours.deliver(event("opened"))
        values = metrics(host.message("DBIRTH"))
        assert (values["alert"], values["alert key"], values["severity"]) == (True, "gw:pumps:pump-1:1", "low")
        ours.deliver(event("cleared"))
        assert metrics(host.message("DDATA")) == {aliases["alert"]: False}

        ours._born_at = -math.inf  # the births were long ago
        rebirth_metric = {"name": "Node Control/Rebirth", "type": "Boolean", "value": True}
        order = {"topic": "spBv1.0/plant/NCMD/gw1", "payload": {"timestamp": T, "metrics": [rebirth_metric]}}
        host.do(**order)
        assert metrics(host.message("NBIRTH"))["bdSeq"] == 0
        assert metrics(host.message("DBIRTH"))["score"] == 2.5
        host.do(**order)  # again at once: not answered
        ours.show(decision(9.0))
        after = host.next_event(lambda e: e["event"] == "message" and "/NCMD/" not in e["topic"])
        assert "/DDATA/" in after["topic"] and after["payload"]["seq"] == 2

        ours._connection._client.socket().shutdown(2)  # the link breaks; the broker publishes our will
        ndeath = host.message("NDEATH")
        assert metrics(ndeath) == {"bdSeq": 0} and "seq" not in ndeath["payload"]
        ours._connection._client.loop_stop()
        ours.show(decision(10.0))
        assert metrics(host.message("NBIRTH"))["bdSeq"] == 1
        assert metrics(host.message("DBIRTH"))["score"] == 10.0
        ours.end()
        assert metrics(host.message("NDEATH")) == {"bdSeq": 1}


def test_bdseq_and_alerts_outlive_a_restart(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for bdseq, alert in ((0, False), (1, True)):
        ours = output(broker, node="gw2")
        with NpmSparkplug(broker, "host") as host:
            ours.begin(tmp_path)
            assert metrics(host.message("NBIRTH"))["bdSeq"] == bdseq
            ours.show(decision(1.0))
            assert metrics(host.message("DBIRTH"))["alert"] is alert
        ours.deliver(event("opened"))
        ours.end()
    assert state.load(tmp_path / "node.json") == state.NodeState(1, {"pump-1": True})
    (tmp_path / "node.json").write_bytes(b"{")
    assert state.load(tmp_path / "node.json") == state.NodeState()
    assert "begins with bdSeq 0" in caplog.text


def test_without_a_broker_it_says_so_and_is_born_when_there_is_one(broker: Mosquitto, tmp_path: Path) -> None:
    nobody = output(broker, url="mqtt://127.0.0.1:1")
    acts: list[Callable[[], None]] = [
        lambda: nobody.begin(tmp_path),
        lambda: nobody.show(decision(1.0)),
        lambda: nobody.deliver(event("opened")),
    ]
    for act in acts:
        with pytest.raises(UnreachableError, match="connection refused"):
            act()
    assert "connection refused" in nobody.check()[0]
    assert state.load(tmp_path / "node.json") == state.NodeState(2, {"pump-1": True})  # three attempts
    nobody.end()
    assert output(broker).check() == []
    with pytest.raises(ConfigError, match=r"output\.spb: node 'a/b'"):
        output(broker, node="a/b")


def test_a_hostile_command_is_not_followed(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    ours = output(broker, node="gw4")
    for data in (b"\xff", b"\x12\x00" * 30_000):
        ours._command(Message("spBv1.0/plant/NCMD/gw4", data, 0, False, False, 0))
    assert caplog.text.count("a command is ignored") == 2
