# SPDX-License-Identifier: Apache-2.0
"""`fedge-fleet rehearse`: a user's own configuration files, as real processes on one machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system import files

path_type = click.Path(path_type=Path)
EXIT_PROBLEM = 2


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--speed", type=click.FloatRange(0.1, 1e6), help="Times real time; default: as the recordings are long.")
@click.option("--rounds", type=click.IntRange(0), default=3, show_default=True, help="That each federation is to make.")
@click.option("--minutes", type=click.FloatRange(0.1), help="It lasts no longer; default: 15.")
@click.option("--connectors", is_flag=True, help="Serve OPC UA and MQTT by a server and a broker here, in real time.")
@click.option(
    "--report", type=path_type, help="Write the report to this file too: a page (.html), JSON (.json) or text."
)
@click.option("--keep", type=path_type, help="New folder that keeps the rewritten files, logs and events.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the report.")
def rehearse(
    folder: Path,
    speed: float | None,
    rounds: int,
    minutes: float | None,
    connectors: bool,
    report: Path | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Rehearse your own files before a roll-out.

    FOLDER has the aggregator's file, a file for each gateway, and recordings. They run as real processes on this
    machine; sources are replayed, outputs become files, and nothing leaves the machine. Exits with 2 on a PROBLEM.
    """
    from . import words
    from .run import Options
    from .run import rehearse as play

    if connectors:
        if speed not in (None, 1):
            raise ConfigError(f"--connectors runs in real time, so --speed is 1 then; got {speed:g}")
        speed = 1.0
    if report is not None and (problem := files.folder_problem(report.absolute().parent)):
        raise ConfigError(problem)
    try:
        limit_s = None if minutes is None else 60 * minutes
        found = play(folder, Options(speed, rounds, limit_s, connectors, keep), lambda text: click.echo(text, err=True))
    except KeyboardInterrupt:
        click.echo("stopped; every process has ended", err=True)
        sys.exit(130)
    text, data = "\n".join(words.lines(found)), msgspec.json.encode(found)
    if report is not None:
        page = {".html": words.page(found).encode(), ".json": data}.get(report.suffix, text.encode() + b"\n")
        files.write(report, page)
    click.echo(data if as_json else text)
    sys.exit(EXIT_PROBLEM if found.problems else 0)
