# SPDX-License-Identifier: Apache-2.0
"""Our host application, packet by packet: session, subscriptions, STATE and commands as the specification has them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fedge_agent.protocols.sparkplug import codec, topics
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.registry import build
from support.mqtt_wire import Packet, WireBroker
from support.waiting import LONGEST_S

STATE = "spBv1.0/STATE/scada"


@contextmanager
def host(broker: WireBroker, **keys: Any) -> Iterator[HostedSource]:
    table = {"type": "sparkplug", "url": broker.url, "host_id": "scada", "rebirth_interval": 0.3, **keys}
    made = HostedSource("plant", build("plant", table, "test"), ["g/n//load", "g/m/d/flow"], Queue(100))
    made.start()
    try:
        yield made
    finally:
        made.join(LONGEST_S)


def states(broker: WireBroker) -> list[Packet]:
    return [p for p in broker.publishes() if p.topic == STATE]


def born(broker: WireBroker) -> Packet:
    packet: Packet = broker.wait(lambda _: states(broker), "a STATE")[0]
    return packet


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_will_subscriptions_birth_and_then_commands(version: str) -> None:
    with WireBroker() as broker, host(broker, version=version):
        broker.wait(lambda _: len(broker.publishes("NCMD")) >= 2, "requests for births")
        connect, subscribe, birth = broker.packets[:3]
        assert (connect.kind, connect.clean, connect.expiry) == ("CONNECT", True, 0)
        will = connect.will
        assert will is not None and (will.topic, will.qos, will.retain) == (STATE, 1, True)
        dead = topics.read_state(will.payload)
        assert not dead.online and abs(dead.timestamp / 1000 - time.time()) < 60
        assert subscribe.kind == "SUBSCRIBE" and STATE in dict(subscribe.filters)
        assert {"spBv1.0/g/+/n/#", "spBv1.0/g/+/m/#"} <= set(dict(subscribe.filters))
        assert (birth.topic, birth.qos, birth.retain) == (STATE, 1, True)
        assert topics.read_state(birth.payload) == topics.State(True, dead.timestamp)


def test_a_planned_end_publishes_that_we_are_offline_with_the_time_of_now() -> None:
    with WireBroker() as broker:
        with host(broker):
            began = topics.read_state(born(broker).payload).timestamp
            broker.wait(lambda _: broker.publishes("NCMD"), "requests")
            time.sleep(0.01)  # so that now is another millisecond
        broker.wait(lambda ps: ps[-1].kind == "DISCONNECT", "the end")
        death = broker.packets[-2]
        said = topics.read_state(death.payload)
        assert (death.topic, death.qos, death.retain, said.online) == (STATE, 1, True, False)
        assert began < said.timestamp <= time.time() * 1000 + 1


@pytest.mark.parametrize("payload", [topics.write_state(False, 5), b"OFFLINE", b"\xff"])
def test_a_state_that_calls_us_offline_is_corrected_at_once(payload: bytes) -> None:
    with WireBroker() as broker, host(broker):
        first = born(broker)
        broker.send(STATE, payload)
        broker.wait(lambda _: len(states(broker)) == 2, "the correction")
        assert states(broker)[1][2:] == first[2:]  # online, with the time of the Will


def test_each_connection_has_a_time_of_its_own() -> None:
    with WireBroker() as broker, host(broker):
        born(broker)
        broker.drop()
        broker.wait(lambda _: len(states(broker)) == 2, "the next birth")
        connects = [p for p in broker.packets if p.kind == "CONNECT"]
        dead = [topics.read_state(p.will.payload).timestamp for p in connects if p.will]
        assert dead[0] < dead[1] and [topics.read_state(p.payload).timestamp for p in states(broker)] == dead


def test_a_request_for_births_is_a_command_of_qos_0_without_seq() -> None:
    with WireBroker() as broker, host(broker):
        requests = broker.wait(lambda _: len(broker.publishes("NCMD")) >= 2 and broker.publishes("NCMD"), "requests")
        assert {p.topic for p in requests} == {"spBv1.0/g/NCMD/n", "spBv1.0/g/NCMD/m"}
        for packet in requests:
            assert (packet.qos, packet.retain) == (0, False)
            payload = codec.decode(packet.payload)
            (metric,) = map(codec.read_metric, payload.metrics)
            assert payload.seq is None and abs((payload.timestamp or 0) / 1000 - time.time()) < 60
            assert (metric.name, metric.value, metric.datatype) == ("Node Control/Rebirth", True, 11)


def test_without_a_host_id_there_is_neither_will_nor_state() -> None:
    with WireBroker() as broker, host(broker, host_id=""):
        broker.wait(lambda _: broker.publishes("NCMD"), "requests")
        assert broker.packets[0].will is None and not states(broker)
