# SPDX-License-Identifier: Apache-2.0
"""The command line of the fleet: `demo` and the servers that it starts, `simulate`."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import click
from fedge_models import __version__
from fedge_models.errors import ConfigError
from fedge_models.system import files
from fedge_models.system.command_line import Group

from .rehearse.command import rehearse
from .rehearse.replay_command import replay
from .simulate.command import simulate

path_type = click.Path(path_type=Path)


@click.group(cls=Group, program="fedge-fleet")
@click.version_option(__version__)
def main() -> None:
    """A whole fleet on one machine."""


for command in (rehearse, replay):
    main.add_command(command)
main.add_command(simulate)


@main.command()
@click.option("--data", type=path_type, default=None, help="Folder of SKAB or fan recordings; without: a simulation.")
@click.option("--out", type=path_type, default=Path("demo-report"), show_default=True, help="Where the report goes.")
@click.option("--mes", type=click.Choice(["stand-in", "tryton"]), default="stand-in", show_default=True)
@click.option("--tryton", type=path_type, default=Path(".counterparts/tryton"), show_default=True, help="Its venv.")
def demo(data: Path | None, out: Path, mes: str, tryton: Path) -> None:
    """Run four plants that learn one model.

    Aggregator, agents, PLCs and MES are real processes; it takes about 90 seconds.
    """
    from .demo.run import demo as play

    try:
        all_kept = play(data, out, click.echo, tryton.resolve() if mes == "tryton" else None)
    except KeyboardInterrupt:
        click.echo("stopped; every process has ended", err=True)
        sys.exit(130)
    sys.exit(0 if all_kept else 1)


def _until_signalled() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@main.command()
@click.option("--track", type=path_type, default=None, help="Recording to replay; without: a simulated pump.")
@click.option("--ready", type=path_type, default=None, help="File that gets the port, and beside it the begin.")
@click.option("--go", type=path_type, default=None, help="The replay begins when this file exists; without: at once.")
@click.option("--port", type=int, default=None, help="4840; with --ready any free one.")
@click.option("--node", type=path_type, default=None, help="Serve by node-opcua from this folder of modules.")
def plc(track: Path | None, ready: Path | None, go: Path | None, port: int | None, node: Path | None) -> None:
    """Serve a machine over OPC UA, to practise with.

    Without options it is a simulated pump with the tags of the example configuration. A fault of five minutes comes
    every half hour. Nothing but this computer can reach it.
    """
    from .machines import plc_command

    plc_command.run(track, ready, go, port, node, _until_signalled if node else None)


@main.command("mqtt-machine")
@click.option("--track", type=path_type, required=True)
@click.option("--broker", required=True, help="HOST:PORT.")
@click.option("--topic", required=True)
@click.option("--ready", type=path_type, required=True, help="Gets the broker's port.")
@click.option("--go", type=path_type, required=True, help="The replay begins when this file exists.")
def mqtt_machine(track: Path, broker: str, topic: str, ready: Path, go: Path) -> None:
    """A machine that replays a track as JSON messages over MQTT."""
    from .data.recordings import read_track
    from .machines.mqtt_machine import play

    host, _, port = broker.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--broker {broker!r}: expected HOST:PORT, for example 127.0.0.1:1883")
    play(read_track(track), host, int(port), topic, ready, go, _until_signalled())


@main.command()
@click.option("--store", type=path_type, required=True)
@click.option("--ready", type=path_type, required=True, help="Gets the port.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--drop",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Chance that an answer is lost after the order was stored.",
)
def mes(store: Path, ready: Path, port: int, drop: float) -> None:
    """A MES that stores work orders."""
    from .machines.mes import Mes

    server = Mes(store, port, drop)
    stop = _until_signalled()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    files.write(ready, str(server.server_address[1]).encode())
    stop.wait()
    server.shutdown()
