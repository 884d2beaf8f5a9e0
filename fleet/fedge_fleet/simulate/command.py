# SPDX-License-Identifier: Apache-2.0
"""The command `fedge-fleet simulate`: on data of one's own, or on recorded and simulated sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from fedge_models.errors import ConfigError
from fedge_models.system import files

from .config import Config, flagged, keys, read

path_type = click.Path(path_type=Path)
MANY = ("data", "label")  # flags that may be given more than once
SWITCHES = ("compare",)


def _as_flags(command: Any) -> Any:
    """Every key of a simulation's file as a flag; the struct there explains each (`simulate_config`)."""
    for name, text in reversed(keys().items()):
        flag, how = f"--{name.replace('_', '-')}", dict[str, Any](default=None, help=text)
        how |= {"is_flag": True} if name in SWITCHES else {"metavar": "VALUE", "multiple": name in MANY}
        command = click.option(flag, name, **how)(command)
    return command


@click.command()
@click.argument("files", type=path_type, nargs=-1)
@_as_flags
@click.option("--no-trust", is_flag=True, help='Trust only watches, as `trust = { action = "watch" }`.')
@click.option("--report", "page", type=path_type, default=None, help="Write a page with charts to this HTML file.")
@click.option("--jobs", type=click.IntRange(1, 256), default=None, help="Processes at once. Default: one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
def simulate(
    files: tuple[Path, ...], no_trust: bool, page: Path | None, jobs: int | None, as_json: bool, **flags: Any
) -> None:
    """Simulate many sites in one process.

    With --model and --data on data of your own: does joining pay, and under which rule? Without, on a set.

    FILES: a TOML file with settings, and more files of --data (a pattern without quotes). Flags go before its keys.

    A flag's value is written as in TOML; a table may be just its name: --rule median, or
    --rule '{ name = "trimmed_mean", byzantine = 4 }'.
    """
    config, where = _settings(files, no_trust, flags)
    if page is not None:
        _check_page(page)
    from .actions import run

    result = run(config, where, jobs, as_json)
    click.echo(result.json() if as_json else "\n".join(result.lines()))
    if page is not None:
        page.write_text(result.html(), encoding="utf-8")
        click.echo(f"{page}: written", err=True)


def _settings(given: tuple[Path, ...], no_trust: bool, flags: dict[str, Any]) -> tuple[Config, str]:
    """The settings of file and flags. Raises ConfigError."""
    found: dict[str, Any] = {k: list(v) if k in MANY else v for k, v in flags.items() if v is not None and v != ()}
    tables = [path for path in given if path.suffix == ".toml"]
    if len(tables) > 1:
        raise ConfigError(f"{tables[0]}, {tables[1]}: expected one file with settings")
    if more := [str(path) for path in given if path not in tables]:
        if "data" not in found:
            raise ConfigError(f"{more[0]}: expected a TOML file with settings; data are given as --data {more[0]}")
        found["data"] += more
    for name in ("model", "card", "form"):
        if name in found:
            found[name] = str(Path(found[name]).absolute())  # of the shell's folder, not of the file's
    if no_trust:
        if "trust" in found:
            raise ConfigError("--no-trust and --trust: expected one of them")
        found["trust"] = {"action": "watch"}
    config, where = read(tables[0] if tables else None, flagged(found))
    if config.model is not None and {"set", "sites", "skew"} & {*found}:
        raise ConfigError(
            f"{where}: keys 'set', 'sites' and 'skew' are of recorded sets; data of your own are as they are"
        )
    if config.model is None and (config.card or config.label or config.form):
        raise ConfigError(f"{where}: keys 'card', 'label' and 'form' need 'model': the ONNX file that learns")
    if config.model is not None and not config.data:
        raise ConfigError(f"{where}: key 'data': expected files of your sites, such as --data 'plant*.csv'")
    return config, where


def _check_page(page: Path) -> None:
    """Raise a ConfigError when the page could not be written after all has been run."""
    if page.is_dir():
        raise ConfigError(f"{page}: is a folder; expected a file such as {page / 'report.html'}")
    if problem := files.folder_problem(page.absolute().parent):
        raise ConfigError(problem)
    if not page.absolute().parent.is_dir():
        raise ConfigError(f"{page}: there is no folder {page.absolute().parent}")
