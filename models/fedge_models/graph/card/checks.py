# SPDX-License-Identifier: Apache-2.0
"""What cannot be expressed by the type of one key: what keys of a card must be to each other.

Each function returns pairs: whether something is wrong, and what to say of it.
"""

from __future__ import annotations

import math

import msgspec

from ...errors import ModelError
from ...system.quoting import quote
from ..bearing import Bearing
from ..channels import Channel, Derived, channel_problems
from .spec import LOSSES, MAX_LENGTH, MAX_RATE_HZ, MIN_RATE_HZ, NONE, SEPARATOR, Card


def check(card: Card, where: str = "") -> None:
    """Raise ModelError for what does not fit together on a card, naming the key; where: the file that holds it."""
    for problems in _PROBLEMS:
        for wrong, text in problems(card):
            if wrong:
                raise ModelError(f"{where}: card: {text}" if where else f"card: {text}")


def _name_problems(card: Card) -> list[tuple[bool, str]]:
    """What people and logs read: a line break in it would look like a line of its own."""
    derived = [d.unit for d in card.derive.values() if isinstance(d, Derived)]
    names = {
        "channels": [c.name for c in card.channels],
        "derive": list(card.derive),
        "labels": list(card.labels),
        "targets": [t.name for t in card.targets],
        "features": list(card.features),
        "inputs": [group.name for group in card.inputs],
        "unit": [*(c.unit for c in card.channels), *derived, *(t.unit for t in card.targets)],
    }
    wrong = [(key, name) for key, given in names.items() for name in given if not name.isprintable()]
    text = f"{wrong[0][0]}: {quote(wrong[0][1])} has a control character, expected text on one line" if wrong else ""
    return [(bool(wrong), text)]


def _scaling_problems(card: Card) -> list[tuple[bool, str]]:
    """Values that enter as measured are scaled by nothing else."""
    given = [c.name for c in card.input_channels if (c.centre, c.scale, c.condition) != (None, None, None)]
    normalised = card.image is not None and bool(card.image.mean)
    raw = card.scaling == "file"
    both = f"scaling is 'file', so values enter as measured, and channels {given} have centre, scale or condition"
    return [
        (raw and bool(given), f"{both}; remove these, or write scaling = 'site'"),
        (raw and normalised, "scaling is 'file', so pictures enter as they come; remove image.mean and image.std"),
    ]


def _input_problems(card: Card) -> list[tuple[bool, str]]:
    names = [c.name for c in card.channels]
    wrong = next(
        (text for found, text in channel_problems(card.channels, card.derive, card.window.length) if found), ""
    )
    if wrong:
        return [(True, wrong)]
    used = card.input_channels
    halves = [c.name for c in used if (c.centre is None) != (c.scale is None)]
    conditions = [c.name for c in used if c.condition is not None]
    numbers = [v for c in used for v in (c.centre, c.scale, c.condition) if v is not None]
    return [
        *_group_problems(card, [c.name for c in used]),
        (not names, "channels is empty, expected at least one"),
        (len(set(names)) != len(names), f"channels repeat a name: {names}"),
        (bool(halves), f"channels {halves} have only one of centre and scale, expected both or none"),
        (not all(map(math.isfinite, numbers)), "channels: centre, scale and condition must be finite"),
        (
            bool(conditions and card.features),
            f"channels {conditions} have a condition, which needs the raw window; features is {list(card.features)}",
        ),
        (_impossible(card.bearing), "bearing: element_diameter must be less than pitch_diameter"),
        (
            not MIN_RATE_HZ <= card.window.rate_hz <= MAX_RATE_HZ,
            f"window.rate_hz is {card.window.rate_hz}, expected {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}",
        ),
        (
            not 1 <= card.window.length <= MAX_LENGTH,
            f"window.length is {card.window.length}, expected 1 to {MAX_LENGTH}",
        ),
        (not 1 <= card.window.hop <= MAX_LENGTH, f"window.hop is {card.window.hop}, expected 1 to {MAX_LENGTH}"),
    ]


def _group_problems(card: Card, names: list[str]) -> list[tuple[bool, str]]:
    problems = []
    for group in card.inputs:
        unknown = [c for c in group.channels if c not in names]
        at = f"inputs: {group.name!r}"
        problems.append((bool(unknown), f"{at} takes channels {unknown}, which are not among {names}"))
        problems.append((bool(group.channels) == (group.value is not None), f"{at} needs either channels or a value"))
    used = {c for group in card.inputs for c in group.channels}
    left = [n for n in names if n not in used]
    listed = [group.name for group in card.inputs]
    problems.append((bool(card.inputs and left), f"inputs: no input takes the channels {left}"))
    problems.append((len(set(listed)) != len(listed), f"inputs repeat a name: {listed}"))
    problems.append((bool(card.inputs) and card.image is not None, "inputs: a picture is one input"))
    endless = [g.name for g in card.inputs if g.value is not None and not math.isfinite(g.value)]
    problems.append((bool(endless), f"inputs: the value of {endless} must be finite"))
    return problems


def _impossible(bearing: Bearing | None) -> bool:
    return bearing is not None and bearing.element_diameter >= bearing.pitch_diameter


def _image_problems(card: Card) -> list[tuple[bool, str]]:
    image = card.image
    if image is None:
        return []
    colours, channel = image.shape[0], card.channels[0] if card.channels else Channel("")
    given, sizes = (*image.mean, *image.std), (len(image.mean), len(image.std))
    left, top, right, bottom = (0.0, 0.0, 1.0, 1.0) if isinstance(image.crop, str) else image.crop
    window = (card.window.length, card.window.hop)
    return [
        (len(card.channels) != 1, f"image needs one channel, the picture, got {[c.name for c in card.channels]}"),
        (bool(card.features), f"image goes without features, got {list(card.features)}"),
        (bool(card.derive), f"image goes without derived channels, got {list(card.derive)}"),
        (
            channel.scale is not None or channel.condition is not None,
            f"channel {channel.name!r} is a picture: image.mean and image.std, not centre, scale or condition",
        ),
        (window != (1, 1), f"window.length and window.hop are {window}, expected 1 and 1 with image"),
        (
            sizes not in ((0, 0), (colours, colours)),
            f"image.mean and image.std have {sizes} values, expected {colours}",
        ),
        (not all(map(math.isfinite, (*given, image.scale))), "image: scale, mean and std must be finite"),
        (
            not (0 <= left < right <= 1 and 0 <= top < bottom <= 1),
            f"image.crop is {image.crop}, expected left < right and top < bottom, each from 0 to 1",
        ),
    ]


def _task_problems(card: Card) -> list[tuple[bool, str]]:
    allowed = LOSSES[card.task]
    return [
        (
            card.task == "classify" and len(card.labels) < 2,
            f"task classify needs two labels or more, got {card.labels}",
        ),
        (
            len(set(card.labels)) != len(card.labels),
            f"labels repeat a name: {list(card.labels)}; each output needs a label of its own",
        ),
        (not all(map(math.isfinite, _weights(card))), "objective: focal_gamma and huber_delta must be finite"),
        (bool(card.normal) and card.normal not in card.labels, f"normal is {card.normal!r}, not one of {card.labels}"),
        (not 0.5 <= card.threshold_quantile < 1, f"threshold_quantile is {card.threshold_quantile}, expected 0.5..1"),
        (
            card.loss not in allowed,
            f"objective.loss is {card.loss!r}, which does not fit task {card.task}; expected one of {allowed}",
        ),
        (
            card.loss == "focal" and card.objective.label_smoothing > 0,
            "objective.label_smoothing does not go with the loss focal; expected 0",
        ),
        (
            card.local_start == "shared" and not card.local,
            "local_start is 'shared', but local names no tensors that stay at the sites; name them, or remove it",
        ),
    ]


def _weights(card: Card) -> tuple[float, float]:
    return card.objective.focal_gamma, card.objective.huber_delta


def _label_problems(card: Card) -> list[tuple[bool, str]]:
    """What is wrong with the labels of which several may hold."""
    if card.task != "multilabel":
        return [(bool(card.label_limits), f"label_limits are for task multilabel, this is {card.task}")]
    parted = [name for name in card.labels if not name.strip() or SEPARATOR in name or name == NONE]
    unknown = [name for name in card.label_limits if name not in card.labels]
    skew = card.objective.label_skew
    return [
        (len(card.labels) < 2, f"task multilabel needs two labels or more, got {card.labels}; of one, use classify"),
        (
            bool(parted),
            f"labels {parted}: expected names without {SEPARATOR!r}, and not {NONE!r}, which says that none holds",
        ),
        (
            bool(card.normal),
            f"normal is {card.normal!r}: in task multilabel, {NONE!r} says that no label holds; remove it",
        ),
        (bool(unknown), f"label_limits {unknown}: not among the labels {list(card.labels)}"),
        (skew != "none", f"objective.label_skew is {skew!r}, which is for task classify; expected 'none'"),
    ]


def _target_problems(card: Card) -> list[tuple[bool, str]]:
    problems = [(bool(card.targets) and card.task != "regress", f"targets are for task regress, this is {card.task}")]
    names = [t.name for t in card.targets]
    problems.append((len(set(names)) != len(names), f"targets repeat a name: {names}"))
    for target in card.targets:
        numbers = [v for v in msgspec.structs.astuple(target)[2:] if v is not None]
        bounds = target.low is not None and target.high is not None and target.low >= target.high
        what = f"target {target.name!r}"
        problems.append((not all(map(math.isfinite, numbers)), f"{what}: has a value that is not finite"))
        problems.append((bounds, f"{what}: low is {target.low}, expected less than high, {target.high}"))
    return problems


_PROBLEMS = (
    _name_problems,
    _input_problems,
    _scaling_problems,
    _image_problems,
    _task_problems,
    _label_problems,
    _target_problems,
)
