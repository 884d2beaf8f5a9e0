# SPDX-License-Identifier: Apache-2.0
"""Find the recording that replaces a source, and the model file of a federation, by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from fedge_agent.protocols.csv import listing
from fedge_models.errors import ConfigError
from fedge_models.system import settings

from .folder import AgentFile, Folder

TABLES = (".csv", ".csv.gz", ".txt", ".tsv", ".xlsx")


def table(root: Path, agent: AgentFile, source: str, given: Path | None, own: Path | None = None) -> Path:
    """The table that is replayed for a source. Raises ConfigError that lists where it was looked for.

    given: what `rehearse.toml` says; own: the path of a source that reads files anyway.
    """
    looked = [given] if given is not None else [*_names(root, agent, source, TABLES), *_of_its_own(agent, own)]
    for path in looked:
        if path.is_file() or (listing.is_pattern(path) and listing.found(path)):
            return path
    raise ConfigError(_absent(agent, source, "table", looked, TABLES))


def pictures(root: Path, agent: AgentFile, source: str, given: Path | None, own: Path | None = None) -> Path:
    """The folder of pictures that is replayed for a source. Raises ConfigError that lists where it was looked for."""
    looked = [given] if given is not None else [*_names(root, agent, source, ("",)), *_of_its_own(agent, own)]
    for path in looked:
        if path.is_dir():
            return path
    raise ConfigError(_absent(agent, source, "folder of pictures", looked, ("",)))


def beside(path: Path, config: Path, root: Path) -> Path | None:
    """A file that a configuration names: where it says or, if that is not on this machine, beside the configuration."""
    places = (path, config.parent / path.name, root / path.name, root / "models" / path.name)
    return next((place for place in places if place.is_file()), None)


def model(folder: Folder, federation: str) -> tuple[Path, Path | None]:
    """The ONNX file and, if there is one, the card of a federation's first release. Raises ConfigError."""
    given = folder.settings.model.get(federation)
    if given is not None and given.file is not None:
        return _there(given.file), _there(given.card) if given.card is not None else None
    for agent in folder.agents.values():
        own = agent.config.model.get(federation)
        if (
            own is not None
            and own.file is not None
            and (found := beside(own.file, agent.path, folder.root)) is not None
        ):
            card = beside(own.card, agent.path, folder.root) if own.card is not None else None
            return found, card or _card(found, federation)
    named = [str(a.config.model[federation].file) for a in folder.agents.values() if _has_file(a, federation)]
    looked = [place / f"{federation}.onnx" for place in (folder.root, folder.root / "models")]
    for path in looked:
        if path.is_file():
            return path, given.card if given is not None and given.card is not None else _card(path, federation)
    missing = f" ({named[0]}, which a gateway names, is not there)" if named else ""
    raise ConfigError(
        f"federation {federation!r} has no model file{missing}: expected {looked[0]}, or file under "
        f"[model.{federation}] of a gateway or of {folder.root / 'rehearse.toml'}. A starter: "
        f"fedge-agent model new {federation} --config GATEWAY.toml --out {looked[0].name}"
    )


def _has_file(agent: AgentFile, federation: str) -> bool:
    own = agent.config.model.get(federation)
    return own is not None and own.file is not None


def _names(root: Path, agent: AgentFile, source: str, endings: tuple[str, ...]) -> Iterator[Path]:
    """Files named after the gateway and the source, then after the source alone."""
    stem = agent.path.name.removesuffix(".toml").removesuffix(".agent")
    owners = list(dict.fromkeys((agent.name, stem)))
    places = list(dict.fromkeys((agent.path.parent, root, root / "recordings")))
    for place in places:
        for owner in owners:
            yield from (place / owner / f"{source}{ending}" for ending in endings)
            yield from (place / f"{owner}.{source}{ending}" for ending in endings)
    yield from (place / f"{source}{ending}" for place in places for ending in endings)


def _of_its_own(agent: AgentFile, own: Path | None) -> Iterator[Path]:
    if own is not None:
        yield from (own, agent.path.parent / own.name)


def _absent(agent: AgentFile, source: str, what: str, looked: list[Path], endings: tuple[str, ...]) -> str:
    first = looked[0] if len(looked) == 1 else agent.path.parent / f"{source}{endings[0]}"
    stem = agent.path.parent / agent.name / f"{source}{endings[0]}"
    where = f"{first}" if len(looked) == 1 else f"{first}, or {stem} where several gateways have such a source"
    return f"gateway {agent.name}: [source.{source}] has no recording: expected the {what} {where}"


def _card(model_file: Path, federation: str) -> Path | None:
    """A card beside a model file, by its name."""
    stems = dict.fromkeys((model_file.stem, federation))
    places = [model_file.with_name(f"{stem}{ending}") for stem in stems for ending in (".card.toml", ".toml")]
    return next((path for path in places if path.is_file() and _is_card(path)), None)


def _is_card(path: Path) -> bool:
    found: Mapping[str, object] = settings.read(path)
    return "task" in found and not {"agent", "aggregator"} & set(found)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; correct it in rehearse.toml")
    return path
