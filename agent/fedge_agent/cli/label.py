# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent label`: store what a person knows of a machine, whether the agent runs or not.

The label goes into the file of samples and labels, where a running agent looks once a second.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import click
from fedge_models.errors import ConfigError
from fedge_models.system import settings, times
from fedge_models.system.text import counted

from ..config.schema import Config, refer
from .cards import card_of
from .options import StateCommand, config_option, load_config

ALWAYS_NS = (1 << 63) - 1


@click.command(cls=StateCommand)
@click.argument("asset")
@click.argument("value")
@click.option("--from", "start", help="Start of the time: ISO 8601, local, or Unix seconds.")
@click.option("--to", "end", help="End of that time; without it, now.")
@click.option("--at", "moment", help="One moment instead.")
@click.option("--tolerance", default="0s", show_default=True, help="With --at: how long before and after it, e.g. 5m.")
@click.option("--part", default="", help="Only the windows of this part (context.part).")
@config_option
def label(
    asset: str,
    value: str,
    start: str | None,
    end: str | None,
    moment: str | None,
    tolerance: str,
    part: str,
    config_path: Path,
) -> None:
    """Label the stored windows of a machine.

    ASSET was VALUE (e.g. "normal") for a time or while it made a part. Its stored windows get that label, and the model
    learns from them.
    """
    from ..samples.label_book import LabelBook, Subject
    from ..samples.label_values import describe, why_malformed
    from ..samples.tables import SAMPLES_FILE
    from ..types import Label

    config = load_config(config_path)
    refer(asset, config.asset, "asset")
    begin_ns, end_ns = _span(start, end, moment, tolerance, part, time.time_ns())
    label = Label(asset, begin_ns, end_ns, value, "hand", part)
    entry = config.asset[asset]
    subject = Subject(entry.model, lambda: None, entry.label)
    if why := why_malformed(label) or _unknown(config, asset, subject, value):
        raise ConfigError(why)
    path = config.agent.state / SAMPLES_FILE
    if not path.exists():
        raise ConfigError(f"{path}: the agent has not yet run with this configuration, so there is nothing to label")
    book = LabelBook(path, {asset: subject}, lambda *_: None)
    try:
        book.put(label)
        count = book.count_matching(label)
    finally:
        book.stop()
    click.echo(f"{asset}: {describe(label)}: stored; it applies to {counted(count, 'window')}")
    if part and "part" not in entry.context:
        click.echo(f"warning: [asset.{asset}] has no context.part, so no window is known to be of a part", err=True)


def _span(
    start: str | None, end: str | None, moment: str | None, tolerance: str, part: str, now_ns: int
) -> tuple[int, int]:
    """From and to when the label holds, ns."""
    if moment is not None:
        if start is not None or end is not None:
            raise ConfigError("give --at, or --from and --to, not both")
        at, around = _time(moment, "--at", now_ns), round(_duration(tolerance) * 1e9)
        return max(0, at - around), at + around
    if start is None and not part:
        raise ConfigError("give --from (and --to), --at (and --tolerance), or --part")
    begin = _time(start, "--from", now_ns) if start is not None else 0
    until = _time(end, "--to", now_ns) if end is not None else (now_ns if start is not None else ALWAYS_NS)
    if until < begin:
        raise ConfigError(f"--to {end!r} is before --from {start!r}")
    return begin, until


def _time(text: str, option: str, now_ns: int) -> int:
    local = datetime.now().astimezone().tzinfo
    assert local is not None
    try:
        found = times.parse(text, None, local)
    except ValueError as e:
        expected = f'expected a time such as "2026-03-01 14:30" or Unix seconds, from {times.years()}'
        raise ConfigError(f"{option} {text!r}: {expected}") from e
    if found > now_ns + times.DAY_NS:  # the machine's clock may be ahead of this one
        raise ConfigError(f"{option} {text!r} lies more than a day in the future")
    return found


def _duration(text: str) -> float:
    try:
        return settings.parse_seconds(text)
    except ValueError as e:
        raise ConfigError(f"--tolerance: {e}") from e


def _unknown(config: Config, asset: str, subject: object, value: str) -> str | None:
    """What is wrong with the value, if the model is here to say."""
    from ..samples.label_book import Subject
    from ..samples.label_values import accepted_values

    assert isinstance(subject, Subject)
    card = card_of(config, subject.model)
    if card is None or subject.target_value(card, value) is not None:
        return None
    return f"{asset} has no label {value!r}: expected {accepted_values(card)}"
