# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent browse FILE`: how a table is understood, and the lines that read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from fedge_models.errors import FedgeError

from .options import load_config

if TYPE_CHECKING:
    from ..protocols.csv.guess import Understood


def file_of(target: str, config_path: Path) -> Path | None:
    """The file that is meant: a path, a pattern of names, or that of a configured source; None: it is a server."""
    from ..protocols.csv import listing

    if "://" in target:
        return None
    path = Path(target)
    if listing.is_pattern(path) and not path.exists():
        found = listing.found(path)
        return found[-1] if found else path
    if path.exists():  # a folder is refused in words
        return path
    if (
        path.suffix.lower() in (".csv", ".txt", ".tsv", ".gz", ".xlsx", ".xlsm", ".dat", ".log", ".asc")
        or "/" in target
    ):
        return path  # the reader says that there is none
    try:
        table = load_config(config_path).source.get(target, {})
    except FedgeError:
        return None
    return Path(table["path"]) if table.get("type") == "files" and "path" in table else None


def browse_file(path: Path, given: str, config_lines: bool, as_json: bool) -> None:
    """Show a file."""
    from ..protocols.csv import first_rows, guess, listing, snippet

    found = guess.understand(path)
    source = Path(given) if listing.is_pattern(Path(given)) else path
    name = snippet.source_name(source)
    wrong = first_rows.problems(path, found.form, found.tags, snippet.can_be_followed(path, found), advise=False)
    written = list(snippet.lines(source, found, name))
    if as_json:
        click.echo(msgspec.json.encode(_json(found, wrong, written)))
        return
    if not config_lines:
        for line in snippet.table(found):
            click.echo(line)
        if found.elsewhere:
            click.echo(f"{found.elsewhere} of the first lines have another number of cells, and are left out")
        if found.broken:
            click.echo(f"{found.broken} of the first lines are no CSV (NUL bytes, carriage returns), and are left out")
        for line in (*found.doubts, *wrong):
            click.echo(f"look: {line}")
        click.echo("")
    for line in written:
        click.echo(line)


def _json(found: Understood, wrong: list[str], written: list[str]) -> dict[str, object]:
    from ..protocols.csv.guess import keys_of

    columns = [{"name": c.name, "kind": c.kind, "first": c.cells[0] if c.cells else None} for c in found.columns]
    return {
        "keys": keys_of(found.form),
        "columns": columns,
        "tags": found.tags,
        "doubts": found.doubts,
        "problems": wrong,
        "lines": written,
    }
