# SPDX-License-Identifier: Apache-2.0
"""What `fedge-fleet simulate` does: read, run with a line of progress, and give the result as text, JSON or page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import click
from fedge_agent.cli.model_file import load_model

from ..data.site_files import find
from ..report import render
from . import outcome, study_page, study_text
from . import run as runs
from .bench import cores
from .compare import Described, compare
from .config import Config
from .data_source import RecordedSet
from .own_data import compare_sites, read_sites
from .study import Study


class Result(NamedTuple):
    """The result in three forms, each made when it is asked for."""

    html: Callable[[], str]
    lines: Callable[[], list[str]]
    json: Callable[[], str]


def run(config: Config, where: str, jobs: int | None, quiet: bool) -> Result:
    """Simulate as the settings say. jobs: processes at once; None: one a core. Raises FedgeError."""
    workers = jobs or cores()
    if config.model is not None:
        return _forms(_own(config, where, workers, quiet))
    if config.compare:
        return _forms(_recorded(config, where, workers))
    with _bar("simulating") as bar:
        found = runs.simulate(config, where, lambda point, rounds: _advance(bar, point.round, rounds))
    return Result(lambda: render(outcome.page(found)), lambda: outcome.lines(found), lambda: outcome.as_json(found))


def _own(config: Config, where: str, workers: int, quiet: bool) -> Study:
    """Compare on files of one's own."""
    assert config.model is not None
    model = load_model(config.model, config.card, None)
    patterns = (config.data,) if isinstance(config.data, str) else config.data
    found = find(patterns, model.card.image is not None)
    with _bar("reading") as bar:
        rows = read_sites(found, model.graph, config, lambda done, of: _advance(bar, done, of))
    for name, site in {} if quiet else rows.items():
        parts = f"{len(site.x):,} samples, {site.left_out:,} left out; held back: {site.units.kind}"
        click.echo(f"{name}: {parts}", err=True)
    with _bar("simulating") as bar:
        return compare_sites(rows, model.to_bytes(), config, where, workers, lambda done, of: _advance(bar, done, of))


def _recorded(config: Config, where: str, workers: int) -> Study:
    """Compare on a recorded or simulated set."""
    source = RecordedSet(config, where)
    with _bar("simulating") as bar:
        return compare(config, where, source, Described(), workers, lambda done, of: _advance(bar, done, of))


def _forms(study: Study) -> Result:
    return Result(lambda: study_page.render(study), lambda: study_text.lines(study), lambda: study_text.as_json(study))


def _bar(label: str) -> Any:
    return click.progressbar(length=1000, label=label, file=sys.stderr, show_eta=True)


def _advance(bar: Any, done: int, of: int) -> None:
    bar.update(round(1000 * done / of) - bar.pos)
