# SPDX-License-Identifier: Apache-2.0
"""Sparkplug topics (3.0, chapter 4): spBv1.0/group/type/node[/device], and spBv1.0/STATE/host with its JSON. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from fedge_models.errors import ConfigError, WireError
from fedge_models.system.structs import known

NAMESPACE = "spBv1.0"
NODE_KINDS = ("NBIRTH", "NDATA", "NDEATH", "NCMD")
DEVICE_KINDS = ("DBIRTH", "DDATA", "DDEATH", "DCMD")
REBIRTH = "Node Control/Rebirth"
BDSEQ = "bdSeq"


class NodeId(NamedTuple):
    """An edge node, unique at a broker."""

    group: str
    node: str

    def __str__(self) -> str:
        return f"{self.group}/{self.node}"


class Topic(NamedTuple):
    """Topic of a message from or to an edge node. `device`: "" for the node's own metrics."""

    kind: str
    node: NodeId
    device: str = ""

    def __str__(self) -> str:
        tail = f"/{self.device}" if self.device else ""
        return f"{NAMESPACE}/{self.node.group}/{self.kind}/{self.node.node}{tail}"


class Tag(NamedTuple):
    """A configured tag, parsed. `device`: "" for a metric of the node itself."""

    node: NodeId
    device: str
    metric: str


@known
class State(msgspec.Struct, frozen=True):
    """A host application's birth or death (4.3): JSON, retained, QoS 1."""

    online: bool
    timestamp: int  # ms; the same in the Will and in the birth of one connection


def parse(topic: str) -> Topic:
    """Parse a topic. Raises WireError for a topic that the specification does not have."""
    parts = topic.split("/")
    if len(parts) >= 4 and parts[0] == NAMESPACE and all(parts):
        node = NodeId(parts[1], parts[3])
        if len(parts) == 4 and parts[2] in NODE_KINDS:
            return Topic(parts[2], node)
        if len(parts) == 5 and parts[2] in DEVICE_KINDS:
            return Topic(parts[2], node, parts[4])
    raise WireError(f"topic {topic[:200]!r}; expected {NAMESPACE}/group/NBIRTH/node, …/DDATA/node/device and the like")


def tag(text: str) -> Tag:
    """Parse "group/node/device/metric", whose metric may hold more "/"; "group/node//metric" is one of the node itself.

    Raises ConfigError.
    """
    parts = text.split("/", 3)
    if len(parts) == 4 and all((is_id(parts[0]), is_id(parts[1]), not parts[2] or is_id(parts[2]), parts[3])):
        return Tag(NodeId(parts[0], parts[1]), parts[2], parts[3])
    raise ConfigError(
        f"tag {text!r} is no Sparkplug metric; expected group/node/device/metric, or group/node//metric for one of the "
        "node itself"
    )


def is_id(text: str) -> bool:
    """Whether text can name a group, node, device or host (4.1): not empty, without +, # and /."""
    return bool(text) and not set(text) & set("+#/\0")


def state_topic(host: str) -> str:
    """Topic at which a host application publishes whether it is online."""
    return f"{NAMESPACE}/STATE/{host}"


def read_state(data: bytes) -> State:
    """Parse a STATE payload. Raises WireError."""
    try:
        return msgspec.json.decode(data[:1000], type=State)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise WireError(f"a STATE that is not {{online, timestamp}}: {e}") from e


def write_state(online: bool, timestamp: int) -> bytes:
    """Write a STATE payload. `timestamp`: when the connection began, Unix time, ms."""
    return msgspec.json.encode(State(online, timestamp))
