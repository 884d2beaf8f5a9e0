# SPDX-License-Identifier: Apache-2.0
"""A PLC: an OPC UA server that replays one track.

Tags are ``ns=2;s=<channel>`` and ``label``, which is bad during the test part: what is judged is not
taught. Source time stamps are the scheduled times, so that jitter of the replay itself never enters the data; a
waveform block is stamped with its last sample's time. The replay begins at once, or when a file appears, so that
gateways can connect first. The server stays up after the end of the replay.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fedge_models.system import files

from ..data.recordings import Track

NAMESPACE = "urn:fedge:plc"


async def serve(
    track: Track,
    begun: Callable[[int], None],
    go: Path | None = None,
    port: int = 0,
    label: str = "label",
    started: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    begun: called with the port once clients may connect; go: the replay starts when this file exists (None: at once);
    label: tag of the label; started: file that gets the Unix time at which the replay began.
    """
    from asyncua import Server, ua

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    space = await server.register_namespace(NAMESPACE)
    machine = await server.nodes.objects.add_object(space, "Machine")
    nodes: dict[str, Any] = {}
    first = [0.0] if track.kind == "waveform" else 0.0
    for name, _ in track.channels:
        nodes[name] = await machine.add_variable(ua.NodeId(name, space), name, first, ua.VariantType.Float)
    taught = await machine.add_variable(ua.NodeId(label, space), label, 0, ua.VariantType.Int32)
    for node in (*nodes.values(), taught):  # until the machine runs there is nothing to read
        await server.write_attribute_value(
            node.nodeid, ua.DataValue(ua.Variant(), ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData))
        )
    async with server:
        bound = server.bserver._server.sockets[0].getsockname()[1]
        begun(bound)
        replay = asyncio.create_task(_replay(server, track, nodes, taught, go, started))
        await stop.wait()
        replay.cancel()


async def _replay(
    server: Any, track: Track, nodes: dict[str, Any], taught: Any, go: Path | None, started: Path | None
) -> None:
    from asyncua import ua

    while go is not None and not go.exists():
        await asyncio.sleep(0.02)
    begin, wall = time.monotonic(), time.time()
    if started is not None:
        files.write(started, repr(wall).encode())
    for step in track.steps():
        await asyncio.sleep(max(0.0, begin + step.due_s - time.monotonic()))
        stamp = datetime.fromtimestamp(wall + step.due_s, timezone.utc)
        for name, value in step.values.items():
            await _write(server, ua, nodes[name], ua.Variant(value, ua.VariantType.Float), stamp)
        code = ua.StatusCodes.BadNoData if step.label is None else ua.StatusCodes.Good
        await _write(server, ua, taught, ua.Variant(step.label or 0, ua.VariantType.Int32), stamp, code)


async def _write(server: Any, ua: Any, node: Any, variant: Any, stamp: datetime, code: int = 0) -> None:
    value = ua.DataValue(variant, ua.StatusCode(code), SourceTimestamp=stamp)
    await server.write_attribute_value(node.nodeid, value)
