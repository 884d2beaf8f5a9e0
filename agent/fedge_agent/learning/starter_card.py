# SPDX-License-Identifier: Apache-2.0
"""The card of a starter model, from the configured assets and what the user asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from fedge_models.errors import ConfigError
from fedge_models.graph.card import NONE, SEPARATOR, Card, Channel, Derived, Target, Task, WindowSpec

from ..config.schema import AssetConfig
from .machine_kinds import KINDS, LEAST_STRIKES_HZ, PLAIN, SLOW, STRIKES, MachineKind

RAW = "raw"  # instead of features: the window itself


@dataclass(frozen=True)
class Wishes:
    """What the user asks for; None and () leave it to the configuration, then to the kind of machine."""

    task: Task | None = None
    channels: tuple[str, ...] = ()  # NAME or NAME=UNIT
    derived: tuple[str, ...] = ()  # NAME=FORMULA
    labels: tuple[str, ...] = ()  # the first is the normal one
    targets: tuple[str, ...] = ()  # NAME or NAME=UNIT
    features: tuple[str, ...] = ()  # ("raw",): none
    rate_hz: float | None = None
    length: int | None = None
    hop: int | None = None
    machine: str | None = None  # of `KINDS`


def starter_card(model: str, assets: Mapping[str, AssetConfig], wishes: Wishes) -> Card:
    """Make the card of a federation's first model.

    assets: all that are configured. Channels, window and task are those of the assets with this model, as far as
    `wishes` leaves them open. Raises ConfigError that says what is missing or contradicts.
    """
    ours = {name: asset for name, asset in assets.items() if asset.model == model}
    kind = PLAIN if wishes.machine is None else KINDS[wishes.machine]
    channels = _named(wishes.channels) or _channels(model, ours, kind)
    labels = wishes.labels or _labels(ours)
    targets = _named(wishes.targets) or {name: kind.targets.get(name, "") for name in _targets(ours)}
    if not labels and not targets:
        labels, targets = kind.labels, dict(kind.targets)
    task = wishes.task or _task(labels, targets)
    if task == "multilabel":
        labels = _together(wishes.labels or (*targets,) or labels)
    window = _window(ours, wishes, kind)
    return Card(
        task=task,
        channels=tuple(Channel(name, unit) for name, unit in channels.items()),
        window=window,
        features=_features(wishes.features, window, kind, ours),
        labels=_needed(task, "multilabel", labels, "two labels or more (--label worn --label leak)")
        if task == "multilabel"
        else _needed(task, "classify", labels, "two labels or more (--label ok --label worn; the first is normal)"),
        targets=tuple(
            Target(name, targets[name])
            for name in _needed(task, "regress", tuple(targets), "a target (--target life=cycles)")
        ),
        description=f"Starter model for {model}",
        derive=_formulas(wishes.derived) or kind.formulas(channels),
        image=kind.image,
    )


def _formulas(texts: tuple[str, ...]) -> Mapping[str, str | Derived]:
    """name -> formula, of NAME=FORMULA. Raises ConfigError for a text that is none, or a name that repeats."""
    if wrong := [text for text in texts if "=" not in text]:
        raise ConfigError(f"--derive {wrong[0]!r}: expected NAME=FORMULA, such as 'power_W=torque_Nm * speed_rpm'")
    return {name.strip(): formula.strip() for name, formula in _named(texts).items()}


def _channels(model: str, assets: Mapping[str, AssetConfig], kind: MachineKind) -> Mapping[str, str]:
    """The channels that all assets have, with the unit of the kind's channel of that name; without an asset the kind's.

    Raises ConfigError when there is neither, or assets differ.
    """
    if not assets and kind.channels:
        return kind.channels
    if not assets:
        raise ConfigError(
            f"no asset has model = {model!r}, so its channels are not known; "
            "configure one, name each channel (--channel current_A=A), or the kind of machine (--machine pump)"
        )
    sets = {name: [*asset.channels] for name, asset in assets.items()}
    first, channels = next(iter(sets.items()))
    for name, other in sets.items():
        if sorted(other) != sorted(channels):
            raise ConfigError(
                f"model {model!r}: asset {first!r} has the channels {', '.join(channels)}, asset {name!r} has "
                f"{', '.join(other)}; all assets of a model need the same channels"
            )
    return {name: kind.channels.get(name, "") for name in channels}


def _labels(assets: Mapping[str, AssetConfig]) -> tuple[str, ...]:
    """Label names that the assets' `label.map` gives, in their order there."""
    names = [name for asset in assets.values() if asset.label for name in asset.label.map.values()]
    found = tuple(dict.fromkeys(names))
    return () if set(found) <= {"normal", "anomaly"} else found


def _together(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels of which several may hold: the words for none of them, and for sets of them, are no labels."""
    parts = [part.strip() for text in labels for part in text.split(SEPARATOR)]
    return tuple(name for name in dict.fromkeys(parts) if name and name != NONE)


def _targets(assets: Mapping[str, AssetConfig]) -> list[str]:
    return [*dict.fromkeys(name for asset in assets.values() for name in asset.targets)]


def _task(labels: tuple[str, ...], targets: Mapping[str, str]) -> Task:
    """The task that fits: labels are classified, targets estimated; without either, what is unusual is found."""
    if targets:
        return "regress"
    return "classify" if len(labels) > 1 else "anomaly"


def _window(assets: Mapping[str, AssetConfig], wishes: Wishes, kind: MachineKind) -> WindowSpec:
    """The first asset's window where the wishes leave it open, then the kind's."""
    given = next((asset.window for asset in assets.values()), None)
    rate = wishes.rate_hz or (given.rate_hz if given else None) or kind.rate_hz
    length = wishes.length or (given.length if given else None) or kind.length
    hop = wishes.hop or (given.hop if given else None) or min(kind.hop, length)
    return WindowSpec(rate, length, hop)


def _features(
    wanted: tuple[str, ...], window: WindowSpec, kind: MachineKind, assets: Mapping[str, AssetConfig]
) -> tuple[str, ...]:
    """Features of a window, those of a bearing where each asset has one; a window of one sample is its own."""
    if wanted == (RAW,) or (not wanted and (window.length == 1 or kind.image is not None)):
        return ()
    with_bearing = bool(assets) and all(asset.bearing is not None for asset in assets.values())
    strikes = STRIKES if with_bearing and window.rate_hz >= LEAST_STRIKES_HZ else ()
    return wanted or (*(kind.features or SLOW), *strikes)


def _needed(task: Task, of: Task, names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The names that a task needs, () for other tasks. Raises ConfigError when they are missing."""
    if task != of:
        return ()
    if len(names) < (1 if of == "regress" else 2):
        raise ConfigError(f"task {task} needs {what}; one of the tasks {', '.join(get_args(Task))} is chosen by --task")
    return names


def _named(texts: tuple[str, ...]) -> dict[str, str]:
    """name -> unit, of NAME or NAME=UNIT. Raises ConfigError for a name that repeats."""
    pairs = [text.partition("=") for text in texts]
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise ConfigError(f"expected each name once, got {', '.join(names)}")
    return {name: unit for name, _, unit in pairs}
