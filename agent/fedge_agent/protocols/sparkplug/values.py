# SPDX-License-Identifier: Apache-2.0
"""Convert Sparkplug data types (3.0, 6.4.16 and 6.4.17) from a metric's field to a value of the agent, and back. Pure.

Numbers, booleans and dates become floats (a date: seconds since the Unix epoch), text stays text, arrays and bytes
become one block of samples, a waveform. Datasets, templates, files and arrays of text are refused by name.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from fedge_models.errors import WireError
from fedge_models.system.floats import wide

from ...types import Array, Values
from .codec import Metric, Raw

INT32, INT64, DOUBLE, BOOLEAN, STRING, DATETIME = 3, 4, 10, 11, 12, 13  # types that we write
FLOAT, BYTES, BOOLEAN_ARRAY = 9, 17, 32
NAMES = (
    *("Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double"),
    *("Boolean", "String", "DateTime", "Text", "UUID", "DataSet", "Bytes", "File", "Template", "PropertySet"),
    *("PropertySetList", "Int8Array", "Int16Array", "Int32Array", "Int64Array", "UInt8Array", "UInt16Array"),
    *("UInt32Array", "UInt64Array", "FloatArray", "DoubleArray", "BooleanArray", "StringArray", "DateTimeArray"),
)


class Integer(NamedTuple):
    """An integer type: its width, and whether the highest bit is a sign."""

    bits: int
    signed: bool


INTEGERS = {
    **{1: Integer(8, True), 2: Integer(16, True), INT32: Integer(32, True), INT64: Integer(64, True)},
    **{5: Integer(8, False), 6: Integer(16, False), 7: Integer(32, False), 8: Integer(64, False)},
    DATETIME: Integer(64, False),
}
TEXTS = (STRING, 14, 15)
MAX_TEXT = 256  # characters of a state or label, as over MQTT
MAX_SAMPLES = 1 << 22  # of an array: 32 MiB at most; two million bytes can hold 16 million booleans
# Arrays are packed little-endian in bytes_value (6.4.17); dates would lose a quarter of an hour in float32.
ARRAYS = {
    **{22: "<i1", 23: "<i2", 24: "<i4", 25: "<i8", 26: "<u1", 27: "<u2", 28: "<u4", 29: "<u8", 30: "<f4", 31: "<f8"},
    BYTES: "<u1",
}


def name_of(datatype: int) -> str:
    """The type's name in the specification."""
    return NAMES[datatype] if datatype < len(NAMES) else f"data type {datatype}"


def usable(datatype: int) -> bool:
    """Whether values of this type can be read at all."""
    return datatype in INTEGERS or datatype in ARRAYS or datatype in (*TEXTS, FLOAT, DOUBLE, BOOLEAN, BOOLEAN_ARRAY)


def read(metric: Metric, datatype: int) -> float | str | Values:
    """The value of a metric that is not null. Raises WireError when it does not fit its type."""
    if not usable(datatype):
        raise WireError(f"a {name_of(datatype)}; expected a number, boolean, text or array")
    kind, value = metric.kind, metric.value
    if datatype in INTEGERS and kind in ("int_value", "long_value"):
        assert isinstance(value, int)
        whole = _integer(value, 32 if kind == "int_value" else 64, INTEGERS[datatype])
        return whole / 1000 if datatype == DATETIME else float(whole)
    if datatype in (FLOAT, DOUBLE) and kind in ("float_value", "double_value"):
        return float(value)  # type: ignore[arg-type]
    if datatype == BOOLEAN and kind == "boolean_value":
        return float(value)  # type: ignore[arg-type]
    if datatype in TEXTS and kind == "string_value":
        return _text(str(value))
    if kind == "bytes_value":
        assert isinstance(value, bytes)
        return _booleans(value) if datatype == BOOLEAN_ARRAY else _array(value, datatype)
    raise WireError(f"a {name_of(datatype)} without a value of its kind; it has {kind or 'none'}")


def write(datatype: int, value: float | str) -> tuple[str, Raw]:
    """Field and raw value of a metric of one of the types that we write."""
    if datatype == STRING:
        return "string_value", str(value)
    if datatype == BOOLEAN:
        return "boolean_value", bool(value)
    if datatype == DOUBLE:
        return "double_value", float(value)
    field, bits = ("int_value", 32) if datatype == INT32 else ("long_value", 64)
    return field, int(value) % (1 << bits)


def _integer(value: int, carried: int, kind: Integer) -> int:
    """Read a number of `kind` from a field of `carried` unsigned bits, in two's complement of either width."""
    low, high = (-(1 << kind.bits - 1), (1 << kind.bits - 1) - 1) if kind.signed else (0, (1 << kind.bits) - 1)
    if kind.signed and value < 1 << kind.bits:
        value -= (value >> kind.bits - 1) << kind.bits  # sign-extended to the type's own width
    elif kind.signed and value >> carried - 1:
        value -= 1 << carried  # sign-extended to the field's width
    if not low <= value <= high:
        raise WireError(f"{value} in a metric of {kind.bits} bits; expected {low} to {high}")
    return value


def _text(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise WireError(f"text of {len(text)} characters; expected at most {MAX_TEXT}")
    return text


def _check_samples(count: int) -> None:
    if count > MAX_SAMPLES:
        raise WireError(f"an array of {count} samples; expected at most {MAX_SAMPLES}")


def _array(data: bytes, datatype: int) -> Values:
    if datatype not in ARRAYS:
        raise WireError(f"a {name_of(datatype)} in bytes_value")
    item = np.dtype(ARRAYS[datatype])
    if len(data) % item.itemsize:
        raise WireError(f"a {name_of(datatype)} of {len(data)} bytes; expected a multiple of {item.itemsize}")
    _check_samples(len(data) // item.itemsize)
    return wide(np.frombuffer(data, item))


def _booleans(data: bytes) -> Array:
    """Read booleans: four bytes that count them, then eight per byte, the first in the highest bit (6.4.17)."""
    count = int.from_bytes(data[:4], "little")
    if len(data) < 4 or len(data) - 4 != (count + 7) // 8:
        raise WireError(f"a BooleanArray of {count} in {len(data)} bytes; expected {4 + (count + 7) // 8}")
    _check_samples(count)
    return np.unpackbits(np.frombuffer(data, np.uint8, offset=4), count=count).astype(np.float32)
