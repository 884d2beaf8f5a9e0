# SPDX-License-Identifier: Apache-2.0
"""`fedge-fleet plc`: a practice machine for people, a replayed recording for programs."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import click
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.system import files

from ..data.recordings import read_track
from . import node_plc, plc, practice_pump

USUAL_PORT = 4840


def run(
    track: Path | None,
    ready: Path | None,
    go: Path | None,
    port: int | None,
    node: Path | None,
    until: Callable[[], threading.Event] | None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConfigError for files that do not fit, and UnreachableError for a port that cannot be opened.
    """
    if node is not None and until is not None:
        if track is None or ready is None or go is None:
            raise ConfigError("fedge-fleet plc --node: --track, --ready and --go are needed too")
        node_plc.serve(read_track(track), node, ready, go, until())
        return
    if port is None:
        port = 0 if ready else USUAL_PORT
    started = ready.with_name(ready.name + ".begin") if ready else None

    def begun(bound: int) -> None:
        if ready is not None:
            files.write(ready, str(bound).encode())
        else:
            click.echo(f"opc.tcp://127.0.0.1:{bound}/ is ready; Ctrl-C ends it")

    replayed, label = (read_track(track), "label") if track else (practice_pump.pump(), practice_pump.FAULT_TAG)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # what matters of it is an exception here
    try:
        asyncio.run(plc.serve(replayed, begun, go, port, label, started))
    except OSError as e:
        raise UnreachableError(
            f"port {port} cannot be opened: {os.strerror(e.errno or 0)}; choose another with --port"
        ) from e
