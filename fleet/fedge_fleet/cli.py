"""The command line of the fleet: `demo`, and the servers that it starts."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path

import click
from fedge_models import files
from fedge_models.errors import FedgeError

path_type = click.Path(path_type=Path)


@click.group()
@click.version_option(package_name="fedge")
def main() -> None:
    """A whole fleet on one machine."""


@main.command()
@click.option("--data", type=path_type, default=None, help="Folder of SKAB or fan recordings; without: a simulation.")
@click.option("--out", type=path_type, default=Path("demo-report"), show_default=True, help="Where the report goes.")
def demo(data: Path | None, out: Path) -> None:
    """Four plants learn one model, with real processes, in about 90 seconds."""
    from .demo import demo as play  # noqa: PLC0415

    try:
        kept = play(data, out, click.echo)
    except FedgeError as e:
        click.echo(f"fedge-fleet: {e}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("stopped; every process has ended", err=True)
        sys.exit(130)
    sys.exit(0 if kept else 1)


@main.command()
@click.option("--track", type=path_type, required=True)
@click.option("--ready", type=path_type, required=True, help="Gets the port.")
@click.option("--go", type=path_type, required=True, help="The replay begins when this file exists.")
@click.option("--port", default=0, show_default=True)
def plc(track: Path, ready: Path, go: Path, port: int) -> None:
    """A PLC that replays a track over OPC UA."""
    from .plc import serve  # noqa: PLC0415
    from .recordings import read_track  # noqa: PLC0415

    asyncio.run(serve(read_track(track), ready, go, port))


@main.command()
@click.option("--store", type=path_type, required=True)
@click.option("--ready", type=path_type, required=True, help="Gets the port.")
@click.option("--port", default=0, show_default=True)
@click.option(
    "--drop", default=0.0, show_default=True, help="Chance that an answer is lost after the order was stored."
)
def mes(store: Path, ready: Path, port: int, drop: float) -> None:
    """A MES that stores work orders."""
    from .mes import Mes  # noqa: PLC0415

    server = Mes(store, port, drop)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    files.write(ready, str(server.server_address[1]).encode())
    stop.wait()
    server.shutdown()
