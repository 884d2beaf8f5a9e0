# SPDX-License-Identifier: Apache-2.0
"""Read the values of a topic's tags from a message. Pure; the clock is passed in.

Promises: any bytes give readings and complaints, never an exception. A value that cannot be used (null, not finite, of
the wrong type or length) makes its tag bad until the next one; an absent value changes nothing. A message whose time
stamp cannot be used is not used at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from fedge_models.errors import ConfigError, PictureError
from fedge_models.system import times
from fedge_models.system.floats import lean, wide
from fedge_models.system.quoting import quote
from fedge_models.system.structs import known
from numpy.typing import NDArray

from ..protocols.mqtt.broker import Broker
from ..types import Pixels, Quality, Reading
from ..windows.pictures import RawFormat, check_decoder, check_raw, decode, decode_raw

MAX_TEXT = 256  # characters of a label or state


class Complaint(NamedTuple):
    """One fault of a message."""

    subject: str  # the tag, or the topic
    kind: str  # the name of its counter
    text: str


@known
class Payload(Broker, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The keys for reading payloads, and those of the broker (a struct has one base)."""

    # tags without a JSON pointer: a number or text, a block of samples, or a picture
    payload: Literal["text", "array", "image"] = "text"
    raw: RawFormat | None = None  # image: pixels without a header; without: PNG or JPEG
    dtype: Literal["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"] = "float32"
    endianness: Literal["little", "big"] = "little"
    array_length: Annotated[int, msgspec.Meta(ge=0)] = 0  # samples of each channel that a block must have; 0: any
    array_channels: Annotated[int, msgspec.Meta(ge=1)] = 1  # interleaved in a block; `index` of a channel picks one
    time: str = ""  # JSON pointer to the time stamp; empty: the time of arrival
    time_unit: times.Unit | None = None  # of numbers, since 1970; default: told by their size; text is ISO 8601
    max_bytes: Annotated[int, msgspec.Meta(ge=1)] = 1024 * 1024  # a longer payload is refused


class Place(NamedTuple):
    """Where the value of a tag is."""

    tag: str
    pointer: tuple[str, ...] | None  # None: the whole payload


def parse_tag(tag: str) -> tuple[str, Place]:
    """(topic, place) of "topic" or "topic#/json/pointer" (RFC 6901). Raises ConfigError."""
    topic, separator, pointer = tag.partition("#")
    if not topic or "\0" in topic or len(topic.encode()) > 65535:
        raise ConfigError(f"tag {tag!r}: expected a topic, or topic#/json/pointer")
    if "+" in topic.split("/"):
        raise ConfigError(f"tag {tag!r}: a tag names its own topic, without '+'; wildcards go into `subscriptions`")
    return topic, Place(tag, parse_pointer(pointer, f"tag {tag!r}") if separator else None)


def parse_pointer(text: str, where: str) -> tuple[str, ...]:
    """The reference tokens of a JSON pointer (RFC 6901, 3). Raises ConfigError."""
    if (text and not text.startswith("/")) or re.search(r"~(?![01])", text):
        raise ConfigError(f"{where}: {text!r} is no JSON pointer; expected e.g. /motor/current or /axes/0")
    return tuple(t.replace("~1", "/").replace("~0", "~") for t in text.split("/")[1:])


_ABSENT = object()


class Reader:
    """Reads messages for the tags of one source."""

    def __init__(self, tags: Sequence[str], config: Payload, copies: int = 0) -> None:
        """copies: how often the pixels of a picture are copied afterwards."""
        self._config, self._copies = config, copies
        if config.raw is not None:
            check_raw(config.raw)
        elif config.payload == "image":
            check_decoder()
        self._time = parse_pointer(config.time, "time") if config.time else None
        self._dtype = np.dtype(config.dtype).newbyteorder("<" if config.endianness == "little" else ">")
        self._topics: dict[str, list[Place]] = {}
        for topic, place in map(parse_tag, tags):
            self._topics.setdefault(topic, []).append(place)
        self._json = msgspec.json.Decoder()

    @property
    def topics(self) -> Mapping[str, Sequence[Place]]:
        """Topic -> its tags."""
        return self._topics

    def read(self, topic: str, payload: bytes, now_ns: int) -> tuple[list[Reading], list[Complaint]]:
        """The readings of a message that arrived at `now_ns`, and its faults."""
        places = self._topics.get(topic)
        if places is None:
            return [], [Complaint("", "other_topics", f"{topic!r} is no topic of a tag")]
        if len(payload) > self._config.max_bytes:
            text = f"a payload of {len(payload)} bytes; expected at most {self._config.max_bytes} (max_bytes)"
            return [], [Complaint(topic, "too_large", text)]
        try:
            document = self._document(places, payload)
            time_ns = now_ns if self._time is None else self._stamp(document)
        except ValueError as e:
            return [], [Complaint(topic, "malformed", str(e))]
        readings: list[Reading] = []
        complaints: list[Complaint] = []
        for place in places:
            self._value(place, document, payload, time_ns, readings, complaints)
        return readings, complaints

    def _document(self, places: Sequence[Place], payload: bytes) -> Any:
        """The payload as JSON if a tag or the time stamp needs it, else None. Raises ValueError."""
        if self._time is None and all(p.pointer is None for p in places):
            return None
        try:
            return self._json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise ValueError(f"expected JSON, got {quote(payload)}: {e or type(e).__name__}") from e

    def _stamp(self, document: Any) -> int:
        """Source time, ns. Raises ValueError."""
        assert self._time is not None
        value = _at(document, self._time)
        if value is _ABSENT:
            raise ValueError(f"no time stamp at {self._config.time}")
        try:
            return times.parse(value, self._config.time_unit)
        except times.OutOfRangeError as e:
            if self._config.time_unit is None:
                raise
            raise ValueError(f"{e}; is time_unit {self._config.time_unit!r} right?") from e

    def _value(
        self,
        place: Place,
        document: Any,
        payload: bytes,
        time_ns: int,
        readings: list[Reading],
        complaints: list[Complaint],
    ) -> None:
        value: Any = _ABSENT
        try:
            if place.pointer is not None:
                value = _at(document, place.pointer)
                if value is _ABSENT:
                    complaints.append(Complaint(place.tag, "absent", "the payload has no such value"))
                    return
                readings.append(Reading(place.tag, time_ns, _number(value)))
            elif self._config.payload == "array":
                readings.append(Reading(place.tag, time_ns, self._block(payload)))
            elif self._config.payload == "image":
                readings.append(Reading(place.tag, time_ns, self._picture(payload)))
            else:
                readings.append(Reading(place.tag, time_ns, _plain(payload)))
        except (ValueError, PictureError) as e:
            complaints.append(Complaint(place.tag, "unusable", str(e)))
            readings.append(Reading(place.tag, time_ns, math.nan, Quality.BAD))

    def _picture(self, payload: bytes) -> Pixels:
        """Raises PictureError."""
        raw = self._config.raw
        return decode(payload, copies=self._copies) if raw is None else decode_raw(payload, raw)

    def _block(self, payload: bytes) -> NDArray[Any]:
        """(samples,) of floats, or (channels, samples). Raises ValueError."""
        config = self._config
        frame = self._dtype.itemsize * config.array_channels
        length, rest = divmod(len(payload), frame)
        if rest or not length or (config.array_length and length != config.array_length):
            wanted = f"{config.array_length} times" if config.array_length else "a multiple of"
            raise ValueError(
                f"{len(payload)} bytes; expected {wanted} {frame} ({config.array_channels} {config.dtype})"
            )
        block = wide(np.frombuffer(payload, self._dtype))
        return block if config.array_channels == 1 else np.ascontiguousarray(block.reshape(length, -1).T)


def _at(document: Any, pointer: Sequence[str]) -> Any:
    """The value at a JSON pointer, or _ABSENT."""
    for token in pointer:
        if isinstance(document, dict):
            document = document.get(token, _ABSENT)
        elif isinstance(document, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", token) and int(token) < len(document):
            document = document[int(token)]
        else:
            return _ABSENT
    return document


def _number(value: Any) -> float | str | NDArray[Any]:
    """A JSON value as a reading's. Raises ValueError."""
    if isinstance(value, (bool, int, float)):
        return _finite(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list) and (flat := _flat(value)) and all(type(v) in (int, float) for v in flat):
        try:
            return lean(np.array(value, np.float64))
        except (ValueError, OverflowError) as e:
            raise ValueError(f"expected an array of numbers with equal rows, got {quote(value)}") from e
    raise ValueError(f"expected a number, text or an array of numbers, got {quote(value)}")


def _flat(value: list[Any]) -> list[Any]:
    """The items of a list, or of a list of lists."""
    return [v for row in value for v in row] if all(isinstance(row, list) for row in value) else value


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {quote(value)}")
    return number


def _text(value: str) -> str:
    if len(value) > MAX_TEXT:
        raise ValueError(f"text of {len(value)} characters; expected at most {MAX_TEXT}")
    return value


def _plain(payload: bytes) -> float | str:
    """A number or text. Raises ValueError."""
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError as e:
        raise ValueError(f"expected a number or text in UTF-8, got {quote(payload)}") from e
    if not text:
        raise ValueError("expected a number or text, got an empty payload")
    number = times.number(text)
    return _text(text) if number is None else _finite(number)
