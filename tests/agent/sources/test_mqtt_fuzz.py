# SPDX-License-Identifier: Apache-2.0
"""Any bytes give readings and complaints: no exception, and memory in proportion to the payload."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from fedge_agent.sources.mqtt import MqttConfig
from fedge_agent.sources.mqtt_payload import MAX_TEXT, Complaint, Reader
from fedge_agent.types import Quality, Reading
from fedge_models.system import times
from fedge_models.system.quoting import quote
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

NOW = 1_700_000_000_000_000_000
TAGS = ["t#/a", "t#/b/0", "t#/ts", "t#/a/b/c", "t#"]
PER_BYTE = 40  # of memory: Python's smallest list takes 56 bytes and is written in three
FIXED = 1 << 20

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
    st.sampled_from(["2023-11-14T22:13:20Z", "1_000", "१७", "nan", "1e400", "-0", "\x00", "\r\n", "9" * 5000, 10**308]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=3), v, max_size=4), max_leaves=12
)
documents = st.fixed_dictionaries({}, optional={"a": values, "b": values, "ts": values, "x": values}) | values
mutations = st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=0, max_size=4)), max_size=4)


def config(**keys: Any) -> MqttConfig:
    return MqttConfig(**{"url": "mqtt://x", "client_id": "gw", **keys})


CONFIGS = [
    config(),
    config(time="/ts"),
    config(time="/ts", time_unit="ms"),
    config(time="/a/0", time_unit="ns"),
    config(payload="array", dtype="float64"),
    config(payload="array", dtype="int16", array_channels=3),
]


def check(payload: bytes, how: MqttConfig) -> None:
    """Read a payload, and look at every reading."""
    readings, complaints = Reader([*TAGS, "t"], how).read("t", payload, NOW)
    for reading in readings:
        assert isinstance(reading, Reading) and 0 <= reading.time_ns < times.latest_ns()
        value = reading.value
        if isinstance(value, float):
            assert np.isfinite(value) or reading.quality is Quality.BAD
        else:
            assert isinstance(value, np.ndarray) or len(value) <= MAX_TEXT
    for complaint in complaints:
        assert isinstance(complaint, Complaint) and len(complaint.text) < 400 and complaint.text.isprintable()


def mutated(payload: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for at, new in changes:
        payload = payload[:at] + new + payload[at + len(new) :]
    return payload


@settings(max_examples=examples(300), deadline=None)
@given(documents, mutations, st.sampled_from(CONFIGS))
def test_documents_of_any_shape(document: Any, changes: list[tuple[int, bytes]], how: MqttConfig) -> None:
    check(mutated(json.dumps(document).encode(), changes), how)


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=300), st.sampled_from(CONFIGS))
def test_any_bytes(payload: bytes, how: MqttConfig) -> None:
    check(payload, how)


HOSTILE = {
    "time is a list": b'{"ts":[1],"a":1}',
    "time is a list of lists": b'{"ts":' + b"[" * 900 + b"]" * 900 + b',"a":1}',
    "time is an object": b'{"ts":{"a":1},"a":1}',
    "time is a long text": b'{"ts":"' + b"1" * 900_000 + b'","a":1}',
    "time is a long number": b'{"ts":1' + b"0" * 5000 + b',"a":1}',
    "many empty lists": b'{"ts":1700000000,"a":[' + b"[]," * 100_000 + b"[]]}",
    "many short rows": b'{"ts":1700000000,"a":[' + b"[1]," * 80_000 + b"[1]]}",
    "many numbers": b'{"ts":1700000000,"a":[' + b"1," * 200_000 + b"1]}",
    "many objects": b'{"ts":1700000000,"a":[' + b"{}," * 100_000 + b"{}]}",
    "many keys": b'{"ts":1700000000,' + b"".join(b'"k%d":0,' % i for i in range(80_000)) + b'"a":1}',
    "a long text": b'{"ts":1700000000,"a":"' + b"x" * 1_000_000 + b'"}',
    "deep objects": b'{"ts":1700000000,"a":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("how", CONFIGS[:4], ids=lambda c: f"{c.time}{c.time_unit}")
def test_memory_is_bounded_by_the_payload(name: str, how: MqttConfig) -> None:
    payload = HOSTILE[name]
    reader = Reader([*TAGS, "t"], how)
    tracemalloc.start()
    try:
        reader.read("t", payload, NOW)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= PER_BYTE * len(payload) + FIXED


def test_a_quote_is_short_whatever_the_value_is() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, {"a": deep}, "x" * 10**6, b"\0" * 10**6, 10**6000, list(range(10**5)), float("nan"), None):
        assert len(quote(value)) <= 61 and quote(value).isprintable()
    while deep:  # taken apart one by one: Python's own way goes too deep
        deep = deep.pop()
