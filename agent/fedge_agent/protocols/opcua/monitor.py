# SPDX-License-Identifier: Apache-2.0
"""Monitored items over as many subscriptions as they need, because servers limit the items of one.

Each subscription has the server's clock as an item of its own, so it is never silent while it works. A handle is the
index of an item over all subscriptions. Leaves to the caller what a notification means.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .calls import Limits, in_parts

HEARTBEAT = 2258  # Server_ServerStatus_CurrentTime, Part 5 table 123: changes on every server
HEARTBEAT_HANDLE = 0
MIN_QUEUE = 64
LIFE_S = 60.0  # how long the server keeps a subscription after our last request
NO_ROOM = ("BadTooManyMonitoredItems", "BadTooManySubscriptions")
GONE = ("BadNodeIdUnknown", "BadNodeIdInvalid")


class Sampling(NamedTuple):
    """What is asked of the server; seconds."""

    publishing: float
    sampling: float
    queue_size: int  # 0: enough
    deadband: tuple[int, float]  # DeadbandType (Part 4, 7.22.2) and size
    max_age: float  # a subscription answers three times in this time


class Granted(NamedTuple):
    """What the server made of the request for an item."""

    status: str = ""  # "": it made the item, else the name of its status
    queue: int = 0
    sampling: float = 0.0
    coarse: bool = False  # without the deadband


class Subscription:
    """One subscription of the server."""

    def __init__(self, number: int, publishing: float, keep_alive: float) -> None:
        self.id, self.publishing, self.keep_alive = number, publishing, keep_alive
        self.heard = time.monotonic()
        self.handles: set[int] = set()
        self.full = False


class Monitor:
    """The items of one connection. `published`: called with each publish result."""

    def __init__(self, client: Any, limit: Limits, asked: Sampling, published: Callable[[Any], None]) -> None:
        self._client, self._limit, self._asked, self._published = client, limit, asked, published
        self.nodes: list[Any] = [None]  # by handle; that of the heartbeat is the same in all subscriptions
        self.subscriptions: dict[int, Subscription] = {}
        self._ids: dict[int, int] = {}  # handle -> the server's id of the item

    async def begin(self) -> None:
        """Create the first subscription, so that the server is heard even without an item."""
        await self._subscribe()

    async def add(self, nodes: Sequence[Any]) -> dict[int, Granted]:
        """Create items; the outcome of each by its handle, in the order of the nodes."""
        first = len(self.nodes)
        self.nodes += nodes
        waiting: Sequence[int] = range(first, len(self.nodes))
        outcome = dict.fromkeys(waiting, Granted(NO_ROOM[0]))
        for subscription in self.subscriptions.values():
            subscription.full = subscription.full and bool(subscription.handles)  # there may be room by now
        while waiting:
            target = next((s for s in self.subscriptions.values() if not s.full), None)
            if target is None and (target := await self._another()) is None:
                break
            outcome |= await self._create(target, waiting)
            waiting = [handle for handle in waiting if outcome[handle].status in NO_ROOM]
            target.full = bool(waiting)
            if not target.handles:
                break  # not even an empty subscription takes one
        return outcome

    async def remove(self, handles: Sequence[int]) -> None:
        """Delete items whose nodes are gone: some servers keep them, and they count as items of the subscription."""
        for subscription in self.subscriptions.values():
            await self._delete(subscription, [handle for handle in handles if handle in subscription.handles])

    def silent_since(self) -> float:
        """When the subscription was last heard that has been silent longest (monotonic)."""
        return min(subscription.heard for subscription in self.subscriptions.values())

    def patience(self) -> float:
        """How long a subscription that works may be silent, s: servers choose the interval of keep-alives."""
        slowest = max(subscription.keep_alive for subscription in self.subscriptions.values())
        return max(self._asked.max_age, 2 * slowest)

    async def _another(self) -> Subscription | None:
        """One more subscription; None if the server allows no more, or the last one has no item."""
        from asyncua import ua

        if any(not s.handles for s in self.subscriptions.values()):
            return None
        try:
            return await self._subscribe()
        except ua.UaStatusCodeError as e:
            if type(e).__name__ not in NO_ROOM:
                raise
            return None

    async def _subscribe(self) -> Subscription:
        from asyncua import ua

        interval = max(self._asked.publishing, 0.001)
        asked = ua.CreateSubscriptionParameters()
        asked.RequestedPublishingInterval = interval * 1000
        asked.RequestedMaxKeepAliveCount = max(1, math.floor(self._asked.max_age / 3 / interval))
        asked.RequestedLifetimeCount = max(3 * asked.RequestedMaxKeepAliveCount, math.ceil(LIFE_S / interval))
        asked.MaxNotificationsPerPublish, asked.PublishingEnabled = 10_000, True
        made = await self._client.uaclient.create_subscription(asked, self._published)
        publishing = made.RevisedPublishingInterval / 1000
        subscription = Subscription(made.SubscriptionId, publishing, publishing * made.RevisedMaxKeepAliveCount)
        self.subscriptions[subscription.id] = subscription
        await self._request(subscription, [HEARTBEAT_HANDLE], deadband=False)
        return subscription

    async def _create(self, target: Subscription, handles: Sequence[int]) -> dict[int, Granted]:
        """Items of one subscription; without the deadband where the server refuses it for a node."""
        deadband = bool(self._asked.deadband[0])
        outcome = await self._request(target, handles, deadband)
        refused = [h for h in handles if deadband and re.search("Filter|Deadband", outcome[h].status)]
        if refused:  # text, booleans, nodes without EURange: every change is sent instead
            plain = await self._request(target, refused, deadband=False)
            outcome |= {handle: granted._replace(coarse=True) for handle, granted in plain.items()}
        target.handles.update(handle for handle in handles if not outcome[handle].status)
        return outcome

    async def _request(self, target: Subscription, handles: Sequence[int], deadband: bool) -> dict[int, Granted]:
        from asyncua import ua

        async def create(part: Sequence[int]) -> Any:
            asked = ua.CreateMonitoredItemsParameters()
            asked.SubscriptionId, asked.TimestampsToReturn = target.id, ua.TimestampsToReturn.Both
            asked.ItemsToCreate = [self._item(target, handle, deadband) for handle in part]
            try:
                return await self._client.uaclient.create_monitored_items(asked)
            except ua.UaStatusCodeError as e:
                if type(e).__name__ not in NO_ROOM:
                    raise
                return [None] * len(part)  # some servers refuse the call instead of each item

        outcome = {}
        for handle, result in zip(handles, await in_parts(handles, self._limit.items, create), strict=True):
            if result is not None and result.StatusCode.is_good():
                self._ids[handle] = result.MonitoredItemId
                outcome[handle] = Granted("", result.RevisedQueueSize, result.RevisedSamplingInterval / 1000)
            else:
                outcome[handle] = Granted(NO_ROOM[0] if result is None else result.StatusCode.name)
        return outcome

    def _item(self, target: Subscription, handle: int, deadband: bool) -> Any:
        from asyncua import ua

        node = ua.NodeId(HEARTBEAT) if handle == HEARTBEAT_HANDLE else self.nodes[handle]
        asked = ua.MonitoredItemCreateRequest()
        asked.ItemToMonitor.NodeId, asked.ItemToMonitor.AttributeId = node, ua.AttributeIds.Value
        asked.MonitoringMode = ua.MonitoringMode.Reporting
        wanted, sampling = asked.RequestedParameters, self._asked.sampling
        wanted.ClientHandle, wanted.SamplingInterval, wanted.DiscardOldest = handle, sampling * 1000, True
        per_publishing = math.ceil(target.publishing / max(sampling, 0.005))
        enough = self._asked.queue_size or max(MIN_QUEUE, 2 * per_publishing)
        wanted.QueueSize = 1 if handle == HEARTBEAT_HANDLE else enough
        if deadband:
            kind, size = self._asked.deadband
            wanted.Filter = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, kind, size)
        return asked

    async def _delete(self, subscription: Subscription, handles: Sequence[int]) -> None:
        from asyncua import ua

        async def delete(part: Sequence[int]) -> Any:
            asked = ua.DeleteMonitoredItemsParameters()
            asked.SubscriptionId, asked.MonitoredItemIds = subscription.id, [self._ids[handle] for handle in part]
            return await self._client.uaclient.delete_monitored_items(asked)

        if handles:
            await in_parts(handles, self._limit.items, delete)  # a server that has deleted them says so: no matter
            subscription.handles.difference_update(handles)
            subscription.full = False
