# SPDX-License-Identifier: Apache-2.0
"""The commands that make a model file and look into one: `model new`, `model show`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec
from fedge_models.errors import ConfigError
from fedge_models.graph.card import Task, decode_card
from fedge_models.graph.starter import Kind
from fedge_models.system.text import counted, printable

from ..learning.machine_kinds import KINDS
from .model_file import card_option, load_model, model_argument, trainable_option, training_option
from .options import json_option, load_config

if TYPE_CHECKING:
    from fedge_models.model import Model

LINES: dict[str, Callable[[Any], list[str]]] = {  # of what `model show` prints: those with a line each
    "derived": lambda formulas: [f"{name} = {formula}" for name, formula in formulas.items()],
    "notes": list,
}
EXAMPLE_ROWS = 1000  # a time estimate is given for so many samples


@click.group(name="model")
def model_group() -> None:
    """Model files."""


@model_group.command()
@click.argument("name")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Write the model here.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The agent's configuration: channels, window and task of the assets with this model.",
)
@card_option
@click.option(
    "--machine",
    type=click.Choice([*KINDS]),
    help="Begin with the channels, window, features and task of this kind of machine, where nothing else is said.",
)
@click.option("--task", type=click.Choice(get_args(Task)), help="Default: what the assets' labels or targets ask for.")
@click.option("--channel", "channels", multiple=True, metavar="NAME[=UNIT]", help="A channel; repeat for each.")
@click.option(
    "--derive", "derived", multiple=True, metavar="NAME=FORMULA", help="A derived channel: 'power_W=torque_Nm * rpm'."
)
@click.option("--label", "labels", multiple=True, metavar="NAME", help="A label; the first one of classify is normal.")
@click.option("--target", "targets", multiple=True, metavar="NAME[=UNIT]", help="regress: what to estimate.")
@click.option("--features", metavar="A,B,…", help="Features of a window, or raw for the window itself.")
@click.option("--rate-hz", type=click.FloatRange(0, min_open=True), help="Samples a second.")
@click.option("--length", type=click.IntRange(1), help="Samples in a window.")
@click.option("--hop", type=click.IntRange(1), help="Samples from one window to the next.")
@click.option(
    "--kind",
    type=click.Choice(get_args(Kind)),
    default="auto",
    show_default=True,
    help="With labels or targets: dense layers, a net for tables, or convolutions of raw windows and pictures; auto: "
    "table for windows of one sample, convolutions for long raw windows, fixed filters and dense layers for pictures.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def new(
    name: str,
    out: Path,
    config_path: Path | None,
    card: Path | None,
    features: str | None,
    kind: Kind,
    seed: int,
    **wishes: Any,
) -> None:
    """Write a starter model for a gateway or a federation.

    NAME is the federation's name, as in [model.NAME]. The model is small and untrained. A gateway with file = "..."
    under [model.NAME] trains it on its own data; the gateways of a federation train it together. Or train it on
    recorded data with `fedge-agent train`.
    """
    from fedge_models.graph.card import encode_card
    from fedge_models.graph.intake import read_card_file
    from fedge_models.model import starter

    from ..learning.starter_card import Wishes, starter_card
    from ..machines.fit import check_fit
    from ..windows.features import input_count

    if out.exists():
        raise ConfigError(f"{out}: exists already; remove it, or choose another --out")
    assets = load_config(config_path).asset if config_path is not None else {}
    wanted = Wishes(**wishes, features=tuple(f for f in (features or "").split(",") if f))
    made = read_card_file(card) if card is not None else starter_card(name, assets, wanted)
    decode_card(encode_card(made), name)
    model = starter(made, input_count(made) if made.features else None, seed, kind)
    for asset, config in assets.items():
        if config.model == name:
            check_fit(asset, config, made, model.graph.input_shape)
    model.save(out)
    click.echo(f"{out}: written: {_summary(model)}")
    data = "DATA.csv" if made.image is None else "FOLDER"
    click.echo("It is untrained. One gateway trains it alone, on its own data, with these lines in its configuration:")
    click.echo(f'  [model.{name}]\n  file = "{out}"')
    click.echo(f"Or let gateways learn it together: fedge-aggregator model add {name} {out}")
    click.echo(f"Or train it on recorded data: fedge-agent train {out} --data {data} --out {out}")
    if any(tensor.name.startswith("ramp.") for tensor in model.graph.layout):
        click.echo("Its ramps want larger steps than the default: learning_rate = 0.01, clip_norm = 1, epochs = 1")


@model_group.command()
@model_argument
@card_option
@trainable_option
@training_option("batch")
@json_option
def show(file: Path, card: Path | None, trainable: str | None, batch: int, as_json: bool) -> None:
    """Show what a model file holds.

    Also what training it costs on this board.
    """
    from numpy.random import default_rng

    from ..learning import workbench

    graph = load_model(file, card, trainable, show_changes=False).graph
    table = workbench.describe(graph)
    spent = workbench.cost(graph, batch, time.perf_counter, default_rng(0))
    table |= {k: float(f"{v:.3g}") for k, v in spent._asdict().items()}
    if as_json:
        click.echo(msgspec.json.encode(table))
        return
    for key, value in table.items():
        for line in LINES[key](value) if key in LINES else [_words(value)]:
            click.echo(f"{key:24}{printable(line)}")
    seconds = EXAMPLE_ROWS * (5 / spent.samples_per_s + spent.trunk_ms / 1000)
    click.echo(f"{'on this board':24}5 epochs of {EXAMPLE_ROWS} new samples take {seconds:.2g} s")


def _summary(model: Model) -> str:
    """Task, channels, window and size of a model, in a line."""
    card, window = model.card, model.card.window
    parts = [
        f"{card.task} on {', '.join(c.name for c in card.input_channels)}",
        f"windows of {counted(window.length, 'sample')} at {window.rate_hz:g} Hz, one every {window.hop}",
        f"features {', '.join(card.features)}" if card.features else "no features",
        f"{model.graph.params.size} parameters",
    ]
    return "; ".join(parts)


def _words(value: Any) -> str:
    """A value for people."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return str(value) if value != "" else "-"
