# SPDX-License-Identifier: Apache-2.0
"""The agent's TOML file as frozen structs: units and defaults beside each key, all of it checked before a socket opens.

Tables of sources and outputs are typed by their registry entry (`type` picks it); everything else is typed here.
`agent.example.toml` is the reference for people; a test holds that it loads and names every key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from fedge_models.errors import ConfigError
from fedge_models.graph.bearing import Bearing
from fedge_models.graph.card import MAX_LENGTH, MAX_RATE_HZ, MIN_RATE_HZ
from fedge_models.privacy import budget
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.system import settings
from fedge_models.system.choices import hint
from fedge_models.system.settings import Positive, Seconds
from fedge_models.training.config import Epochs, Fraction, NotNegative, TrainingConfig

from ..protocols.csv.form import TableForm
from ..types import Table
from . import templates as templating

Count = Annotated[int, msgspec.Meta(ge=1)]
Rate = Annotated[float, msgspec.Meta(ge=MIN_RATE_HZ, le=MAX_RATE_HZ)]  # Hz
AboveZero = Annotated[float, msgspec.Meta(gt=0)]


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[agent]``: this gateway."""

    name: str
    state: Path  # folder for key, models, samples, spool; created with mode 0700
    status: str = "127.0.0.1:0"  # loopback address of /status, /healthz and /metrics; port 0: any free one
    queue_batches: Count = 10_000  # readings waiting between sources and windows, in batches
    inbox_bytes: Count = (
        64 * 1024 * 1024
    )  # readings stored for a restart, of sources that acknowledge (MQTT); the oldest are deleted
    inbox_age: Positive = Positive(86400)  # stored readings older than this are deleted
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Training(TrainingConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[model.X] training``: when to train locally, and how (the keys of `TrainingConfig`)."""

    interval: Seconds = Seconds(3600)  # at least this often, once there are samples
    min_samples: Count = 64  # none before this many usable samples
    new_samples: Count = 256  # train early when this many came since the last training
    learning_rate_halving: Annotated[int, msgspec.Meta(ge=0)] = 0  # releases after which it has halved; 0: it stays
    drift_correction: Fraction = 0.5  # how much of its own drift a site takes back at the next training; 0: none
    fine_tune: Epochs = 2  # gentle epochs on a release before it serves here; 0: as it is
    own_model: Fraction = (
        0.5  # fraction of the epochs that a model of this site alone gets; it decides with the release or file; 0: none
    )
    holdout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = (
        0.2  # fraction of the units (runs, days, machines) held back for evaluation
    )
    latency_budget: Positive = Positive(0.02)  # training pauses while the p99 of recent decisions is above


class Questions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[model.X] questions``: asking people for the labels that are worth most."""

    a_day: Annotated[float, msgspec.Meta(ge=0, le=100)] = 2.0  # at most, by the source's clock; 0: none
    expire: Positive = Positive(7 * 86400)  # a question without an answer is dropped after so long, source time


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[model.X]``: a model, and the federation that it is learnt in, whose name at the aggregator is X."""

    file: Path | None = None  # ONNX file to serve, and to train from, without (or before) an aggregator
    card: Path | None = (
        None  # TOML file with the model card, for a file that has none; a note says in what it differs from the file's
    )
    training: Training = Training()
    privacy: SitePrivacy | None = None  # without: updates carry no noise
    statistics: bool = False  # send histograms of this site's channels, and compare it with other sites
    offer_start: bool = False  # where the card asks for it, send this site's local tensors as the start of new sites
    poll: Positive = Positive(30)  # how often to ask for a newer release
    canary_tolerance: NotNegative = 0.1  # refuse releases whose held-back loss rises by this part (of 0.05 at least)
    confidence: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.9  # regress: probability with which its bounds hold
    trend: Positive = Positive(14 * 86400)  # regress: history used to forecast when the alarm level is reached
    questions: Questions = Questions()
    max_samples: Annotated[int, msgspec.Meta(ge=1)] = 20_000  # stored; beyond, the oldest of the commonest label go
    max_sample_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 * 2**20  # memory for them while training


class TagConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a value comes from."""

    source: str
    tag: str
    index: Annotated[int, msgspec.Meta(ge=0)] | None = None  # row of a two-dimensional waveform tag
    waveform_hz: Rate | None = None  # sampling rate of a tag that is an array
    range: tuple[float, float] | None = None  # [low, high] of possible values; one outside counts as bad quality


class LabelConfig(TagConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X] label``: what the model learns from; without a tag, only labels that become known later."""

    source: str = ""
    tag: str = ""
    map: dict[str, str] = {}  # value of the tag or of a late label -> label name of the card
    late: Seconds | None = None  # how long (source time) windows wait for a label; default: not at all


class Inspection(TableForm, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X] inspection``: verdicts on parts or times, as readings of any source or rows of a growing CSV."""

    verdict: TagConfig | None = None  # each reading of this tag is a verdict
    part: TagConfig | None = None  # id of the part, sent with its verdict; matched with `context.part`
    time: TagConfig | None = None  # when it was made: ISO 8601 or Unix time; default: the time of the verdict's reading
    path: Path | None = None  # instead of tags: a CSV file with a header, read as it grows and through rotation
    verdict_column: str = "verdict"
    part_column: str = ""  # empty: verdicts are matched by time
    time_column: str = "time"  # empty: parts are enough
    only: dict[str, str] = msgspec.field(default_factory=dict)  # column -> value: rows with other values are skipped
    tolerance: Seconds = Seconds(0)  # a verdict applies to windows within this time of it
    part_age: Seconds = Seconds(7 * 86400)  # how long before its verdict a part may have been made


Samples = Annotated[int, msgspec.Meta(ge=1, le=MAX_LENGTH)]


class WindowConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X] window``: overrides of the model card's window, and how long a value may be held."""

    rate_hz: Rate | None = None
    length: Samples | None = None
    hop: Samples | None = None
    max_hold: Seconds | None = None  # a value older than this is a gap; default: 3 samples
    max_missing: Fraction = 0.1  # windows with a larger fraction of gaps get no decision
    lateness: Seconds | None = None  # wait this long (source time) for slower channels; default: 2 samples


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X] when``: what makes an event more severe; one of the two is enough."""

    score: NotNegative  # times score_above, held for `for_windows` windows
    after: Seconds  # open for so long, on the source's clock


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X] when``: when decisions become an event: one each time the machine gets worse, not one a window."""

    score_above: AboveZero | Literal["threshold"] = "threshold"  # "threshold": the machine's own, learnt; or a number
    clear_below: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8  # times score_above: hysteresis
    raise_at_most: Annotated[float, msgspec.Meta(ge=1, le=3)] = (
        1.5  # times the learnt limit: how far orders closed as false alarms may raise it; 1: not at all
    )
    for_windows: Annotated[int, msgspec.Meta(ge=1)] = 3  # consecutive windows above to open an event, below to clear it
    min_gap: Seconds = Seconds(4 * 3600)  # between the openings of two alike events, on the source's clock
    medium: Level = Level(score=2.0, after=Seconds(3600))  # severity; below it is "low"
    high: Level = Level(score=4.0, after=Seconds(8 * 3600))
    silent_for: Seconds = Seconds(3600)  # without a decision, after which a `silent` event opens; 0: never
    silent_severity: Literal["low", "medium", "high"] = "low"  # of such an event
    drift_for: Seconds = Seconds(3600)  # operation with inputs outside what was learnt, for a `drift` event; 0: never
    drift_severity: Literal["low", "medium", "high"] = "low"  # of such an event
    drift_baseline: Seconds = Seconds(86400)  # operation that must be learnt from before one opens


class AssetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[asset.X]``: a machine."""

    model: str
    channels: dict[str, TagConfig]
    window: WindowConfig = WindowConfig()
    label: LabelConfig | None = None
    targets: dict[str, TagConfig] = {}  # where each of several targets is measured (regress), or label (multilabel)
    inspection: Inspection | None = None
    context: dict[str, TagConfig] = {}  # job, product, recipe, part: part of each decision and event
    when: When = When()
    baseline: Seconds = Seconds(4 * 3600)  # anomaly: operation that its own limit must cover before it is used
    provisional: bool = False  # anomaly: decide with a provisional limit until then; its events say so
    learn_after: Seconds | None = None  # anomaly: age at which windows are learnt from; default: a quarter of baseline
    limit_bound: Annotated[float, msgspec.Meta(ge=1, le=100)] = (
        4.0  # anomaly: most by which a run raises a limit of one or two runs; 1: none
    )
    bearing: Bearing | None = None  # of this machine; default: the model card's
    shaft_rpm: TagConfig | None = None  # the shaft's speed, where it varies
    template: str = ""  # the [template.X] under these keys
    vars: dict[str, str | int | float] = {}  # values of its {placeholders}, besides {name}

    @property
    def labelled(self) -> bool:
        """Whether windows get labels, soon or late; if not, an anomaly model takes every window for normal."""
        return bool(self.targets) or (self.label is not None and bool(self.label.source or self.label.late is not None))

    def tags(self) -> dict[str, TagConfig]:
        """Every tag, by its key."""
        named = {f"channels.{c}": t for c, t in self.channels.items()}
        named |= {f"targets.{t}": tag for t, tag in self.targets.items()}
        named |= {f"context.{c}": tag for c, tag in self.context.items()}
        if self.label and self.label.source:
            named["label"] = self.label
        if self.shaft_rpm:
            named["shaft_rpm"] = self.shaft_rpm
        if look := self.inspection:
            parts = {"verdict": look.verdict, "part": look.part, "time": look.time}
            named |= {f"inspection.{k}": tag for k, tag in parts.items() if tag}
        return named


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    agent: AgentConfig
    source: dict[str, Table] = {}
    model: dict[str, ModelConfig] = {}
    template: dict[str, Table] = {}  # keys of assets, with {placeholders}
    asset: dict[str, AssetConfig] = {}
    output: dict[str, Table] = {}


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError naming file and key."""
    config = settings.convert(expanded(path, settings.read(path)), Config, str(path))
    _check_names(path, config)
    for name, model in config.model.items():
        if model.privacy is not None:
            budget.check(model.privacy, f"{path}: key 'model.{name}.privacy'")
        if model.card is not None and model.file is None:
            raise ConfigError(f"{path}: key 'model.{name}.card': it is the card of a file; set file, too, or remove it")
        _check_samples(f"{path}: key 'model.{name}", model)
    for name, asset in config.asset.items():
        with _naming(name, asset.template):
            _check_asset(path, name, asset, config)
    return config


def expanded(path: Path, table: Table) -> Table:
    """The file with each asset's template under its keys; errors name the template. Raises ConfigError."""
    assets, templates = table.get("asset"), table.get("template", {})
    if not isinstance(assets, dict) or not isinstance(templates, dict):
        return table  # `convert` says what is wrong
    known = set(AssetConfig.__struct_encode_fields__) - {"template", "vars"}
    for template, keys in templates.items():
        for key in keys if isinstance(keys, dict) else ():
            if key not in known:
                raise ConfigError(f"{path}: unknown key 'template.{template}.{key}'; {hint(key, known)}")
    made = {name: _expand(path, name, asset, templates) for name, asset in assets.items()}
    return {**table, "asset": made}


def _expand(path: Path, name: str, asset: object, templates: dict[str, Table]) -> object:
    if not isinstance(asset, dict) or not asset.get("template"):
        return asset
    try:
        made = templating.expand(name, asset, templates)
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from e
    with _naming(name, str(asset["template"])):
        settings.convert(made, AssetConfig, str(path), f"asset.{name}")
    return made


@contextmanager
def _naming(asset: str, template: str) -> Iterator[None]:
    """Errors of an asset with a template name both."""
    try:
        yield
    except ConfigError as e:
        raise ConfigError(f"{e} (asset {asset!r} with [template.{template}])" if template else str(e)) from e


def refer(name: str, known: Iterable[str], where: str) -> None:
    """Raise ConfigError unless `name` is one of `known`, suggesting the nearest."""
    names = list(known)
    if name not in names:
        raise ConfigError(f"{where}: {name!r} is not configured; {hint(name, names)}")


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
    if asset.label and bool(asset.label.source) != bool(asset.label.tag):
        raise ConfigError(f"{path}: key 'asset.{name}.label': source and tag are given together or not at all")
    for key, tag in asset.tags().items():
        refer(tag.source, config.source, f"{path}: key 'asset.{name}.{key}.source'")
        if tag.index is not None and tag.waveform_hz is None:
            where = f"{path}: key 'asset.{name}.{key}.index'"
            raise ConfigError(f"{where}: it is the row of a waveform: give waveform_hz too")
        _check_range(f"{path}: key 'asset.{name}.{key}.range'", key, tag)
    _check_levels(f"{path}: key 'asset.{name}.when", asset.when)
    if asset.inspection:
        _check_inspection(f"{path}: key 'asset.{name}.inspection", asset.inspection, asset)


def _check_samples(where: str, model: ModelConfig) -> None:
    """Raise ConfigError when fewer samples are stored than it takes to begin."""
    least, most = model.training.min_samples, model.max_samples
    if most < least:
        raise ConfigError(
            f"{where}.max_samples': got {most:,}, but training.min_samples is {least:,}: so many are never stored; "
            f"set max_samples to {least:,} or more"
        )


def _check_levels(where: str, when: When) -> None:
    """Raise ConfigError when an event becomes high before it becomes medium."""
    for key in ("score", "after"):
        medium, high = getattr(when.medium, key), getattr(when.high, key)
        if high < medium:
            raise ConfigError(
                f"{where}.high.{key}': got {high:g}, but medium.{key} is {medium:g}: no event would be medium by it; "
                f"expected high.{key} to be at least medium.{key}"
            )


def _check_range(where: str, key: str, tag: TagConfig) -> None:
    if tag.range is None:
        return
    if key.startswith(("context.", "inspection.")):
        raise ConfigError(f"{where}: only channels, targets, label and shaft_rpm have a range")
    low, high = tag.range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{where}: got [{low:g}, {high:g}], expected [low, high] with low < high, e.g. [-40, 200]")


def _check_inspection(where: str, look: Inspection, asset: AssetConfig) -> None:
    if (look.verdict is None) == (look.path is None):
        raise ConfigError(f"{where}': give either verdict (a tag) or path (a CSV file)")
    by_part = look.part if look.path is None else look.part_column
    if by_part and "part" not in asset.context:
        raise ConfigError(f"{where}': parts are joined with context.part, which this asset does not have")
    if look.path is not None and not by_part and not look.time_column:
        raise ConfigError(f"{where}': part_column or time_column is needed to know what a verdict is of")


def _check_names(path: Path, config: Config) -> None:
    tables: dict[str, Mapping[str, object]] = {
        "source": config.source,
        "model": config.model,
        "template": config.template,
        "asset": config.asset,
        "output": config.output,
    }
    keys = [("agent.name", config.agent.name)]
    keys += [(table, name) for table, entries in tables.items() for name in entries]
    for key, name in keys:
        settings.check_name(name, f"{path}: key {key!r}")
    for kind, entries in (("source", config.source), ("output", config.output)):
        for name, table in entries.items():
            if not isinstance(table.get("type"), str):
                raise ConfigError(f"{path}: key '{kind}.{name}.type': missing; it picks the kind of {kind}")
