# SPDX-License-Identifier: Apache-2.0
"""Calls for many nodes within the server's limits per call (Part 5, 6.3.11).

A limit that the server does not announce is found by halving a call that is too large for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

CHUNK = 500  # if the server has no limit
TOO_LARGE = ("BadTooManyOperations", "BadRequestTooLarge", "BadResponseTooLarge", "BadEncodingLimitsExceeded")

T = TypeVar("T")
R = TypeVar("R")


class Limits(NamedTuple):
    """Items per call: the server's OperationLimits, at most `CHUNK`."""

    items: int = CHUNK  # MaxMonitoredItemsPerCall, to create and to delete
    read: int = CHUNK
    write: int = CHUNK
    browse: int = CHUNK
    translate: int = CHUNK


async def limits(client: Any) -> Limits:
    """Read the server's limits; each is optional."""
    from asyncua import ua

    base = "Server_ServerCapabilities_OperationLimits_"
    names = (
        "MaxMonitoredItemsPerCall", "MaxNodesPerRead", "MaxNodesPerWrite", "MaxNodesPerBrowse",
        "MaxNodesPerTranslateBrowsePathsToNodeIds",
    )  # fmt: skip
    found = []
    for name in names:
        value = 0
        with contextlib.suppress(ua.UaError, TypeError, ValueError):
            value = int(await client.get_node(ua.NodeId(getattr(ua.ObjectIds, base + name))).read_value())
        found.append(min(value, CHUNK) if value > 0 else CHUNK)
    return Limits(*found)


async def in_parts(all_: Sequence[T], size: int, call: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> list[R]:
    """The results of `call` for all, in parts of at most `size`, smaller where the server finds them too large."""
    from asyncua import ua

    results: list[R] = []
    while len(results) < len(all_):
        part = all_[len(results) : len(results) + size]
        try:
            got = await call(part)
        except ua.UaStatusCodeError as e:
            if type(e).__name__ not in TOO_LARGE or len(part) == 1:
                raise
            size = len(part) // 2
            continue
        if len(got) != len(part):
            raise ValueError(f"the server answered {len(got)} of {len(part)}")
        results += got
    return results


async def read(client: Any, limit: Limits, nodes: Sequence[Any], max_age_s: float = 0.0) -> list[Any]:
    """Read the DataValue of each node. max_age_s: a value that the server read so long ago is good enough."""
    from asyncua import ua

    async def one(part: Sequence[Any]) -> Sequence[Any]:
        asked = ua.ReadParameters()
        asked.MaxAge, asked.TimestampsToReturn = max_age_s * 1000, ua.TimestampsToReturn.Both
        for node in part:
            wanted = ua.ReadValueId()
            wanted.NodeId, wanted.AttributeId = node, ua.AttributeIds.Value
            asked.NodesToRead.append(wanted)
        values: Sequence[Any] = await client.uaclient.read(asked)
        return values

    return await in_parts(nodes, limit.read, one)


async def load_types(client: Any, limit: Limits) -> None:
    """Load the definitions of the server's structures, so that their values arrive decoded.

    asyncua reads all definitions in one call, whatever the server's limit, and caches them for the whole process.
    """
    whole = client.read_attributes

    async def within(nodes: Iterable[Any], attr: Any) -> list[Any]:
        return await in_parts(list(nodes), limit.read, lambda part: whole(part, attr))

    client.read_attributes = within
    await client.load_data_type_definitions()
