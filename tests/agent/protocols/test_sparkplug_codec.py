# SPDX-License-Identifier: Apache-2.0
"""Sparkplug payloads: against what npm sparkplug-payload wrote, there and back, and against hostile bytes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from fedge_agent.protocols.sparkplug import codec, topics, values
from fedge_agent.protocols.sparkplug.codec import Metric, decode, encode, read_metric, write_metric
from fedge_models.errors import ConfigError, WireError
from hypothesis import given, settings
from hypothesis import strategies as st
from support.counterparts import others, program
from support.examples import examples
from support.paths import SUPPORT, VECTORS
from support.waiting import LONGEST_S

RECORDED: dict[str, str] = json.loads((VECTORS / "sparkplug.json").read_text())
T = 1700000000000
FUZZ = settings(max_examples=examples(300), deadline=None, derandomize=True)


def recorded(name: str) -> list[Metric]:
    payload = decode(bytes.fromhex(RECORDED[name]))
    assert (payload.timestamp, payload.seq) == (T, 3)
    return [read_metric(m) for m in payload.metrics]


def test_vectors_are_what_the_npm_library_writes_today() -> None:
    script = [program("node"), str(SUPPORT / "sparkplug.js"), "record"]
    env = {**os.environ, "NODE_PATH": str(others("node", "node_modules"))}
    printed = subprocess.run(script, env=env, capture_output=True, check=True, timeout=LONGEST_S).stdout
    assert json.loads(printed) == RECORDED


def test_every_type_of_the_npm_library_is_read() -> None:
    read = {m.name: values.read(m, m.datatype) for m in recorded("types")}
    block = read.pop("bytes")
    assert isinstance(block, np.ndarray) and block.dtype == np.float32 and block.tolist() == [0, 1, 255]
    assert read == {
        **{"i8": -5, "i16": -300, "i32": -70000, "i64": -5e9, "u8": 200, "u16": 60000, "u32": 4e9},
        **{"u64": 9007199254740992.0, "f": 1.5, "d": -2.25, "yes": 1.0, "no": 0.0, "text": "Prüfstand"},
        **{"when": T / 1000, "long text": "x", "uuid": "0-1"},
    }
    assert recorded("types")[0].alias == 1


def test_flags_of_the_npm_library_are_read() -> None:
    null, old, bad, stale = recorded("flags")
    assert null.null and not null.kind
    assert old.historical and not old.null and old.quality is None
    assert (bad.quality, stale.quality) == (0, 500)
    assert [m.quality for m in recorded("more")] == [None, 192]


@pytest.mark.parametrize("name", ["types", "flags", "alias only", "empty"])
def test_written_byte_for_byte_as_the_npm_library_does(name: str) -> None:
    assert encode(T, 3, recorded(name)).hex() == RECORDED[name]


def test_datasets_and_templates_are_refused_by_name_and_their_neighbour_is_read() -> None:
    dataset, template, after = recorded("complex")
    for metric, name in ((dataset, "DataSet"), (template, "Template")):
        with pytest.raises(WireError, match=f"a {name}; expected a number"):
            values.read(metric, metric.datatype)
    assert values.read(after, after.datatype) == 3.0


def array(datatype: int, data: bytes) -> Metric:
    return Metric("a", datatype=datatype, value=data, kind="bytes_value")


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),  # the specification's own examples, 6.4.17
    [
        (22, "E97B", [-23, 123]),  # the specification has EF, which is -17
        (23, "308A3BDD", [-30160, -8901]),
        (24, "1DBEFBC115CD5B07", [-1040466403, 123456789]),
        (26, "17FA", [23, 250]),
        (27, "1E00EFC8", [30, 51439]),
        (28, "34000000ECA9AABE", [52, 3198855660]),
        (30, "00000041000080BF", [8.0, -1.0]),
        (31, "000000000000F83F", [1.5]),
        (32, "0C00000034D0", [0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1]),
    ],
)
def test_arrays_are_waveforms(datatype: int, data: str, expected: list[float]) -> None:
    block = values.read(array(datatype, bytes.fromhex(data)), datatype)
    assert isinstance(block, np.ndarray) and block.dtype.kind == "f"
    np.testing.assert_array_equal(block, expected)


def integer(datatype: int, value: int, kind: str = "int_value") -> Metric:
    return Metric("a", datatype=datatype, value=value, kind=kind)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (integer(1, 300), "300 in a metric of 8 bits; expected -128 to 127"),
        (integer(5, 256), "expected 0 to 255"),
        (integer(7, 1 << 32, "long_value"), "expected 0 to 4294967295"),
        (integer(3, 1 << 40, "long_value"), "of 32 bits"),
        (integer(10, 3), "a Double without a value of its kind; it has int_value"),
        (Metric("a", datatype=10), "it has none"),
        (integer(0, 3), "a Unknown; expected a number"),
        (integer(4_000_000_000, 3), "data type 4000000000"),
        (array(18, b"x"), "a File"),
        (array(33, b"x\0"), "a StringArray"),
        (array(30, b"\0\0\0"), "a FloatArray of 3 bytes; expected a multiple of 4"),
        (array(32, b"\0\0\0"), "a BooleanArray of 0 in 3 bytes; expected 4"),
        (array(32, b"\xff\xff\xff\xff\0"), "expected 536870916"),
        (array(10, b"\0"), "a Double in bytes_value"),
    ],
)
def test_values_that_do_not_fit_their_type(metric: Metric, words: str) -> None:
    with pytest.raises(WireError, match=words):
        values.read(metric, metric.datatype)


@pytest.mark.parametrize(("value", "kind"), [(0xFFFFFFFB, "int_value"), (0xFB, "int_value"), (2**64 - 5, "long_value")])
def test_a_negative_number_in_either_width(value: int, kind: str) -> None:
    assert values.read(integer(1, value, kind), 1) == -5.0


def property_set(keys: int, count: int) -> bytes:
    return b"\x4a" + bytes([2 * (keys + count)]) + b"\x0a\x00" * keys + b"\x12\x00" * count


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff", "Payload of 1 bytes is not protobuf"),
        (b"\x12\x7f\x00", "not protobuf"),
        (b"\x0b" * 200, "not protobuf"),
        (b"\x00" * (codec.MAX_BYTES + 1), f"a payload of {codec.MAX_BYTES + 1} bytes; expected at most"),
        (b"\x12\x00" * (codec.MAX_METRICS + 1), "20001 metrics in one payload"),
        (b"\x22\x12SPBV1.0_COMPRESSED\x2a\x01x", "turn compression off"),
    ],
    ids=["byte", "short", "groups", "huge", "crowd", "compressed"],
)
def test_hostile_payloads(data: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        decode(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\x02\xc3\x28", "a metric's name is not UTF-8"),
        (b"\x7a\x01\xff", "the value of b'' is not UTF-8"),
        (property_set(2, 1), "2 keys and 1 values"),
        (b"\x4a\x81\x80\x04" + b"\x00" * 65537, "65537 bytes of properties"),
        (b"\x50", "Metric of 1 bytes is not protobuf"),
    ],
    ids=["name", "text", "properties", "many", "short"],
)
def test_hostile_metrics(data: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        read_metric(data)


def opened(data: bytes) -> None:
    """Everything that is done with bytes from outside. Raises WireError and nothing else."""
    for raw in decode(data).metrics:
        metric = read_metric(raw)
        value = values.read(metric, metric.datatype)
        assert isinstance(value, (float, str, np.ndarray))


@FUZZ
@given(st.binary(max_size=300))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        opened(data)
    except WireError as e:
        assert str(e)


@FUZZ
@given(st.sampled_from(sorted(RECORDED)), st.data())
def test_mutated_payloads_are_read_or_refused(name: str, data: st.DataObject) -> None:
    raw = bytearray.fromhex(RECORDED[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not raw:
            return
    try:
        opened(bytes(raw))
    except WireError as e:
        assert str(e)


KINDS = st.one_of(
    st.tuples(st.just("int_value"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("long_value"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("float_value"), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just("double_value"), st.floats(allow_nan=False)),
    st.tuples(st.just("boolean_value"), st.booleans()),
    st.tuples(st.just("string_value"), st.text()),
    st.tuples(st.just("bytes_value"), st.binary()),
    st.just(("", None)),
)
METRICS = st.builds(
    lambda name, alias, stamp, datatype, kind, null, historical, quality: Metric(
        name, alias, stamp, datatype, kind[1], kind[0], null, historical, quality
    ),
    st.text(),
    st.none() | st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    KINDS,
    st.booleans(),
    st.booleans(),
    st.none() | st.sampled_from([0, 192, 500]),
)


@FUZZ
@given(st.none() | st.integers(0, 2**64 - 1), st.none() | st.integers(0, 255), st.lists(METRICS, max_size=4))
def test_what_is_written_is_read_again(stamp: int | None, seq: int | None, metrics: list[Metric]) -> None:
    payload = decode(encode(stamp, seq, metrics))
    assert (payload.timestamp, payload.seq) == (stamp, seq)
    assert [read_metric(m) for m in payload.metrics] == metrics
    assert [write_metric(read_metric(m)) for m in payload.metrics] == list(payload.metrics)


@pytest.mark.parametrize("datatype", [values.INT32, values.INT64, values.DOUBLE, values.BOOLEAN])
@pytest.mark.parametrize("value", [0, 1, -1, 2**31 - 1])
def test_values_we_write_are_read_again(datatype: int, value: int) -> None:
    kind, raw = values.write(datatype, value)
    expected = float(bool(value)) if datatype == values.BOOLEAN else float(value)
    assert values.read(Metric("a", datatype=datatype, value=raw, kind=kind), datatype) == expected


def test_a_hostile_payload_costs_little_memory() -> None:
    """In a process of its own, because what is measured is its highest mark."""
    code = """
import resource
from fedge_agent.protocols.sparkplug import codec
from fedge_models.errors import WireError

codec.decode(b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for unit in (b"\\x12\\x00", b"\\x0b", b"\\x13\\x14", b"\\x0a\\x00"):
    try:
        codec.decode(unit * (codec.MAX_BYTES // len(unit)))
    except WireError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) < 40 * 1024  # KiB


TOPICS: list[tuple[str, Any]] = [
    ("spBv1.0/g/NBIRTH/n", topics.Topic("NBIRTH", topics.NodeId("g", "n"))),
    ("spBv1.0/g/DDATA/n/d", topics.Topic("DDATA", topics.NodeId("g", "n"), "d")),
    *((t, None) for t in ("", "spBv1.0/g/NBIRTH/n/d", "spBv1.0/g/DDATA/n", "spAv1.0/g/NDATA/n", "spBv1.0/STATE/h")),
    *((t, None) for t in ("spBv1.0//NDATA/n", "spBv1.0/g/XDATA/n", "spBv1.0/g/DDATA/n/d/e", "spBv1.0/g/NDATA/")),
]


@pytest.mark.parametrize(("text", "expected"), TOPICS)
def test_topics(text: str, expected: topics.Topic | None) -> None:
    if expected is None:
        with pytest.raises(WireError, match=r"expected spBv1\.0"):
            topics.parse(text)
    else:
        assert topics.parse(text) == expected and str(expected) == text


def test_tags() -> None:
    assert topics.tag("g/n/d/Folder/A") == topics.Tag(topics.NodeId("g", "n"), "d", "Folder/A")
    assert topics.tag("g/n//Folder/A").device == ""
    for text in ("", "g/n/d", "g/n/d/", "/n/d/m", "g//d/m", "g/+/d/m", "g/n/#/m"):
        with pytest.raises(ConfigError, match="expected group/node/device/metric"):
            topics.tag(text)


def test_state_of_a_host() -> None:
    assert json.loads(topics.write_state(True, 5)) == {"online": True, "timestamp": 5}
    assert topics.read_state(b'{"online": false, "timestamp": 7, "more": 1}') == topics.State(False, 7)
    for data in (b"", b"OFFLINE", b'{"online": 1}', b"\xff", b"{" * 2000):
        with pytest.raises(WireError, match="a STATE that is not"):
            topics.read_state(data)


def test_infinities_pass_and_are_for_the_windows_to_count() -> None:
    kind, raw = values.write(values.DOUBLE, math.inf)
    assert values.read(Metric("a", datatype=values.DOUBLE, value=raw, kind=kind), values.DOUBLE) == math.inf


@pytest.mark.parametrize(
    ("metric", "datatype"),
    [
        (Metric(kind="bytes_value", value=(1 << 23).to_bytes(4, "little") + bytes(1 << 20)), 32),
        (Metric(kind="bytes_value", value=bytes((1 << 22) + 1)), 22),
        (Metric(kind="string_value", value="x" * 257), 12),
    ],
    ids=["booleans", "bytes", "text"],
)
def test_a_value_that_unpacks_to_many_times_its_size_is_refused(metric: Metric, datatype: int) -> None:
    with pytest.raises(WireError, match="at most"):
        values.read(metric, datatype)
