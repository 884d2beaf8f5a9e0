# SPDX-License-Identifier: Apache-2.0
"""The commands that make a model file and try it by hand: `model new`, `model show`, `train`, `evaluate`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
import msgspec
from fedge_models.errors import ConfigError, DataError, ModelError
from fedge_models.graph.card import Task, decode_card
from fedge_models.graph.starter import Kind
from fedge_models.system import malloc
from fedge_models.system.text import printable
from fedge_models.training.config import TrainingConfig, bounds, check, choices

from .options import json_option, load_config

if TYPE_CHECKING:
    from fedge_models.model import Model

    from ..learning.dataset import Dataset
    from ..learning.workbench import Judgement

Callback = TypeVar("Callback", bound=Callable[..., None])

MOST_COLUMNS = 8  # more figures are a line each
LINES: dict[str, Callable[[Any], list[str]]] = {  # of what `model show` prints: those with a line each
    "derived": lambda formulas: [f"{name} = {formula}" for name, formula in formulas.items()],
    "notes": list,
}
EXAMPLE_ROWS = 1000  # a time estimate is given for so many samples

model_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
trainable_option = click.option("--trainable", help="Globs over initializer names; the rest is frozen (the card's).")
card_option = click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with the model card, for a file that has none. Where it has one, a note says what differs.",
)
data_option = click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A table (a column per channel) or .npz (x, y); see docs/data-scientist/own-data.md.",
)
form_option = click.option(
    "--form",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with the table's form, as `fedge-agent browse FILE` writes it; without: it is guessed.",
)
label_option = click.option("--label", multiple=True, help="CSV column of the label (label).")


def training_option(name: str, default: int | None = None) -> Callable[[Callback], Callback]:
    """Return the command-line option of a key of `TrainingConfig`, with the key's bounds or choices."""
    bound, given = bounds(TrainingConfig)[name], getattr(TrainingConfig(), name) if default is None else default
    kind: Any = click.Choice(choices(bound)) if choices(bound) else click.FloatRange(bound.ge, bound.le)
    if isinstance(given, int):
        kind = click.IntRange(bound.ge, bound.le)  # type: ignore[arg-type]  # of an integer, integers

    def checked(_: click.Context, __: click.Parameter, value: Any) -> Any:
        try:
            check(name, value, bound)  # click lets NaN through any range
        except ValueError as e:
            raise click.BadParameter(str(e)) from e
        return value

    flag = f"--{name.replace('_', '-')}"
    return click.option(flag, type=kind, default=given, show_default=True, callback=checked)


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
    help="With labels or targets: dense layers, or a net for tables; auto: table for windows of one sample.",
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
    """Write a starter model for a federation.

    NAME is the federation's name, as in [model.NAME]. The model is small and untrained. Train it on recorded data with
    `fedge-agent train`, or let a gateway serve and train it: file = "..." under [model.NAME].
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
    click.echo(f"Let gateways learn it together: fedge-aggregator model add {name} {out}")
    click.echo(f"Or train it on recorded data: fedge-agent train {out} --data DATA.csv --out {out}")
    click.echo(f'Or serve and train it on this gateway: [model.{name}] file = "{out}"')
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

    graph = _load(file, card, trainable, show_changes=False).graph
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


@click.command()
@model_argument
@data_option
@form_option
@label_option
@card_option
@trainable_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the trained model here.")
@training_option("epochs", 20)
@training_option("batch")
@training_option("optimizer")
@training_option("learning_rate")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@json_option
def train(
    file: Path, data: Path, form: Path | None, label: tuple[str, ...], card: Path | None, trainable: str | None,
    out: Path | None, seed: int, as_json: bool, **how: Any,
) -> None:  # fmt: skip
    """Train a model on recorded data as a gateway does.

    A part of the data is held back, and the model is evaluated on it before and after.
    """
    from numpy.random import default_rng

    from ..learning import workbench

    if out is not None and not out.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {out.absolute().parent}", param_hint="--out")
    model = _load(file, card, trainable)
    samples, config = _samples(data, model, label, form), TrainingConfig(proximal_mu=0.0, **how)
    workbench.check_labelled(data, samples, model.card, training=True)
    known = samples.labelled(model.card)
    if not as_json:
        rows, test = int((known & ~samples.test).sum()), int((known & samples.test).sum())
        click.echo(f"{data}: {rows} samples to train on, {test} to evaluate with, {samples.left_out} left out")
    batches = config.epochs * math.ceil(int((known & ~samples.test).sum()) / config.batch)
    with click.progressbar(length=batches, label="training", hidden=as_json) as bar:
        result = workbench.train(model, samples, config, default_rng(seed), lambda: bar.update(1))
        bar.update(batches)
    if result.report.diverged:
        raise ModelError(f"{file}: training diverged; the weights are left as they were. Lower --learning-rate")
    if out is not None:
        model.save(out)
    _figures({"before": result.before, "after": result.after}, as_json)
    if out is not None and not as_json:
        click.echo(f"{out}: written, with the trained weights")


@click.command()
@model_argument
@data_option
@form_option
@label_option
@card_option
@click.option(
    "--scale-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Data to take the standardisation from, as --data (without its rows with test = 1); without: --data itself.",
)
@json_option
def evaluate(
    file: Path,
    data: Path,
    form: Path | None,
    label: tuple[str, ...],
    card: Path | None,
    scale_from: Path | None,
    as_json: bool,
) -> None:
    """Evaluate a model on recorded data.

    It is judged by the rows with test = 1, or by all where the data has no column `test`.
    """
    from ..learning import workbench

    model = _load(file, card, None)
    samples = _samples(data, model, label, form, hold_back=False)
    if samples.marked and not samples.test.any():
        raise DataError(f"{data}: no sample has test = 1; leave out the column 'test' to evaluate with all")
    workbench.check_labelled(data, samples, model.card, training=False)
    other = _samples(scale_from, model, label, form, hold_back=False) if scale_from is not None else samples
    found = workbench.judge(model, samples, other, scale_from or data)
    table: dict[str, Any] = {"figures": found.figures}
    if as_json:
        counts = {"samples": found.samples, "unlabelled": found.unlabelled, "standardised_by": found.scaled_by}
        table |= {**counts, "left_out": samples.left_out, "undefined": samples.undefined}
    else:
        click.echo(_judged(data, samples, found))
        click.echo(_scaled(scale_from or data, other, found))
    _figures(table, as_json)


def _judged(data: Path, samples: Dataset, found: Judgement) -> str:
    """How many samples were judged, and how many were not."""
    which = ["with test = 1"] if samples.marked else []
    unlabelled = [f"{found.unlabelled} without a label"] if found.unlabelled else []
    parts = [" ".join([f"{found.samples} samples", *which]), *unlabelled, f"{samples.left_out} left out"]
    return f"{data}: {', '.join(parts)}"


def _scaled(path: Path, samples: Dataset, found: Judgement) -> str:
    """What the samples were standardised by."""
    if not found.scaled_by:
        return "standardised by no samples: the card or the model's file does it"
    which = " with test = 0" if samples.marked and not samples.test.all() else ""
    return f"standardised by {found.scaled_by} samples{which} of {path}"


def _load(file: Path, card: Path | None, trainable: str | None, show_changes: bool = True) -> Model:
    """Load a model and run two samples through it, in NumPy and in ONNX Runtime, in bounded memory.

    show_changes: print what is changed in the file now, and was not when it was taken in before.
    """
    from fedge_models.graph.intake import bounded_memory, read_model, room_for, stored_notes
    from fedge_models.model import Model

    malloc.return_large_blocks()
    with bounded_memory(room_for(file), str(file)):
        model = Model(read_model(file, card, trainable), str(file))
        model.check()
        known = stored_notes(file) if model.graph.notes and show_changes else model.graph.notes
    for note in model.graph.notes:
        if note not in known:
            click.echo(f"{file}: {printable(note)}", err=True)
    return model


def _summary(model: Model) -> str:
    """Task, channels, window and size of a model, in a line."""
    card, window = model.card, model.card.window
    parts = [
        f"{card.task} on {', '.join(c.name for c in card.input_channels)}",
        f"windows of {window.length} samples at {window.rate_hz:g} Hz, one every {window.hop}",
        f"features {', '.join(card.features)}" if card.features else "no features",
        f"{model.graph.params.size} parameters",
    ]
    return "; ".join(parts)


def _samples(path: Path, model: Model, label: tuple[str, ...], form: Path | None, hold_back: bool = True) -> Dataset:
    """Load samples; how a table was understood is shown."""
    from ..learning import dataset, workbench
    from ..protocols.csv.form_file import load_form
    from ..protocols.csv.snippet import key_lines

    given = load_form(form, path) if form is not None else None
    made = dataset.load(path, model.card, model.graph.input_shape, label, given, hold_back)
    if given is None and made.form is not None and (keys := key_lines(made.form)):
        click.echo(f"{path}: understood as {', '.join(keys)}", err=True)
    if made.unread:
        click.echo(f"{path}: not read, because the model derives it itself: {', '.join(made.unread)}", err=True)
    if made.undefined:
        click.echo(f"{path}: {made.undefined:,} windows are left out: {made.why}", err=True)
    if made.labelled(model.card).any() and (lost := workbench.unlabelled(made, model.card)):
        click.echo(f"{path}: {lost}", err=True)
    return made


def _figures(table: dict[str, dict[str, float]], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(table))
        return
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    lines = [["", *names]]
    lines += [[title, *(f"{row[n]:.4g}" if n in row else "-" for n in names)] for title, row in table.items()]
    if len(names) > MOST_COLUMNS:
        lines = [list(column) for column in zip(*lines, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def _words(value: Any) -> str:
    """A value for people."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return str(value) if value != "" else "-"
