# SPDX-License-Identifier: Apache-2.0
"""Commands of models: give a federation its ONNX file, and list what federations learn."""

from __future__ import annotations

import time
from pathlib import Path

import click
from fedge_models.system.text import printable

from ..config.load import load
from .common import authority, check_federation, config_option, json_option, open_store
from .table import show


@click.group(name="model")
def model_group() -> None:
    """Add and list models."""


@model_group.command(name="add")
@click.argument("federation")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with the model card, for a file that has none (docs/data-scientist/own-model.md). Where it has "
    "one, a note says what differs.",
)
@click.option("--trainable", help="Globs over initializer names, comma-separated; the rest is frozen (the card's).")
@config_option
def model_add(federation: str, file: Path, card: Path | None, trainable: str | None, config_path: Path) -> None:
    """Give a federation its ONNX file.

    The weights of the file become release 1.
    """
    from ..federation.add_model import add_model, still_start

    config = load(config_path)
    check_federation(config, federation)
    store, keys, settings = open_store(config), authority(config), config.federation[federation]
    graph = add_model(store, keys, federation, settings, file, time.time(), card, trainable)
    for note in graph.notes:
        click.echo(f"{file}: {printable(note)}", err=True)
    if why := still_start(graph, settings, federation):
        click.echo(f"warning: {why}", err=True)
    click.echo(f"{federation}: {graph.card.task} model of {graph.params.size} trainable parameters, release 1")


@model_group.command(name="list")
@json_option
@config_option
def model_list(as_json: bool, config_path: Path) -> None:
    """List federations and their models."""
    config = load(config_path)
    models = {m.federation: m for m in open_store(config).models()}
    rows = []
    for name in config.federation:
        model = models.get(name)
        rows.append(
            {
                "federation": name,
                "graph": model.graph.hex() if model else None,
                "parameters": int(model.sizes.sum()) if model else None,
                "tensors": len(model.sizes) if model else None,
            }
        )
    show(rows, as_json, f"no federation is configured; add a table [federation.NAME] to {config_path}")
    if not as_json:
        for name in set(config.federation) - set(models):
            click.echo(f"{name} has no model yet; add one: fedge-aggregator model add {name} FILE.onnx")
