# SPDX-License-Identifier: Apache-2.0
"""Which files are which site: patterns, files and folders as they are typed, by the site's name.

Every file or folder is a site, called by its name without the ending. ``NAME=PATTERN`` names a site, and makes one of
all that the pattern matches. A folder is a site of pictures where the model takes pictures, else of the tables in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedge_models.errors import DataError
from fedge_models.system.settings import NAME

TABLES = (".csv", ".gz", ".xlsx", ".npz", ".txt", ".tsv")
SHOWN = 8  # names in a message
LONGEST = 64  # characters of a site's name, as of a gateway's
_NAMED = re.compile(rf"({NAME})=(.+)")


def find(patterns: Sequence[str], pictures: bool) -> dict[str, tuple[Path, ...]]:
    """Return the files of each site, or its folder of pictures. Raises DataError for what matches nothing."""
    found: dict[str, tuple[Path, ...]] = {}
    taken: dict[Path, str] = {}
    for pattern in patterns:
        for name, paths in _sites(pattern):
            fresh = [path for path in paths if path.resolve() not in taken]
            if not fresh:
                continue  # two patterns match it
            if name in found:
                raise DataError(_collision(name, found[name][0], fresh[0]))
            taken |= dict.fromkeys((path.resolve() for path in fresh), name)
            found[name] = tuple(part for path in fresh for part in _files(path, pictures))
    return found


def _sites(pattern: str) -> Iterator[tuple[str, list[Path]]]:
    """Yield the names of sites and what belongs to each."""
    named = None if Path(pattern).exists() else _NAMED.fullmatch(pattern)
    if named is not None:
        yield named[1], _matches(named[2])
        return
    for path in _matches(pattern):
        yield name_of(path), [path]


def name_of(path: Path) -> str:
    """A site's name: that of its file without endings, or of its folder, in characters that a gateway's may have."""
    name = path.resolve().name
    while path.is_file() and Path(name).suffix.lower() in TABLES:
        name = Path(name).stem
    return cleaned(name)


def cleaned(name: str) -> str:
    """A name in characters that a gateway's may have."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    return (name if name[:1].isalnum() else f"site-{name}")[:LONGEST]


def _matches(pattern: str) -> list[Path]:
    if Path(pattern).exists():
        return [Path(pattern)]
    path = Path(pattern)
    root = Path(path.anchor) if path.anchor else Path()
    found = [p for p in root.glob(str(path.relative_to(path.anchor))) if not p.name.startswith(".")]
    if found:
        return sorted(found, key=_natural)
    folder = Path(pattern).parent
    while not folder.is_dir():
        folder = folder.parent
    here = sorted((p.name for p in folder.iterdir() if not p.name.startswith(".")), key=lambda n: _natural(Path(n)))
    more = f" and {len(here) - SHOWN} more" if len(here) > SHOWN else ""
    has = f"it has {', '.join(here[:SHOWN])}{more}" if here else "it is empty"
    raise DataError(f"--data {pattern!r}: matches no file or folder in {folder.resolve()}; {has}")


def _natural(path: Path) -> list[tuple[int, str, int]]:
    """plant2 comes before plant10."""
    parts = re.findall(r"\d+|\D+", str(path))
    return [(0, "", int(part)) if part.isdigit() else (1, part, 0) for part in parts]


def _files(path: Path, pictures: bool) -> list[Path]:
    """The tables in a folder; a file and a folder of pictures are themselves."""
    if path.is_file() or pictures:
        return [path]
    inside = [p for p in path.iterdir() if p.is_file() and p.suffix.lower() in TABLES and not p.name.startswith(".")]
    if not inside:
        folders = sum(p.is_dir() for p in path.iterdir())
        advice = f"; it has {folders} folders: --data '{path}/*' takes each as a site" if folders else ""
        raise DataError(f"{path}: is a folder without tables; expected files named {', '.join(TABLES)}{advice}")
    return sorted(inside, key=_natural)


def _collision(name: str, first: Path, second: Path) -> str:
    return (
        f"{first} and {second} would both be the site {name!r}; name them, for example: "
        f"--data {name}-1={first} --data {name}-2={second}"
    )
