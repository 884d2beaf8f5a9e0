"""The agent's TOML file as frozen structs: units and defaults beside each key, all of it checked before a socket opens.

Tables of sources and outputs are typed by their registry entry (`type` picks it); everything else is typed here.
`agent.example.toml` is the reference for people; a test holds that it loads and names every key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from fedge_models import settings
from fedge_models.bearing import Bearing
from fedge_models.errors import ConfigError
from fedge_models.privacy import Clip, Delta, Epsilon, NoiseMultiplier
from fedge_models.settings import Seconds

from . import budget
from .types import Table

NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[agent]``: this gateway."""

    name: str
    state: Path  # folder for key, models, samples, spool; created with mode 0700
    status: str = "127.0.0.1:0"  # loopback address of /status, /healthz and /metrics; port 0: any free one
    queue_batches: int = 10_000  # readings waiting between sources and windows, in batches
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[model.X] training``: when and how to train locally."""

    interval: Seconds = Seconds(3600)  # at least this often, once there are samples
    min_samples: int = 64  # none before this many usable samples
    new_samples: int = 256  # train early when this many came since the last training
    batch: Annotated[int, msgspec.Meta(ge=1)] = 32
    epochs: Annotated[int, msgspec.Meta(ge=0)] = 5
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: NotNegative = 0.001
    learning_rate_halving: Annotated[int, msgspec.Meta(ge=0)] = 0  # releases after which it has halved; 0: it stays
    schedule: Literal["constant", "cosine", "linear"] = "constant"  # of the learning rate within one training
    warmup: Fraction = 0.0  # of one training's steps, over which the learning rate rises to full
    momentum: Fraction = 0.9  # of sgd
    weight_decay: NotNegative = 0.01  # of adamw
    proximal_mu: NotNegative = 0.0  # FedProx: pull towards the base release
    drift_correction: Fraction = 0.5  # how much of its own drift a site takes back at the next training; 0: none
    clip_norm: NotNegative = 0.0  # of each batch's gradient; 0: no clipping
    fine_tune: Annotated[int, msgspec.Meta(ge=0)] = 2  # gentle epochs on a release before it serves here; 0: as it is
    holdout: float = 0.2  # fraction of time kept back for evaluation
    latency_budget: Seconds = Seconds(0.02)  # training pauses while the p99 of recent decisions is above


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[model.X] privacy``: noise on every update, and what all of them together may give away (docs/privacy.md)."""

    clip: Clip  # an update longer than this (L2, in parameter units) is scaled down to it
    noise_multiplier: NoiseMultiplier  # standard deviation of the noise on each parameter, in clip norms
    epsilon: Epsilon  # the budget: once it is spent nothing is trained or sent any more
    delta: Delta  # probability with which epsilon may not hold; well below one over the number of sites


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[model.X]``: a federation this gateway takes part in; X is the federation's name at the aggregator."""

    file: Path | None = None  # ONNX file to serve without (or before) an aggregator
    training: Training = Training()
    privacy: Privacy | None = None  # without: updates carry no noise
    poll: Seconds = Seconds(30)  # how often to ask for a newer release
    canary_tolerance: float = 0.1  # refuse a release whose held-back loss is worse by more than this fraction
    confidence: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.9  # regress: with which its bounds are to hold
    trend: Seconds = Seconds(14 * 86400)  # regress: the past from which it is told when an alarm level will be reached
    max_samples: Annotated[int, msgspec.Meta(ge=1)] = 20_000  # kept locally; the oldest of the commonest label go first
    max_sample_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 * 2**20  # what they may take in memory while training


class TagConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a channel or label comes from."""

    source: str
    tag: str
    index: int | None = None  # of a 2-d waveform tag: which row
    waveform_hz: float | None = None  # the tag is an array: samples this far apart
    map: dict[str, str] = {}  # label only: tag value -> label name of the card


class WindowConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X] window``: overrides of the model card's window, and how long a value may be held."""

    rate_hz: float | None = None
    length: int | None = None
    hop: int | None = None
    max_hold: Seconds | None = None  # a value older than this is a gap; default: 3 samples
    max_missing: float = 0.1  # windows with a larger fraction of gaps get no decision
    lateness: Seconds | None = None  # wait this long (source time) for slower channels; default: 2 samples


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X] when``: from decisions to events: one event each time the machine gets worse, not one a window."""

    score_above: float | Literal["threshold"] = "threshold"  # "threshold": the decision's own
    clear_below: float = 0.8  # times score_above: hysteresis
    for_windows: int = 3  # consecutive windows above before an event opens, and below before it clears
    min_gap: Seconds = Seconds(4 * 3600)  # between the openings of two events


class AssetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X]``: a machine."""

    model: str
    channels: dict[str, TagConfig]
    window: WindowConfig = WindowConfig()
    label: TagConfig | None = None
    targets: dict[str, TagConfig] = {}  # regress with several targets: where each of them is measured
    when: When = When()
    bearing: Bearing | None = None  # of this machine, where features look for its defects; else the model card's
    shaft_rpm: TagConfig | None = None  # the shaft's speed, where it varies

    def tags(self) -> dict[str, TagConfig]:
        """Every tag that the asset wants, by its key."""
        found = {f"channels.{c}": t for c, t in self.channels.items()}
        found |= {f"targets.{t}": tag for t, tag in self.targets.items()}
        single = {"label": self.label, "shaft_rpm": self.shaft_rpm}
        return found | {key: tag for key, tag in single.items() if tag is not None}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    agent: AgentConfig
    source: dict[str, Table] = {}
    model: dict[str, ModelConfig] = {}
    asset: dict[str, AssetConfig] = {}
    output: dict[str, Table] = {}


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError naming file and key."""
    config = settings.load(path, Config)
    _check_names(path, config)
    for name, model in config.model.items():
        if model.privacy is not None:
            budget.check(model.privacy, f"{path}: key 'model.{name}.privacy'")
    for name, asset in config.asset.items():
        _check_asset(path, name, asset, config)
    return config


def refer(name: str, known: Iterable[str], where: str) -> None:
    """Raise ConfigError unless `name` is one of `known`, suggesting the nearest."""
    names = sorted(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(names) or 'none is configured'}"
    raise ConfigError(f"{where}: {name!r} is not configured; {hint}")


def _check_asset(path: Path, name: str, asset: AssetConfig, config: Config) -> None:
    refer(asset.model, config.model, f"{path}: key 'asset.{name}.model'")
    if not asset.channels:
        raise ConfigError(f"{path}: key 'asset.{name}.channels': expected at least one channel")
    if asset.label and asset.targets:
        raise ConfigError(f"{path}: key 'asset.{name}.targets': a label is given too; give one or the other")
    if asset.bearing is not None:
        try:
            asset.bearing.orders()
        except ValueError as e:
            raise ConfigError(f"{path}: key 'asset.{name}.bearing': {e}") from e
    for key, tag in asset.tags().items():
        refer(tag.source, config.source, f"{path}: key 'asset.{name}.{key}.source'")


def _check_names(path: Path, config: Config) -> None:
    tables: dict[str, Mapping[str, object]] = {
        "source": config.source,
        "model": config.model,
        "asset": config.asset,
        "output": config.output,
    }
    keys = [("agent.name", config.agent.name)]
    keys += [(table, name) for table, entries in tables.items() for name in entries]
    for key, name in keys:
        if not re.match(NAME, name):
            raise ConfigError(f"{path}: key {key!r}: name {name!r} must match {NAME}")
    for kind, entries in (("source", config.source), ("output", config.output)):
        for name, table in entries.items():
            if not isinstance(table.get("type"), str):
                raise ConfigError(f"{path}: key '{kind}.{name}.type': missing; it picks the kind of {kind}")
