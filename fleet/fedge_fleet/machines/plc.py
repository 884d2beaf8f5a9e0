"""A PLC: an OPC UA server that replays one track.

Tags are ``ns=2;s=<channel>`` and ``label``, which is bad during the test part: what is judged is not
taught. Source time stamps are the scheduled times, so that jitter of the replay itself never enters the data; a
waveform block is stamped with its last sample's time. The replay begins when a file appears, so that gateways can
connect first, and the server stays up after its end.
"""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fedge_models.system import files

from ..data.recordings import Track

NAMESPACE = "urn:fedge:plc"


async def serve(track: Track, ready: Path, go: Path, port: int = 0) -> None:
    """Serve until SIGTERM or SIGINT; `ready` gets the port, the replay starts when `go` exists."""
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
    nodes["label"] = await machine.add_variable(ua.NodeId("label", space), "label", 0, ua.VariantType.Int32)
    for node in nodes.values():  # until the machine runs there is nothing to read
        await server.write_attribute_value(
            node.nodeid, ua.DataValue(ua.Variant(), ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData))
        )
    async with server:
        bound = server.bserver._server.sockets[0].getsockname()[1]
        files.write(ready, str(bound).encode())
        replay = asyncio.create_task(_replay(server, track, nodes, go, ready.with_name(ready.name + ".begin")))
        await stop.wait()
        replay.cancel()


async def _replay(server: Any, track: Track, nodes: dict[str, Any], go: Path, started: Path) -> None:
    from asyncua import ua

    while not go.exists():
        await asyncio.sleep(0.02)
    begin, wall = time.monotonic(), time.time()
    files.write(started, repr(wall).encode())
    for step in track.steps():
        await asyncio.sleep(max(0.0, begin + step.due_s - time.monotonic()))
        stamp = datetime.fromtimestamp(wall + step.due_s, timezone.utc)
        for name, value in step.values.items():
            await _write(server, ua, nodes[name], ua.Variant(value, ua.VariantType.Float), stamp)
        code = ua.StatusCodes.BadNoData if step.label is None else ua.StatusCodes.Good
        await _write(server, ua, nodes["label"], ua.Variant(step.label or 0, ua.VariantType.Int32), stamp, code)


async def _write(server: Any, ua: Any, node: Any, variant: Any, stamp: datetime, code: int = 0) -> None:
    value = ua.DataValue(variant, ua.StatusCode(code), SourceTimestamp=stamp)
    await server.write_attribute_value(node.nodeid, value)
