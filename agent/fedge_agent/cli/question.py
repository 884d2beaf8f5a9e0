# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent question`: what the gateway asks people, and their answers, whether the agent runs or not.

An answer is a label of exactly the window of the question. It is written to the file of samples, labels and events,
where a running agent looks once a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from fedge_models.errors import ConfigError

from ..config.schema import Config
from .cards import card_of
from .options import StateCommand, StateGroup, ask, config_option, json_option, load_config
from .question_lines import of_list

if TYPE_CHECKING:
    from ..samples.question import Question
    from ..samples.question_book import QuestionBook

SKIP = ""  # an answer at the prompt: the next question


@click.group("question", cls=StateGroup)
def question_group() -> None:
    """List and answer what the gateway asks."""


@question_group.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@json_option
@config_option
def list_questions(everything: bool, as_json: bool, config_path: Path) -> None:
    """List the windows whose labels are worth most.

    The gateway asks about a few windows a day (`questions.a_day` of each model), where a label would teach its model
    most.
    """
    config = load_config(config_path)
    with _book(config) as book:
        found = book.listed()
    if as_json:
        shown = [q._asdict() for q in found if everything or q.state == "open"]
        click.echo(msgspec.json.encode({"questions": shown, "notes": _notes(config)}))
    else:
        click.echo("\n".join(of_list(found, everything, _notes(config))))


@question_group.command(cls=StateCommand)
@click.argument("number", type=int, required=False)
@click.argument("label", required=False)
@config_option
def answer(number: int | None, label: str | None, config_path: Path) -> None:
    """Say what a machine was in the window of a question.

    LABEL is a name such as "normal" (of a regression a number). Without NUMBER, each open question is asked here; an
    empty line leaves it open.
    """
    config = load_config(config_path)
    with _book(config) as book:
        if number is not None:
            asked = book.find(number)
            _store(config, book, asked, label or click.prompt(f"{asked.text}\n{asked.answers}"))
            return
        waiting = [q for q in book.listed() if q.state == "open"]
        for asked in waiting:
            found = click.prompt(f"{asked.id}: {asked.text}\n{asked.answers}", default=SKIP, show_default=False)
            while found != SKIP and not _try(config, book, asked, found):
                found = click.prompt("again", default=SKIP, show_default=False)
        if not waiting:
            click.echo("no question waits for an answer")


@question_group.command(cls=StateCommand)
@click.argument("number", type=int)
@click.option("--comment", default="", help="Why it cannot be answered.")
@config_option
def skip(number: int, comment: str, config_path: Path) -> None:
    """End a question that nobody can answer."""
    with _book(load_config(config_path)) as book:
        book.skip(number, comment[:200])
    click.echo(f"question {number}: skipped")


def _try(config: Config, book: QuestionBook, asked: Question, label: str) -> bool:
    """Store an answer; False, with the reason printed, when the model knows no such label."""
    try:
        _store(config, book, asked, label)
    except ConfigError as e:
        click.echo(str(e), err=True)
        return False
    return True


def _store(config: Config, book: QuestionBook, asked: Question, value: str) -> None:
    """Store a label of exactly the question's window. Raises ConfigError for one that the model does not know."""
    from ..samples.label_book import LabelBook, Subject
    from ..samples.label_values import accepted_values, why_malformed
    from ..samples.tables import SAMPLES_FILE
    from ..types import Label

    label = Label(asked.asset, asked.start_ns, asked.end_ns, value, "hand")
    entry = config.asset.get(asked.asset)
    if entry is None:
        raise ConfigError(f"question {asked.id} is of asset {asked.asset!r}, which is not configured any more")
    subject, card = Subject(entry.model, lambda: None, entry.label), card_of(config, entry.model)
    if card is not None and subject.target_value(card, value) is None:
        raise ConfigError(f"{asked.asset} has no label {value!r}: expected {accepted_values(card)}")
    if why := why_malformed(label):
        raise ConfigError(why)
    labels = LabelBook(config.agent.state / SAMPLES_FILE, {asked.asset: subject}, lambda *_: None, tables=book.tables)
    labels.put(label)
    labels.stop()
    book.listed()  # it is answered now
    click.echo(f"question {asked.id}: {asked.asset} was {value!r}, {asked.span}; stored")


@contextmanager
def _book(config: Config) -> Iterator[QuestionBook]:
    """The book of questions of a configuration. Raises ConfigError where no agent has run yet."""
    from ..samples.question_book import QuestionBook
    from ..samples.tables import SAMPLES_FILE

    path = config.agent.state / SAMPLES_FILE
    if not path.exists():
        raise ConfigError(f"{path}: the agent has not yet run with this configuration, so it has asked nothing")
    book = QuestionBook(path, {name: model.questions for name, model in config.model.items()})
    try:
        yield book
    finally:
        book.stop()


def _notes(config: Config) -> dict[str, str]:
    """Why each model asks nothing now, from the running agent; empty while none runs."""
    found: dict[str, Any] = ask(config, "/status", dict[str, Any]) or {}
    notes: dict[str, str] = found.get("questions", {}).get("notes", {})
    return notes
