# SPDX-License-Identifier: Apache-2.0
"""The settings of a simulation: a TOML file as a frozen struct; every key is also a flag of the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system import settings
from fedge_models.training.config import Fraction
from msgspec import Meta

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Table = dict[str, Any]
Texts = tuple[str, ...]
Positive = Annotated[int, Meta(ge=1)]
COMMAND = "fedge-fleet simulate"
PLAIN = ("data", "model", "card", "form", "label")  # flags whose value is a text as it is
LISTS = ("data", "label", "rules", "attacks", "shares")


def named(name: str) -> Any:
    """The default of a table."""
    return msgspec.field(default_factory=lambda: {"name": name})


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file; docs/data-scientist/simulate.md explains the tables."""

    model: Annotated[Path | None, Meta(description="ONNX file, to simulate with data of your own.")] = None
    card: Annotated[Path | None, Meta(description="TOML file with the model card, for a file that has none.")] = None
    data: Annotated[
        Texts | str, Meta(description="With `model`: patterns; each file or folder is a site. Else: folder of the set.")
    ] = ()
    label: Annotated[Texts, Meta(description="Column of the label, or of each target, in your tables.")] = ()
    form: Annotated[Path | None, Meta(description="TOML file with the form of your tables. Default: guessed.")] = None
    set: Annotated[str, Meta(description="Which data; bearings are simulated and need none.")] = "bearings"
    sites: Annotated[int, Meta(ge=2, le=5000, description="How many the data is dealt to. Of your own: all.")] = 20
    skew: Annotated[Table, Meta(description="How the data is dealt: own, even, dirichlet, classes, quantity.")] = named(
        "own"
    )
    federation: Annotated[
        Table, Meta(description="As in the aggregator's file: mode, quorum, deadline, share, buffer, ...")
    ] = {}
    rule: Annotated[
        Table | None, Meta(description="As in the aggregator's file. Default: the aggregator's, with its mixing.")
    ] = None
    mixing: Annotated[Table | None, Meta(description="As in the aggregator's file.")] = None
    server_optimizer: Annotated[Table | None, Meta(description="As in the aggregator's file. Default: the set's.")] = (
        None
    )
    trust: Annotated[Table | None, Meta(description="As in the aggregator's file; `--no-trust` only watches.")] = (
        msgspec.field(default_factory=dict)
    )
    training: Annotated[
        Table,
        Meta(description="As in the agent's file: epochs, batch, own_model, ... Default: the agent's, the set's."),
    ] = {}
    attack: Annotated[Table, Meta(description="What hostile sites do.")] = named("sign_flip")
    hostile: Annotated[float, Meta(ge=0, lt=1, description="Share of the sites.")] = 0.0
    stragglers: Annotated[float, Meta(ge=0, le=1, description="Share of the sites.")] = 0.0
    slowness: Annotated[float, Meta(ge=1, description="How many times longer stragglers train.")] = 20.0
    dropouts: Annotated[
        float, Meta(ge=0, lt=1, description="Share of trainings after which a site is away, its update lost.")
    ] = 0.0
    rounds: Annotated[Positive | None, Meta(description="Default: 20, or as many as the set's plan has.")] = None
    drift_correction: Annotated[
        Fraction | None, Meta(description="As in the agent's file. Default: the agent's, or the set's.")
    ] = None
    seed: Annotated[int, Meta(ge=0, description="The same seed, the same bits.")] = 0
    seeds: Annotated[Positive, Meta(le=100, description="Repetitions, each with other data held back.")] = 5
    compare: Annotated[bool, Meta(description="Compare rules under attacks, with each site alone and all pooled.")] = (
        False
    )
    rules: Annotated[Texts, Meta(description="To compare: names of rules, `-no-trust` behind one, or all.")] = ()
    attacks: Annotated[Texts, Meta(description="To compare under: names of attacks, or all.")] = ()
    shares: Annotated[tuple[Annotated[float, Meta(gt=0, lt=1)], ...], Meta(description="Hostile sites, as shares.")] = (
        0.2,
        0.3,
    )

    def folder(self, where: str) -> Path | None:
        """The folder of a recorded set. Raises ConfigError for several."""
        given = (self.data,) if isinstance(self.data, str) else self.data
        if len(given) > 1:
            raise ConfigError(
                f"{where}: key 'data': one folder for a set, got {len(given)}; data of your own need 'model'"
            )
        return Path(given[0]) if given else None


def keys() -> dict[str, str]:
    """Return every key with its meaning in one line."""
    hints = get_type_hints(Config, include_extras=True)
    return {name: hints[name].__metadata__[-1].description for name in Config.__struct_fields__}


def flagged(flags: Mapping[str, Any]) -> Table:
    """Read flags as keys: TOML values, a bare word as text, a word for a table as its name, a,b for a list.

    Raises ConfigError.
    """
    tables = {"skew", "rule", "mixing", "server_optimizer", "attack"}
    found: Table = {}
    for name, given in flags.items():
        if name in PLAIN or not isinstance(given, str):
            found[name] = given
            continue
        value = _value(name, given)
        if name in tables and isinstance(value, str):
            value = {"name": value}
        found[name] = value
    return found


def read(path: Path | None, flags: Mapping[str, Any]) -> tuple[Config, str]:
    """Read the file, if there is one, under the flags; return it with its name for messages. Raises ConfigError."""
    where = str(path) if path else COMMAND
    table = settings.load(path, dict) if path else {}
    if path is not None and isinstance(given := table.get("data"), (str, list)):
        texts = [given] if isinstance(given, str) else given
        table["data"] = [_beside(path, text) for text in texts]
    return settings.convert({**table, **flags}, Config, where), where


def _beside(path: Path, pattern: Any) -> Any:
    """A pattern of a file is relative to the file's folder, as its other paths."""
    return str(path.parent / pattern) if isinstance(pattern, str) and "=" not in pattern else pattern


def _value(name: str, text: str) -> Any:
    if name in LISTS and not text.lstrip().startswith("["):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [_value("", part) for part in parts]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as e:
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise ConfigError(f"{COMMAND}: key {name!r}: {text!r} is not valid TOML: {e}") from e
        return text
