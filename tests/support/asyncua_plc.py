# SPDX-License-Identifier: Apache-2.0
"""A PLC for tests: asyncua's server in a thread. A test writes its values, and can make it hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from support.waiting import LONGEST_S


class Plc:
    """An OPC UA server in a thread of its own."""

    def __init__(self, port: int = 0, spaces: Sequence[str] = ("urn:test",)) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.nodes: dict[str, Any] = {}
        self.port = self.call(self._start(port, spaces))

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LONGEST_S)

    async def _start(self, port: int, spaces: Sequence[str]) -> int:
        from asyncua import Server, ua

        self.ua, self.server = ua, Server()
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
        self.server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for space in spaces:
            await self.server.register_namespace(space)
        await self.server.start()
        return int(self.server.bserver._server.sockets[0].getsockname()[1])

    def add(self, name: str, value: Any = 0.0, space: int = 2) -> None:
        async def work() -> Any:
            node_id = self.ua.NodeId(name, space)
            return await self.server.nodes.objects.add_variable(node_id, name, value)

        self.nodes[name] = self.call(work())

    def write(
        self, name: str, value: Any, code: int = 0, stamp: datetime | None = None, server: datetime | None = None
    ) -> None:
        """`stamp`: the source's time, UTC; None: now. `server`: the server's time; None: it gives none."""
        when = stamp or datetime.now(timezone.utc)
        status = self.ua.StatusCode(code)
        data = self.ua.DataValue(self.ua.Variant(value), status, SourceTimestamp=when, ServerTimestamp=server)
        self.call(self.server.write_attribute_value(self.nodes[name].nodeid, data))

    def block(self, until: threading.Event) -> None:
        """Neither answer nor close anything until the event is set, as a PLC that hangs."""
        self.loop.call_soon_threadsafe(until.wait, LONGEST_S)

    def mute(self) -> None:
        """Publish nothing more to the subscriptions that exist; still answer requests."""

        async def work() -> None:
            for subscription in self._subscriptions():
                await subscription.stop()

        self.call(work())

    def stop_sampling(self) -> None:
        """Look at the values of monitored items no more; publish keep-alives and the server's time, answer reads."""

        async def work() -> None:
            for subscription in self._subscriptions():
                for item in subscription.monitored_item_srv._monitored_items.values():
                    if item.read_value_id.NodeId.NamespaceIndex:
                        self.server.iserver.aspace.delete_datachange_callback(item.callback_handle)

        self.call(work())

    @contextmanager
    def limited_items(self, most: int, a_call: int = 1 << 30) -> Iterator[None]:
        """Allow so many items in a subscription, and refuse calls for more than `a_call` items as a whole."""
        service, ua = self.server.iserver.subscription_service, self.ua
        create = service.create_monitored_items

        async def limited(asked: Any) -> Any:
            if len(asked.ItemsToCreate) > a_call:
                raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
            held = len(service.subscriptions[asked.SubscriptionId].monitored_item_srv._monitored_items)
            wanted, asked.ItemsToCreate = asked.ItemsToCreate, asked.ItemsToCreate[: max(0, most - held)]
            full = ua.MonitoredItemCreateResult(StatusCode=ua.StatusCode(ua.StatusCodes.BadTooManyMonitoredItems))
            return [*(await create(asked)), *[full] * (len(wanted) - len(asked.ItemsToCreate))]

        service.create_monitored_items = limited
        try:
            yield
        finally:
            service.create_monitored_items = create

    def items(self) -> list[int]:
        """How many items each subscription has, the heartbeat among them."""
        return [len(s.monitored_item_srv._monitored_items) for s in self._subscriptions()]

    def _subscriptions(self) -> list[Any]:
        return list(self.server.iserver.subscription_service.subscriptions.values())

    def stop(self) -> None:
        async def work() -> None:
            await self.server.stop()
            left = asyncio.all_tasks() - {asyncio.current_task()}  # of sessions whose client is gone
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        self.call(work())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LONGEST_S)
        self.loop.close()
