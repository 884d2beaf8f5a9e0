# SPDX-License-Identifier: Apache-2.0
"""Encode and decode Sparkplug B payloads: sparkplug_b.proto of Eclipse Tahu (Sparkplug 3.0, chapter 6.4.1).

The `protobuf` library reads the bytes; ONNX has loaded it anyway, so importing it here costs 0.5 MiB and 2 ms. Its
classes are made at first use from the table below, so that no generated code depends on a version of the library.

The table leaves out a part of the schema on purpose. Fields that may nest without end (templates in templates, property
sets in property sets) are declared as bytes and never decoded, so a payload is at most three messages deep. Metrics are
bytes too: they are counted before the first is decoded, and each is decoded by itself, so that a malformed metric does
not cost the others. Every error is a WireError.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from fedge_models.errors import WireError

MAX_BYTES = 2 << 20  # a second of vibration at 50 kHz in doubles is 0.4 MB
MAX_METRICS = 20_000  # of one payload
MAX_PROPERTIES = 64 << 10  # bytes of one metric's property set
COMPRESSED = b"SPBV1.0_COMPRESSED"  # an extension of Tahu's, not of the specification

Raw = int | float | bool | str | bytes | None  # as on the wire, where integers are unsigned


class Metric(NamedTuple):
    """One metric. `kind` is the field that holds its value, such as "int_value"; "" without a value."""

    name: str = ""
    alias: int | None = None
    timestamp: int | None = None  # ms since the Unix epoch
    datatype: int = 0  # 0: not given
    value: Raw = None
    kind: str = ""
    null: bool = False
    historical: bool = False
    quality: int | None = None  # the property "Quality" (6.4.11): 0 bad, 192 good, 500 stale


class Payload(NamedTuple):
    """A payload whose metrics are not decoded yet."""

    timestamp: int | None = None  # ms since the Unix epoch: when it was sent
    seq: int | None = None
    metrics: tuple[bytes, ...] = ()


def decode(data: bytes) -> Payload:
    """Decode a payload. Raises WireError when it is malformed, compressed or over a cap."""
    if len(data) > MAX_BYTES:
        raise WireError(f"a payload of {len(data)} bytes; expected at most {MAX_BYTES}")
    message = _parse("Payload", data)
    if message.uuid == COMPRESSED:
        raise WireError("a compressed payload, which is not supported; turn compression off at the edge node")
    if len(message.metrics) > MAX_METRICS:
        raise WireError(f"{len(message.metrics)} metrics in one payload; expected at most {MAX_METRICS}")
    return Payload(_optional(message, "timestamp"), _optional(message, "seq"), tuple(message.metrics))


def read_metric(data: bytes) -> Metric:
    """Decode one metric of a payload. Raises WireError when it is malformed."""
    message = _parse("Metric", data)
    kind = message.WhichOneof("value") or ""
    value: Raw = getattr(message, kind) if kind else None
    return Metric(
        _text(message.name, "a metric's name"),
        _optional(message, "alias"),
        _optional(message, "timestamp"),
        message.datatype,
        _text(value, f"the value of {message.name!r}") if kind == "string_value" else value,  # type: ignore[arg-type]
        kind,
        message.is_null,
        message.is_historical,
        _quality(message.properties) if message.properties else None,
    )


def encode(timestamp: int | None, seq: int | None, metrics: Iterable[Metric]) -> bytes:
    """Encode a payload, its fields in the order of their numbers, as every encoder writes them."""
    message = _classes()["Payload"](timestamp=timestamp, seq=seq, metrics=[write_metric(m) for m in metrics])
    return bytes(message.SerializeToString())


def write_metric(metric: Metric) -> bytes:
    """Encode one metric, without fields that are empty, false or None."""
    value = metric.value.encode() if isinstance(metric.value, str) else metric.value
    message = _classes()["Metric"](
        name=metric.name.encode() or None,
        alias=metric.alias,
        timestamp=metric.timestamp,
        datatype=metric.datatype or None,
        is_historical=metric.historical or None,
        is_null=metric.null or None,
        properties=None if metric.quality is None else _quality_property(metric.quality),
        **({metric.kind: value} if metric.kind else {}),
    )
    return bytes(message.SerializeToString())


def _quality(data: bytes) -> int | None:
    """Value of the property "Quality", or None."""
    if len(data) > MAX_PROPERTIES:
        raise WireError(f"{len(data)} bytes of properties of one metric; expected at most {MAX_PROPERTIES}")
    properties = _parse("PropertySet", data)
    if len(properties.keys) != len(properties.values):
        raise WireError(f"a property set of {len(properties.keys)} keys and {len(properties.values)} values")
    for key, value in zip(properties.keys, properties.values, strict=True):
        if key == b"Quality":
            return int(_parse("PropertyValue", value).int_value)
    return None


def _quality_property(code: int) -> bytes:
    classes = _classes()
    value = classes["PropertyValue"](type=3, int_value=code).SerializeToString()  # 3: Int32 (6.4.11)
    return bytes(classes["PropertySet"](keys=[b"Quality"], values=[value]).SerializeToString())


def _parse(name: str, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _classes()[name].FromString(data)
    except DecodeError as e:
        raise WireError(f"{name} of {len(data)} bytes is not protobuf: {e}") from e


def _optional(message: Any, field: str) -> int | None:
    return getattr(message, field) if message.HasField(field) else None


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise WireError(f"{what} is not UTF-8: {data[:40]!r}") from e


# Field number, type and name; "*": repeated; "|": one of the values. Text is bytes here, so that `_text` can report it.
_SCHEMA = {
    "Payload": ("1 uint64 timestamp", "2 bytes* metrics", "3 uint64 seq", "4 bytes uuid", "5 bytes body"),
    "Metric": (
        *("1 bytes name", "2 uint64 alias", "3 uint64 timestamp", "4 uint32 datatype", "5 bool is_historical"),
        *("6 bool is_transient", "7 bool is_null", "8 bytes metadata", "9 bytes properties"),
        *("10 uint32| int_value", "11 uint64| long_value", "12 float| float_value", "13 double| double_value"),
        *("14 bool| boolean_value", "15 bytes| string_value", "16 bytes| bytes_value", "17 bytes| dataset_value"),
        *("18 bytes| template_value", "19 bytes| extension_value"),
    ),
    "PropertySet": ("1 bytes* keys", "2 bytes* values"),
    "PropertyValue": ("1 uint32 type", "2 bool is_null", "3 uint32 int_value"),
}


@cache
def _classes() -> dict[str, Any]:
    """Make the message classes from the table, in a pool of their own."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="fedge/sparkplug_b.proto", package="fedge", syntax="proto2")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for line in fields:
            number, kind, field = line.split()
            added = message.field.add(name=field, number=int(number))
            added.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.rstrip('*|').upper()}")
            added.label = 3 if kind.endswith("*") else 1  # LABEL_REPEATED, LABEL_OPTIONAL
            if kind.endswith("|"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="value")
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"fedge.{name}")) for name in _SCHEMA}
