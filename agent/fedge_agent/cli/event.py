# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent event`: what operators do with events, whether the agent runs or not.

It is written to the file of samples, labels and events, where a running agent looks once a second.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from fedge_models.errors import ConfigError, StorageError
from fedge_models.system import settings, times

from ..config.schema import Config
from ..health import PROGRAM
from .options import EXIT_PROBLEM, StateGroup, ask, config_option, json_option, load_config

if TYPE_CHECKING:
    from ..samples.event_book import EventBook
    from ..samples.event_view import View

LONGEST_S = 31 * 86_400.0
LONGEST_TEXT = 1000
NOT_YET = "the agent has not yet run with this configuration, so there are no events"

by_option = click.option("--by", "who", default="", help="Your name; without it, the user's.")
comment_option = click.option("--comment", default="", help="What you found.")


@click.group("event", cls=StateGroup)
def event_group() -> None:
    """List, acknowledge, accept, shelve and comment events."""


@event_group.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that wait for nobody, too.")
@json_option
@config_option
def list_events(everything: bool, as_json: bool, config_path: Path) -> None:
    """List the events that somebody has to look at.

    These are the open ones, and those that nobody has acknowledged.
    """
    from .event_lines import of_list

    rows, notes, shelves, withheld, problem = _view(load_config(config_path))
    if as_json:
        noted = [note._asdict() for note in notes]
        shown = [row for row in rows if everything or row.waits]
        events = [
            {**row._asdict(), "withheld": withheld.get(row.key, 0), "notes": [n for n in noted if n["key"] == row.key]}
            for row in shown
        ]
        click.echo(msgspec.json.encode({"events": events, "shelved": [s._asdict() for s in shelves]}))
    else:
        click.echo("\n".join(of_list(rows, notes, shelves, withheld, everything)))
    if problem:
        click.echo(f"PROBLEM {problem}; {PROGRAM} holds in memory what the file lacks, and shows it here", err=True)
        sys.exit(EXIT_PROBLEM)


@event_group.command()
@click.argument("event")
@comment_option
@by_option
@config_option
def ack(event: str, comment: str, who: str, config_path: Path) -> None:
    """Acknowledge an event as a fault.

    Its windows, and those of the stretch before it, are never learnt as normal. Later windows are. The event stays open
    until its condition is over.
    """
    from ..samples.withholding import FAULT

    with _book(load_config(config_path)) as book:
        book.acknowledge(event, _person(who), _text(comment), FAULT)
    click.echo(f"{event}: acknowledged; its windows are never learnt as normal")


@event_group.command()
@click.argument("event")
@comment_option
@by_option
@config_option
def accept(event: str, comment: str, who: str, config_path: Path) -> None:
    """Accept what an event is about as the new normal.

    Its windows become training data, also those that are still to come while it is open. The limit follows within
    minutes, and then the event clears.
    """
    from ..samples.withholding import NORMAL

    with _book(load_config(config_path)) as book:
        book.acknowledge(event, _person(who), _text(comment), NORMAL)
    click.echo(f"{event}: accepted; its windows are learnt as normal from now on")


@event_group.command("comment")
@click.argument("event")
@click.argument("text")
@by_option
@config_option
def comment_event(event: str, text: str, who: str, config_path: Path) -> None:
    """Add a comment to an event."""
    with _book(load_config(config_path)) as book:
        book.comment(event, _person(who), _text(text))
    click.echo(f"{event}: noted")


@event_group.command()
@click.argument("subject")
@click.option("--for", "duration", help='How long, e.g. "8h"; "0s" ends it.')
@click.option("--until", help="Or until when: ISO 8601, local.")
@comment_option
@by_option
@config_option
def shelve(subject: str, duration: str | None, until: str | None, comment: str, who: str, config_path: Path) -> None:
    """Send no events of a machine to the outputs for a while.

    SUBJECT is an asset, or one event. What is not sent is counted, and an event that is still open at the end is sent
    then. Decisions go on.
    """
    config = load_config(config_path)
    seconds = _seconds(duration, until, time.time())
    with _book(config) as book:
        known = [row.key for row in book.listed()[0]]
        if subject not in config.asset and subject not in known:
            raise ConfigError(f"{subject!r} is neither an asset ({', '.join(config.asset)}) nor an event (event list)")
        book.shelve(subject, seconds, _person(who), _text(comment))
    click.echo(f"{subject}: shelved for {seconds:g} s" if seconds else f"{subject}: no longer shelved")


def _view(config: Config) -> View:
    """The events, from the running agent while its file cannot be written. Raises ConfigError, StorageError."""
    from ..samples import event_view
    from ..samples.tables import SAMPLES_FILE

    path = config.agent.state / SAMPLES_FILE
    held = ask(config, "/held-events", event_view.View | None)  # type: ignore[arg-type]
    if held is not None:
        return held
    if not path.exists():
        raise ConfigError(f"{path}: {NOT_YET}")
    return event_view.of_file(path)


@contextmanager
def _book(config: Config) -> Iterator[EventBook]:
    """The book of events of a configuration. Raises ConfigError where no agent has run yet, StorageError where one
    runs that could not make the file."""
    from ..samples.event_book import EventBook
    from ..samples.event_view import View
    from ..samples.tables import SAMPLES_FILE

    path = config.agent.state / SAMPLES_FILE
    if not path.exists():
        if held := ask(config, "/held-events", View | None):  # type: ignore[arg-type]
            raise StorageError(f"{held.problem}; {PROGRAM} holds its events in memory until then; try again")
        raise ConfigError(f"{path}: {NOT_YET}")
    book = EventBook(path)
    try:
        yield book
    finally:
        book.stop()


def _person(given: str) -> str:
    if given:
        return _text(given)
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container without a user of that number
        return f"uid {os.getuid()}"


def _text(text: str) -> str:
    if len(text) > LONGEST_TEXT or not all(c.isprintable() for c in text):
        raise ConfigError(f"expected at most {LONGEST_TEXT} printed characters, got {len(text)}: {text[:40]!r}")
    return text


def _seconds(duration: str | None, until: str | None, now: float) -> float:
    """How long to shelve. Raises ConfigError."""
    if (duration is None) == (until is None):
        raise ConfigError("give --for or --until: what is shelved must end")
    if duration is not None:
        seconds = _parsed(lambda: float(settings.parse_seconds(duration)), f"--for {duration!r}")
    else:
        seconds = _parsed(lambda: times.parse(until, None, _here()) / 1e9 - now, f"--until {until!r}")
        if seconds <= 0:
            raise ConfigError(f"--until {until!r} is over")
    if seconds > LONGEST_S:
        raise ConfigError("expected at most 31 days: what is shelved for longer is forgotten")
    return seconds


def _parsed(parse: Callable[[], float], what: str) -> float:
    try:
        return parse()
    except ValueError as e:
        raise ConfigError(f"{what}: {e}") from e


def _here() -> Any:
    from datetime import datetime

    return datetime.now().astimezone().tzinfo
