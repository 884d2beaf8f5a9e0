# SPDX-License-Identifier: Apache-2.0
"""Our edge node, packet by packet: CONNECT, births, data, deaths and the primary host as the specification has them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.outputs.registry import build
from fedge_agent.outputs.sparkplug import SparkplugOutput
from fedge_agent.protocols.sparkplug import codec, topics
from fedge_agent.protocols.sparkplug.codec import Metric
from fedge_agent.protocols.sparkplug.host_view import rebirth
from fedge_agent.protocols.sparkplug.primary_host import PrimaryHost
from fedge_agent.protocols.sparkplug.topics import NodeId
from fedge_agent.protocols.sparkplug.values import BOOLEAN, INT64
from fedge_agent.types import Decision, Event
from fedge_models.errors import ConfigError, UnreachableError, WireError
from support.mqtt_wire import Packet, WireBroker
from support.waiting import until

STATE = "spBv1.0/STATE/scada"
VERSIONS = ["5", "3.1.1"]


@contextmanager
def edge_node(broker: WireBroker, folder: Path, **keys: Any) -> Iterator[SparkplugOutput]:
    table = {"type": "sparkplug", "url": broker.url, "group": "plant", "node": "gw1", "timeout": 1.0, **keys}
    made = build("spb", table, "test")
    assert isinstance(made, SparkplugOutput)
    folder.mkdir(exist_ok=True)
    try:
        yield made
    finally:
        made.end()


def decision(asset: str, score: float, **more: Any) -> Decision:
    fields: dict[str, Any] = {"threshold": 2.0, "label": "normal", "missing": 0.0, "latency_s": 0.001} | more
    return Decision(asset, "pumps", 7, time.time_ns(), score, **fields)


def metrics(packet: Packet) -> dict[str, Metric]:
    return {m.name or f"#{m.alias}": m for m in map(codec.read_metric, codec.decode(packet.payload).metrics)}


def seqs(packets: list[Packet]) -> list[int | None]:
    return [codec.decode(p.payload).seq for p in packets]


def kinds(packets: list[Packet]) -> list[str]:
    return [p.topic.split("/")[2] if p.kind == "PUBLISH" else p.kind for p in packets]


@pytest.mark.parametrize("version", VERSIONS)
def test_connect_has_the_death_as_its_will_and_no_session(tmp_path: Path, version: str) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path, version=version) as node:
        node.begin(tmp_path)
        connect = broker.packets[0]
        assert (connect.kind, connect.clean, connect.expiry) == ("CONNECT", True, 0)
        will = connect.will
        assert will is not None and (will.topic, will.qos, will.retain) == ("spBv1.0/plant/NDEATH/gw1", 1, False)
        death = codec.decode(will.payload)
        assert death.seq is None and list(metrics(will)) == ["bdSeq"]
        bdseq = metrics(will)["bdSeq"]
        assert (bdseq.datatype, bdseq.value) == (INT64, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_subscription_then_births_then_data(tmp_path: Path, version: str) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path, version=version) as node:
        node.show(decision("pump-1", 1.0))
        node.show(decision("pump-2", 1.0))
        node.show(decision("pump-1", 1.5))
        broker.wait(lambda ps: "DDATA" in kinds(ps), "data")
        assert kinds(broker.packets) == ["CONNECT", "SUBSCRIBE", "NBIRTH", "DBIRTH", "DBIRTH", "DDATA"]
        assert broker.packets[1].filters == (("spBv1.0/plant/NCMD/gw1", 1),)
        sent = broker.publishes()
        assert [p.topic for p in sent] == [
            "spBv1.0/plant/NBIRTH/gw1",
            "spBv1.0/plant/DBIRTH/gw1/pump-1",
            "spBv1.0/plant/DBIRTH/gw1/pump-2",
            "spBv1.0/plant/DDATA/gw1/pump-1",
        ]
        assert {(p.qos, p.retain) for p in sent} == {(0, False)} and seqs(sent) == [0, 1, 2, 3]
        stamps = [codec.decode(p.payload).timestamp or 0 for p in sent]
        assert stamps == sorted(stamps) and abs(stamps[0] / 1000 - time.time()) < 60


def test_the_births_name_every_metric_with_type_alias_time_and_value(tmp_path: Path) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path) as node:
        node.show(decision("pump-1", 1.0, threshold=math.inf))
        nbirth, dbirth = broker.wait(lambda _: broker.publishes()[1:] and broker.publishes(), "births")
        own = metrics(nbirth)
        will = broker.packets[0].will
        assert will is not None and own["bdSeq"].value == metrics(will)["bdSeq"].value
        control = own["Node Control/Rebirth"]
        assert (control.datatype, control.value, control.alias) == (BOOLEAN, False, None)
        device = metrics(dbirth)
        aliases = [m.alias for m in device.values()]
        assert None not in aliases and len(set(aliases)) == len(aliases)
        assert all(m.datatype and m.timestamp for m in (*own.values(), *device.values()))
        assert device["score"].value == 1.0
        assert device["threshold"].null and not device["threshold"].kind  # unknown: null, and no value beside it


def test_data_have_the_alias_alone_and_only_what_changed(tmp_path: Path) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path) as node:
        node.show(decision("pump-1", 1.0))
        node.show(decision("pump-1", 1.0))  # nothing changed
        node.show(decision("pump-1", 2.5))
        (data,) = broker.wait(lambda _: broker.publishes("DDATA"), "data")
        alias = metrics(broker.publishes("DBIRTH")[0])["score"].alias
        assert list(metrics(data)) == [f"#{alias}"]


def test_a_new_metric_is_born_before_it_is_sent(tmp_path: Path) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path) as node:
        node.show(decision("pump-1", 1.0))
        node.deliver(Event("gw:pumps:pump-1:1", "opened", decision("pump-1", 3.0), 3.0))
        births = broker.wait(lambda _: broker.publishes("DBIRTH")[1:] and broker.publishes("DBIRTH"), "a birth")
        assert "alert key" in metrics(births[1]) and metrics(births[1])["score"].value == 1.0


@pytest.mark.parametrize(("version", "reason"), [("5", 4), ("3.1.1", 0)])
def test_a_planned_end_publishes_the_death_and_then_disconnects(tmp_path: Path, version: str, reason: int) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path, version=version) as node:
        node.begin(tmp_path)
        node.end()
        broker.wait(lambda ps: ps[-1].kind == "DISCONNECT", "the end")
        assert kinds(broker.packets)[-2:] == ["NDEATH", "DISCONNECT"] and broker.packets[-1].reason == reason
        death = broker.packets[-2]
        assert (death.qos, death.retain, seqs([death])) == (1, False, [None]) and list(metrics(death)) == ["bdSeq"]


def test_each_connection_counts_bdseq_up_and_255_is_followed_by_0(tmp_path: Path) -> None:
    with WireBroker() as broker:
        for _ in range(2):
            with edge_node(broker, tmp_path) as node:
                node.begin(tmp_path)
        with edge_node(broker, tmp_path) as node:
            (tmp_path / "node.json").write_text('{"bdseq":255}')
            node.begin(tmp_path)
        wills = [p.will for p in broker.packets if p.kind == "CONNECT"]
        assert [metrics(w)["bdSeq"].value for w in wills if w] == [0, 1, 0]
        assert [metrics(p)["bdSeq"].value for p in broker.publishes("NBIRTH")] == [0, 1, 0]


def test_a_rebirth_repeats_all_births_with_the_same_bdseq_and_no_data_between(tmp_path: Path) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path) as node:
        node.show(decision("pump-1", 1.0))
        broker.wait(lambda _: broker.publishes("DBIRTH"), "births")
        broker.send(
            *rebirth(NodeId("plant", "gw1"), 1)
        )  # at once: it is answered when the last births are a second old
        broker.send(*rebirth(NodeId("plant", "gw1"), 1))
        births = broker.wait(lambda _: broker.publishes("DBIRTH")[1:] and broker.publishes(), "births again")
        assert [p.topic.split("/")[2] for p in births] == ["NBIRTH", "DBIRTH", "NBIRTH", "DBIRTH"]
        assert seqs(births) == [0, 1, 0, 1]
        assert metrics(births[0])["bdSeq"].value == metrics(births[2])["bdSeq"].value == 0
        node.show(decision("pump-1", 2.0))
        broker.wait(lambda _: seqs(broker.publishes("DDATA")) == [2], "data after it")


def test_a_lost_connection_is_replaced_with_the_next_bdseq(tmp_path: Path) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path) as node:
        node.show(decision("pump-1", 1.0))
        broker.wait(lambda _: broker.publishes("DBIRTH"), "births")
        broker.drop()

        def reborn() -> bool:
            with contextlib.suppress(UnreachableError):  # as the host does
                node.show(decision("pump-1", time.monotonic()))
            return len(broker.publishes("DBIRTH")) == 2

        until(reborn, "births of the new connection")
        assert [metrics(p)["bdSeq"].value for p in broker.publishes("NBIRTH")] == [0, 1]


# the primary host application


def state(online: bool, stamp: int) -> bytes:
    return topics.write_state(online, stamp)


def test_nothing_is_born_before_the_primary_host_is_online(tmp_path: Path) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path, primary_host="scada") as node:
        with pytest.raises(UnreachableError, match="no STATE of the primary host 'scada'"):
            node.show(decision("pump-1", 1.0))
        filters = dict(broker.packets[1].filters)
        assert filters[STATE] == 1 and not broker.publishes()
        broker.send(STATE, state(False, 10), retain=True)
        until(lambda: "the primary host 'scada' is offline" in _refusal(node), "the STATE")
        broker.send(STATE, b"not a STATE")
        broker.send("spBv1.0/STATE/other", state(True, 99))
        broker.send(STATE, state(True, 5))  # of an earlier connection of the host
        until(lambda: "its time stamp 5 is older than the one before, 10" in _refusal(node), "the older STATE")
        assert not broker.publishes()
        broker.send(STATE, state(True, 10))
        broker.wait(lambda _: broker.publishes("DBIRTH"), "births, without waiting for the next value")
        assert [p.kind for p in broker.packets].count("CONNECT") == 1
        node.show(decision("pump-1", 2.0))
        broker.wait(lambda _: seqs(broker.publishes()) == [0, 1, 2], "data")


def test_a_retained_state_lets_births_out_at_once(tmp_path: Path) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path, primary_host="scada") as node:
        broker.on_subscribe = lambda f: broker.send(f, state(True, 10), retain=True) if f == STATE else None
        node.show(decision("pump-1", 1.0))
        broker.wait(lambda _: broker.publishes("DBIRTH"), "births")


def test_a_primary_host_that_goes_offline_ends_the_session_until_it_comes_back(tmp_path: Path) -> None:
    with WireBroker() as broker, edge_node(broker, tmp_path, primary_host="scada") as node:
        broker.on_subscribe = lambda f: broker.send(f, state(True, 10), retain=True) if f == STATE else None
        node.show(decision("pump-1", 1.0))
        broker.wait(lambda _: broker.publishes("DBIRTH"), "births")
        broker.send(STATE, state(False, 9))  # older than the online before: it ends nothing
        node.show(decision("pump-1", 2.0))
        broker.wait(lambda _: broker.publishes("DDATA"), "data")
        broker.on_subscribe = lambda f: broker.send(f, state(False, 10), retain=True) if f == STATE else None
        broker.send(STATE, state(False, 10))
        broker.wait(lambda ps: [p.kind for p in ps].count("CONNECT") == 2, "a new connection")
        before = [p for p in broker.packets if p.connection == 0]
        assert kinds(before)[-2:] == ["NDEATH", "DISCONNECT"]
        until(lambda: "offline" in _refusal(node), "the STATE at the new connection")
        assert not [p for p in broker.publishes() if p.connection == 1]
        broker.send(STATE, state(True, 20))
        births = broker.wait(lambda _: [p for p in broker.publishes("DBIRTH") if p.connection == 1], "births")
        assert metrics(births[0])["score"].value == 3.0  # the newest, though nothing was sent meanwhile
        node.deliver(Event("gw:pumps:pump-1:1", "opened", decision("pump-1", 3.0), 3.0))


def _refusal(node: SparkplugOutput) -> str:
    try:
        node.show(decision("pump-1", 3.0))
    except UnreachableError as e:
        return str(e)
    return ""


def test_a_host_of_version_2_counts_until_one_of_version_3_speaks() -> None:
    host = PrimaryHost("scada")
    old = "STATE/scada"
    assert host.topics == (STATE, old)
    for payload, online in ((b"ONLINE", True), (b"OFFLINE", False), (b"ONLINE", True)):
        host.take(old, payload)
        assert host.online is online
    host.take(STATE, state(False, 10))
    host.take(old, b"ONLINE")
    assert host.online is False
    for topic, payload in ((old, b"online"), (STATE, b"ONLINE"), ("STATE/other", b"ONLINE")):
        with pytest.raises(WireError):
            host.take(topic, payload)
    host.take(STATE, state(True, 9))
    assert not host.online and "older than the one before" in str(host)


def test_the_id_of_a_primary_host_is_checked() -> None:
    table = {"type": "sparkplug", "url": "mqtt://127.0.0.1:1", "group": "g", "node": "n"}
    with pytest.raises(ConfigError, match=r"output\.spb: primary_host 'a/b'"):
        build("spb", {**table, "primary_host": "a/b"}, "test")
