# SPDX-License-Identifier: Apache-2.0
"""What replaces each source of a gateway: a table that it follows, or a folder that pictures come into.

Every type of source has an entry in `REPLAYS`; one without is refused. A source of values becomes one of type "files",
a source of pictures one of type "images". An MQTT source of pictures may have both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedge_agent.config.plugins import load_class
from fedge_agent.protocols.csv import guess
from fedge_agent.protocols.csv.form import Form
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.sources.image_names import Times
from fedge_agent.sources.images import ImagesConfig
from fedge_agent.sources.registry import SOURCES
from fedge_agent.types import Table
from fedge_models.errors import ConfigError
from fedge_models.system import kinds, settings
from fedge_models.system.addresses import shown_device
from fedge_models.system.text import counted

from . import finding, pictures, served, tables, uses
from .folder import AgentFile
from .pictures import Pictures
from .served import ServedPart
from .settings import FILE, SourceSettings
from .tables import Recording
from .uses import Use

ALL_PICTURES = "*"
SERVERS = {"opcua": "an OPC UA server", "mqtt": "an MQTT broker (mosquitto)"}
ADDRESSES = ("url", "path", "device")  # keys that say where a source is


class TablePart(NamedTuple):
    """A table that is replayed as the source `name`."""

    name: str
    recording: Recording
    tags: list[str]  # columns


class PicturePart(NamedTuple):
    """A folder whose pictures are replayed as the source `name`, with these other keys."""

    name: str
    folder: Path
    pictures: Pictures
    keys: Table


Part = TablePart | PicturePart | ServedPart


class Replaced(NamedTuple):
    """What becomes of a source: its parts, where each use reads now, uses that are left out, and words for people."""

    parts: list[Part]
    reads: dict[Use, tuple[str, str]]  # use -> (source, tag)
    left_out: list[Use]
    words: list[str]


class Asked(NamedTuple):
    """One source of one gateway."""

    root: Path
    agent: AgentFile
    name: str
    table: Table
    given: SourceSettings
    uses: list[Use]
    rate_hz: Callable[[], float]  # of rows without a time, where nothing else says it
    connectors: bool = False  # serve what can be served, instead of a file

    @property
    def where(self) -> str:
        """How messages begin."""
        return f"gateway {self.agent.name}: [source.{self.name}]"


def replace(asked: Asked) -> Replaced:
    """Find what replaces a source. Raises ConfigError naming what is missing."""
    key = f"source.{asked.name}"
    kind, keys = kinds.choose(asked.table, {n: n for n in SOURCES}, str(asked.agent.path), key, "type", "source type")
    config = settings.convert(keys, load_class(SOURCES[kind]).Config, str(asked.agent.path), key)
    if kind not in REPLAYS:
        raise ConfigError(
            f"{asked.where}: a source of type {kind!r} cannot be rehearsed: nothing is known to replay it"
        )
    if not asked.uses:
        return Replaced([], {}, [], [f"{_of(asked)} is left out: no asset reads it"])
    if strange := uses.unknown(asked.given.columns, asked.uses):
        raise ConfigError(
            f"{FILE}: columns of source {asked.name!r}: nothing of gateway {asked.agent.name} is named {strange[0]!r}; "
            f"expected {', '.join(sorted({u.full for u in asked.uses}))}, or a tag of them"
        )
    return REPLAYS[kind](asked, config)


def _table(asked: Asked, config: Any) -> Replaced:
    """A source of values."""
    own = config if isinstance(config, FilesConfig) else None
    path = finding.table(asked.root, asked.agent, asked.name, asked.given.recording, own.path if own else None)
    form, doubts = _form(path, asked, own)
    rate = asked.given.rate_hz or (own.rate_hz if own and "rate_hz" in asked.table else None)
    if rate is None:
        rate = asked.rate_hz() if not form.time_column else 1.0
    recording = Recording(path, form, rate)
    there = tables.names(recording)
    found = uses.match(asked.uses, there, asked.given.columns)
    if found.missing:
        raise ConfigError(
            f"{asked.where}: {path} lacks what it needs: {'; '.join(found.missing)}. It has: "
            f"{', '.join(map(repr, there[:20]))}{', …' if len(there) > 20 else ''}. Name a column in {FILE}: "
            f'[source.{asked.name}] columns = {{ "{_first_missing(found, asked)}" = "COLUMN" }}'
        )
    tags = list(dict.fromkeys(found.columns.values()))
    if not tags:
        raise ConfigError(f"{asked.where}: {FILE} leaves out all that is read of it; name a column")
    words = [
        f"{_of(asked)} becomes a replay of {path}",
        *(f"{path}: {doubt}" for doubt in doubts if not _is_of_channels(doubt, asked)),
    ]
    if not form.time_column:
        words.append(f"{path} has no times: its rows are taken as {rate:g} a second (rate_hz in {FILE})")
    words += [f"{use.full} is left out, as {FILE} says" for use in found.left_out]
    if asked.connectors:
        part, why = served.part(asked.name, asked.table, config, recording, found.columns)
        if part is not None:
            words[0] = f"{_of(asked)} reads {SERVERS[part.kind]} of this machine, which replays {path}"
            return Replaced([part], {}, found.left_out, words)
        words.append(f"{asked.where} is not tried through its connector: {why}")
    if blocks := [use for use in asked.uses if use.waveform_hz is not None]:
        words.append(f"{asked.where}: waveforms are replayed sample by sample: {', '.join(u.full for u in blocks)}")
    return Replaced(
        [TablePart(asked.name, recording, tags)],
        {use: (asked.name, column) for use, column in found.columns.items()},
        found.left_out,
        words,
    )


def _is_of_channels(doubt: str, asked: Asked) -> bool:
    """Whether it is said that a table has nothing for a channel, and nothing of the source is one."""
    return guess.NOTHING_FOR_A_CHANNEL in doubt and not any(use.key[0] == "channels" for use in asked.uses)


def _form(path: Path, asked: Asked, own: FilesConfig | None) -> tuple[Form, list[str]]:
    """How a table is written: as the source's own keys say, or guessed, with those of `rehearse.toml` on top."""
    key = f"source.{asked.name}.form"
    if own is None:
        return tables.form_of(path, asked.given.form, str(asked.root / FILE), key)
    named = settings.convert(asked.given.form, Form, str(asked.root / FILE), key)
    keys: dict[str, Any] = {name: getattr(own, name) for name in Form.__struct_fields__}
    return Form(**{**keys, **{name: getattr(named, name) for name in asked.given.form}}), []


def _first_missing(found: uses.Matched, asked: Asked) -> str:
    return next(u.full for u in asked.uses if u not in found.columns and u not in found.left_out)


def _images(asked: Asked, config: ImagesConfig) -> Replaced:
    """A folder of pictures stays one, with its keys."""
    path = finding.pictures(asked.root, asked.agent, asked.name, asked.given.recording, config.path)
    keys = {k: v for k, v in asked.table.items() if k not in ("type", "path", "move_to")}
    return _replayed(asked, asked.name, path, keys, config, {use: use.tag for use in asked.uses})


def _camera(asked: Asked, _: Any) -> Replaced:
    """Every tag of a camera is its picture."""
    path = finding.pictures(asked.root, asked.agent, asked.name, asked.given.recording)
    return _replayed(asked, asked.name, path, {}, ImagesConfig(path), dict.fromkeys(asked.uses, ALL_PICTURES))


def _mqtt(asked: Asked, config: Any) -> Replaced:
    """Values, or pictures: those of the topics without a JSON pointer."""
    if config.payload != "image":
        return _table(asked, config)
    shown = [use for use in asked.uses if "#" not in use.tag]
    others = [use for use in asked.uses if use not in shown]
    made = _pictures_of_topics(asked._replace(uses=shown), config) if shown else Replaced([], {}, [], [])
    if not others:
        return made
    values = _table(asked._replace(name=f"{asked.name}-values", uses=others, given=SourceSettings()), config)
    return Replaced(
        made.parts + values.parts, made.reads | values.reads, made.left_out + values.left_out, made.words + values.words
    )


def _pictures_of_topics(asked: Asked, config: Any) -> Replaced:
    """The pictures of a broker: of several topics, `columns` says which names of files are whose."""
    path = finding.pictures(asked.root, asked.agent, asked.name, asked.given.recording)
    topics = list(dict.fromkeys(use.tag for use in asked.uses))
    patterns = {topic: asked.given.columns.get(topic, "") for topic in topics}
    if len(topics) == 1:
        patterns[topics[0]] = patterns[topics[0]] or ALL_PICTURES
    if missing := [topic for topic, pattern in patterns.items() if not pattern]:
        raise ConfigError(
            f"{asked.where}: pictures of {len(topics)} topics are in one folder; name the files of each in {FILE}: "
            f'[source.{asked.name}] columns = {{ "{missing[0]}" = "cam1_*.png" }}'
        )
    keys = {"raw": asked.table["raw"]} if "raw" in asked.table else {}
    images = ImagesConfig(path, raw=config.raw)
    return _replayed(asked, asked.name, path, keys, images, {use: patterns[use.tag] for use in asked.uses})


def _replayed(
    asked: Asked, name: str, path: Path, keys: Table, config: ImagesConfig, tags: Mapping[Use, str]
) -> Replaced:
    interval = asked.given.picture_interval
    times = Times(config.time_pattern, config.time_format)
    found = pictures.of_folder(
        path, list(dict.fromkeys(tags.values())), config.ignore, times, bool(config.time_pattern), interval
    )
    words = [f"{_of(asked)} becomes a replay of {counted(len(found.found), 'picture')} of {path}"]
    if found.assumed_s is not None and interval is None:
        words.append(
            f"{path}: the times of its files are those of a copy: one picture every {found.assumed_s:g} s is assumed "
            f"(picture_interval in {FILE})"
        )
    part = PicturePart(name, path, found, keys)
    return Replaced([part], {use: (name, tag) for use, tag in tags.items()}, [], words)


def _of(asked: Asked) -> str:
    """A source in words: its table, type and address, without secrets."""
    at = next((str(asked.table[key]) for key in ADDRESSES if key in asked.table), "")
    return f"{asked.where} ({asked.table['type']}, {shown_device(at)})"


REPLAYS: dict[str, Callable[[Asked, Any], Replaced]] = {
    "camera": _camera,
    "files": _table,
    "http": _table,
    "images": _images,
    "mqtt": _mqtt,
    "opcua": _table,
    "sparkplug": _table,
}
