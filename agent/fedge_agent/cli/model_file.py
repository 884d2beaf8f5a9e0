# SPDX-License-Identifier: Apache-2.0
"""A model file on the command line: the options of the commands that take one, and how they load it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from fedge_models.system import malloc
from fedge_models.system.text import printable
from fedge_models.training.config import TrainingConfig, bounds, check, choices

if TYPE_CHECKING:
    from fedge_models.model import Model

Callback = TypeVar("Callback", bound=Callable[..., None])

model_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
trainable_option = click.option("--trainable", help="Globs over initializer names; the rest is frozen (the card's).")
card_option = click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with the model card, for a file that has none. Where it has one, a note says what differs.",
)


def training_option(name: str, default: int | None = None) -> Callable[[Callback], Callback]:
    """Return the command-line option of a key of `TrainingConfig`, with the key's bounds or choices."""
    bound, given = bounds(TrainingConfig)[name], getattr(TrainingConfig(), name) if default is None else default
    kind: Any = click.Choice(choices(bound)) if choices(bound) else click.FloatRange(bound.ge, bound.le)
    if isinstance(given, int):
        kind = click.IntRange(bound.ge, bound.le)  # type: ignore[arg-type]  # the bounds of an integer are integers

    def checked(_: click.Context, __: click.Parameter, value: Any) -> Any:
        try:
            check(name, value, bound)  # click lets NaN through any range
        except ValueError as e:
            raise click.BadParameter(str(e)) from e
        return value

    flag = f"--{name.replace('_', '-')}"
    return click.option(flag, type=kind, default=given, show_default=True, callback=checked)


def load_model(file: Path, card: Path | None, trainable: str | None, show_changes: bool = True) -> Model:
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
