# SPDX-License-Identifier: Apache-2.0
"""The stored form of an event: MessagePack, which holds an infinite threshold. Reads the JSON of older versions too."""

from __future__ import annotations

import math

import msgspec
from fedge_models.system.structs import known

from ..types import Decision, Event

_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Event)


@known
class _FlatEvent(msgspec.Struct):
    """An event as versions up to 0.1 stored it: JSON without its decision, whose infinite numbers are null."""

    key: str
    state: str
    asset: str
    model: str
    release: int
    time_ns: int
    score: float
    threshold: float | None
    label: str
    channel: str = ""
    values: dict[str, float | None] = {}
    hours_left: float | None = None
    hours_left_at_least: float | None = None
    context: dict[str, str] = {}
    severity: str = "low"
    since_ns: int = 0


def encode(event: Event) -> bytes:
    """The bytes to store."""
    return _ENCODER.encode(event)


def decode(data: bytes) -> Event:
    """The event in stored bytes. Raises msgspec.DecodeError for anything else."""
    if data[:1] == b"{":  # JSON; a MessagePack table begins with a byte above 0x7f
        return _whole(msgspec.json.decode(data, type=_FlatEvent))
    return _DECODER.decode(data)


def _whole(flat: _FlatEvent) -> Event:
    """The event with as much of its decision as was stored: not its own score, its latency and what was missing."""
    decision = Decision(
        asset=flat.asset,
        model=flat.model,
        release=flat.release,
        time_ns=flat.time_ns,
        score=flat.score,
        threshold=math.inf if flat.threshold is None else flat.threshold,
        label=flat.label,
        missing=0.0,
        latency_s=0.0,
        channel=flat.channel,
        values={target: math.nan if v is None else v for target, v in flat.values.items()},
        hours_left=flat.hours_left,
        hours_left_at_least=flat.hours_left_at_least,
        context=flat.context,
    )
    return Event(flat.key, flat.state, decision, flat.score, flat.severity, flat.since_ns)
