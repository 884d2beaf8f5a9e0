# SPDX-License-Identifier: Apache-2.0
"""Read a folder of pictures as samples: each is decoded, cut and resized as on the gateway.

The label is the sub-folder that a picture lies in, or stands in `labels.csv` beside them (`picture_labels`). Where the
folder has `train` and `test`, the pictures in `test` are for the evaluation. Pictures that cannot be decoded are left
out and counted, as on the gateway. What else is not read is named in the notes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from fedge_models.errors import DataError, PictureError
from fedge_models.graph.card import Card, ImageSpec
from fedge_models.system.text import counted
from numpy.typing import NDArray

from ..protocols.csv.form import Form
from ..types import Pixels
from ..windows.pictures import MAX_BYTES, check_decoder, decode, prepare
from . import picture_labels
from .picture_labels import TABLE

SUFFIXES = (".png", ".jpg", ".jpeg")
TRAIN, TESTS = "train", ("test", "val")  # folders above those of the labels; the first of TESTS that is there counts
MAX_FILES = 1_000_000  # a wrong folder (a home, a whole disk) is refused instead of being read for hours


class Pictures(NamedTuple):
    """The pictures of a folder, in the order of their names."""

    x: NDArray[np.uint8]  # (n, colours, height, width)
    y: NDArray[Any]  # as of a `Dataset`
    test: NDArray[np.bool_] | None  # (n,); None: nothing is marked
    left_out: int  # number of pictures that cannot be decoded
    notes: tuple[str, ...]  # what was not read, and how labels were understood
    lacking: str  # why no sample has a label; empty where the folder has labels


class Found(NamedTuple):
    """Files below a folder, as paths relative to it."""

    pictures: list[PurePosixPath]
    others: Counter[str]  # files that are no pictures, by the ending of their name
    aside: Counter[str]  # pictures in folders that are not read


def read(folder: Path, card: Card, label: Sequence[str], form: Form | None) -> Pictures:
    """Read all pictures of a folder. label, form: of `labels.csv`.

    Raises DataError for a folder without pictures or with labels that the model does not have, and ConfigError where
    Pillow is not installed.
    """
    if card.image is None:
        raise DataError(
            f"{folder}: is a folder, which is read for its pictures; the model takes none (no image on its card)"
        )
    check_decoder()
    parts = _parts(folder, card)
    found = _found(folder, parts)
    if not found.pictures:
        raise DataError(
            f"{folder}: has no PNG or JPEG{_kinds(found.others)}; expected files named {', '.join(SUFFIXES)}"
        )
    labels = picture_labels.of(folder, found.pictures, min(1, len(parts)), card, label, form)
    marked = labels.test if labels.test is not None else _marked(found.pictures, parts)
    x, good, why = _decoded(folder, found.pictures, card.image)
    notes = (*labels.notes, *_notes(found), *why)
    test = None if marked is None else marked[good]
    return Pictures(x, labels.y[good], test, int((~good).sum()), notes, labels.lacking)


def _parts(folder: Path, card: Card) -> tuple[str, ...]:
    """The names of the folders to train on and for the evaluation; empty where the folder is not parted so."""
    if (folder / TABLE).is_file() or not (folder / TRAIN).is_dir() or {TRAIN, *TESTS} & {*card.labels}:
        return ()
    return (TRAIN, *[name for name in TESTS if (folder / name).is_dir()][:1])


def _found(folder: Path, parts: tuple[str, ...]) -> Found:
    """Walk through a folder and its sub-folders."""
    found = Found([], Counter(), Counter())
    for number, path in enumerate(_files(folder), 1):
        if number > MAX_FILES:
            raise DataError(f"{folder}: has more than {MAX_FILES:,} files; expected a folder of pictures")
        top = path.parts[0] if len(path.parts) > 1 else ""
        if path.suffix.lower() not in SUFFIXES:
            if str(path) != TABLE:
                found.others[path.suffix.lower() or path.name] += 1
        elif parts and top not in parts:
            found.aside[top or "the folder itself"] += 1
        else:
            found.pictures.append(path)
    found.pictures.sort(key=natural)
    return found


def natural(path: PurePosixPath) -> list[tuple[str, int, str]]:
    """A key for sorting, by which img2 comes before img10: pictures of one moment lie side by side."""
    parts = re.split(r"(\d+)", str(path))
    return [(text, int(number or -1), number) for text, number in zip(parts[::2], [*parts[1::2], ""], strict=True)]


def _files(folder: Path) -> Iterator[PurePosixPath]:
    """Yield the files below a folder, those behind links too, each folder once; hidden ones are left alone."""
    seen = set[tuple[int, int]]()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield PurePosixPath(Path(root, name).relative_to(folder).as_posix())


def _refuse(error: OSError) -> None:
    raise error


def _marked(pictures: list[PurePosixPath], parts: tuple[str, ...]) -> NDArray[np.bool_] | None:
    """Which pictures lie in the folder for the evaluation."""
    if len(parts) < len((TRAIN, TESTS)):
        return None
    return np.array([path.parts[0] == parts[1] for path in pictures], np.bool_)


def _decoded(
    folder: Path, pictures: list[PurePosixPath], spec: ImageSpec
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]:
    """The pictures that can be decoded, which those are, and what became of the others."""
    x, good = np.empty((len(pictures), *spec.shape), np.uint8), np.zeros(len(pictures), np.bool_)
    wrong: list[str] = []
    for i, path in enumerate(pictures):
        try:
            x[i - len(wrong)] = prepare(_pixels(folder / path), spec)
            good[i] = True
        except PictureError as e:
            wrong.append(f"{path}: {e}")
    if not good.any():
        raise DataError(f"{folder}: none of {len(pictures)} pictures can be decoded; the first, {wrong[0]}")
    why = [f"not decoded, and left out: {counted(len(wrong), 'picture')}; the first, {wrong[0]}"] if wrong else []
    return x[: len(pictures) - len(wrong)], good, why


def _pixels(path: Path) -> Pixels:
    with path.open("rb") as file:
        return decode(file.read(MAX_BYTES + 1))


def _notes(found: Found) -> Iterator[str]:
    if found.others:
        yield f"not read: {counted(found.others.total(), 'file')}, no PNG or JPEG by name{_kinds(found.others)}"
    if found.aside:
        yield f"not read: {counted(found.aside.total(), 'picture')} in {picture_labels.listed(found.aside)}"


def _kinds(others: Counter[str]) -> str:
    return f" ({picture_labels.listed(others)})" if others else ""
