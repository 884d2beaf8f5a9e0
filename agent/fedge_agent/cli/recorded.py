# SPDX-License-Identifier: Apache-2.0
"""The commands that try a model on recorded data: `train`, `evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from fedge_models.errors import DataError, ModelError
from fedge_models.system.text import counted, printable
from fedge_models.training.config import TrainingConfig

from .model_file import card_option, load_model, model_argument, trainable_option, training_option
from .options import json_option

if TYPE_CHECKING:
    from fedge_models.model import Model

    from ..learning.dataset import Dataset
    from ..learning.workbench import Judgement

MOST_COLUMNS = 8  # more figures are a line each

data_option = click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A table (a column per channel), .npz (x, y) or folder of pictures; see docs/data-scientist/own-data.md.",
)
form_option = click.option(
    "--form",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with the table's form, as `fedge-agent browse FILE` writes it; without: it is guessed.",
)
label_option = click.option("--label", multiple=True, help="Column of the label (label).")


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
    model = load_model(file, card, trainable)
    samples, config = _samples(data, model, label, form), TrainingConfig(proximal_mu=0.0, **how)
    workbench.check_labelled(data, samples, model.card, training=True)
    known = samples.labelled(model.card)
    rows, test = int((known & ~samples.test).sum()), int((known & samples.test).sum())
    if not as_json:
        parts = f"{counted(rows, 'sample')} to train on, {test:,} to evaluate with, {samples.left_out:,} left out"
        click.echo(f"{data}: {parts}")
    batches = config.epochs * math.ceil(rows / config.batch)
    with click.progressbar(length=batches, label="training", hidden=as_json) as bar:
        result = workbench.train(model, samples, config, default_rng(seed), lambda: bar.update(1))
        bar.update(batches)
    if result.report.diverged:
        raise ModelError(f"{file}: training diverged; the weights are left as they were. Lower --learning-rate")
    if out is not None:
        model.save(out)
    table: dict[str, Any] = {"before": result.before, "after": result.after}
    if as_json:
        counts = {"samples": rows, "test_samples": test, "unlabelled": int((~known).sum())}
        table |= {**counts, "left_out": samples.left_out, "undefined": samples.undefined}
    elif not test:
        click.echo("no sample to evaluate with, so there are no figures")
        table = {}
    _figures(table, as_json)
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
    type=click.Path(exists=True, path_type=Path),
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

    model = load_model(file, card, None)
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
    unlabelled = [f"{found.unlabelled:,} without a label"] if found.unlabelled else []
    parts = [" ".join([counted(found.samples, "sample"), *which]), *unlabelled, f"{samples.left_out:,} left out"]
    return f"{data}: {', '.join(parts)}"


def _scaled(path: Path, samples: Dataset, found: Judgement) -> str:
    """Say to which samples the standardisation was fitted."""
    if not found.scaled_by:
        return "standardised by no samples: the card or the model's file does it"
    which = " with test = 0" if samples.marked and not samples.test.all() else ""
    return f"standardised by {counted(found.scaled_by, 'sample')}{which} of {path}"


def _samples(path: Path, model: Model, label: tuple[str, ...], form: Path | None, hold_back: bool = True) -> Dataset:
    """Load samples; how a table was understood is shown."""
    from ..learning import dataset, workbench
    from ..protocols.csv.form_file import load_form
    from ..protocols.csv.snippet import key_lines

    given = load_form(form, path) if form is not None else None
    made = dataset.load(path, model.card, model.graph.input_shape, label, given, hold_back)
    workbench.check_targets(path, made, model.graph)
    if given is None and made.form is not None and (keys := key_lines(made.form)):
        click.echo(f"{path}: understood as {', '.join(keys)}", err=True)
    for note in made.notes:
        click.echo(f"{path}: {printable(note)}", err=True)
    if made.unread:
        click.echo(f"{path}: not read, because the model derives it itself: {', '.join(made.unread)}", err=True)
    if made.undefined:
        click.echo(f"{path}: {counted(made.undefined, 'window')} left out: {made.why}", err=True)
    if made.labelled(model.card).any() and (lost := workbench.unlabelled(made, model.card)):
        click.echo(f"{path}: {lost}", err=True)
    return made


def _figures(table: dict[str, dict[str, float]], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(table))
        return
    if not table:
        return
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    lines = [["", *names]]
    lines += [[title, *(f"{row[n]:.4g}" if n in row else "-" for n in names)] for title, row in table.items()]
    if len(names) > MOST_COLUMNS:
        lines = [list(column) for column in zip(*lines, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
