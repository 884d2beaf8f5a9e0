# SPDX-License-Identifier: Apache-2.0
"""The messages of our own edge node (Sparkplug 3.0, chapters 5 and 6): births, data by exception, death. Pure.

One machine is one device. A metric gets its alias when it is first sent, and never another. Values that changed since
they were last sent become data; a device or metric that no birth named yet gets a new birth instead. Every message but
NDEATH carries the next seq. Messages are for QoS 0, never retained; the Will is NDEATH at QoS 1 with this connection's
bdSeq (tck-id-payloads-ndeath-will-message-qos).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fedge_models.errors import WireError

from . import topics
from .codec import Metric, decode, encode, read_metric
from .topics import NodeId, Topic
from .values import BOOLEAN, INT64, write

MODULUS = 256  # of seq and of bdSeq


class Value(NamedTuple):
    """A metric's value, of a type that `values.write` knows; None is null."""

    datatype: int
    value: float | str | None


Message = tuple[str, bytes]  # topic, payload


class EdgeNode:
    """An edge node over all its connections."""

    def __init__(self, node: NodeId, bdseq: int, properties: Mapping[str, Value]) -> None:
        """`bdseq`: of the last connection, stored by the caller; -1 before the first."""
        self.id, self.bdseq = node, bdseq
        self._properties = dict(properties)  # of the node itself
        self._values: dict[str, dict[str, Value]] = {}  # device -> metric -> as last sent
        self._stamps: dict[str, int] = {}  # device -> time of its values, ms
        self._aliases: dict[tuple[str, str], int] = {}
        self._seq = 0

    def connecting(self, now_ms: int) -> Message:
        """Count one more connection; returns its Will. The caller stores `bdseq` before it connects."""
        self.bdseq = (self.bdseq + 1) % MODULUS
        return self.death(now_ms)

    def death(self, now_ms: int) -> Message:
        """NDEATH: the Will, and what is published before disconnecting on purpose. It has no seq."""
        return str(Topic("NDEATH", self.id)), encode(now_ms, None, [self._bdseq_metric(now_ms)])

    def births(self, now_ms: int) -> list[Message]:
        """NBIRTH and a DBIRTH for each device, after connecting and when a rebirth is asked for."""
        self._seq = 0
        kind, no = write(BOOLEAN, False)
        control = Metric(topics.REBIRTH, None, now_ms, BOOLEAN, no, kind)  # without an alias: whoever asks has none yet
        own = [self._metric("", name, value, now_ms, born=True) for name, value in self._properties.items()]
        born = [self._message("NBIRTH", "", [self._bdseq_metric(now_ms), control, *own], now_ms)]
        return born + [self._birth(device, now_ms) for device in self._values]

    def update(self, device: str, values: Mapping[str, Value], stamp_ms: int, now_ms: int) -> list[Message]:
        """Messages to send now that a device has these values, as of `stamp_ms`; [] when nothing changed."""
        known = self._values.get(device, {})
        changed = {name: value for name, value in values.items() if known.get(name) != value}
        if not changed:
            return []
        merged = {**known, **values}
        self._values[device], self._stamps[device] = merged, stamp_ms
        if any(name not in known or known[name].datatype != value.datatype for name, value in changed.items()):
            return [self._birth(device, now_ms)]
        metrics = [self._metric(device, name, value, stamp_ms, born=False) for name, value in changed.items()]
        return [self._message("DDATA", device, metrics, now_ms)]

    def known(self, device: str) -> Mapping[str, Value]:
        """The metrics of a device as last sent."""
        return self._values.get(device, {})

    def rebirth_requested(self, topic: str, data: bytes) -> bool:
        """Whether a command requests births. Raises WireError for anything but a command to this node."""
        parsed = topics.parse(topic)
        if parsed.node != self.id or parsed.kind not in ("NCMD", "DCMD"):
            raise WireError(f"topic {topic[:200]!r}; expected a command to {self.id}")
        metrics = map(read_metric, decode(data).metrics)
        return parsed.kind == "NCMD" and any(m.name == topics.REBIRTH and m.value is True for m in metrics)

    def _birth(self, device: str, now_ms: int) -> Message:
        stamp = self._stamps[device]
        metrics = [self._metric(device, name, value, stamp, born=True) for name, value in self._values[device].items()]
        return self._message("DBIRTH", device, metrics, now_ms)

    def _message(self, kind: str, device: str, metrics: list[Metric], now_ms: int) -> Message:
        seq, self._seq = self._seq, (self._seq + 1) % MODULUS
        return str(Topic(kind, self.id, device)), encode(now_ms, seq, metrics)

    def _metric(self, device: str, name: str, value: Value, stamp_ms: int, born: bool) -> Metric:
        """A metric with its name in a birth, with its alias alone in data
        (tck-id-payloads-alias-data-cmd-requirement)."""
        field, raw = ("", None) if value.value is None else write(value.datatype, value.value)
        alias = self._alias(device, name)
        return Metric(name if born else "", alias, stamp_ms, value.datatype, raw, field, value.value is None)

    def _alias(self, device: str, name: str) -> int:
        return self._aliases.setdefault((device, name), len(self._aliases) + 1)

    def _bdseq_metric(self, now_ms: int) -> Metric:
        """bdSeq without an alias: it is in NDEATH too, which is no birth."""
        field, value = write(INT64, self.bdseq)
        return Metric(topics.BDSEQ, None, now_ms, INT64, value, field)
