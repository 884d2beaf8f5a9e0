# SPDX-License-Identifier: Apache-2.0
"""The model card: JSON in the ONNX file's own metadata under ``fedge.card``.

It describes the graph's input and output: with it a gateway builds the input from its channels and scores the output.
The graph's single input is float32 ``(batch, features)`` when ``features`` names any, else the raw window ``(batch,
channels, length)``, or with ``image`` a picture ``(batch, colours, height, width)``; it is standardised before the
graph sees it. Outputs: ``classify`` and ``multilabel`` give logits ``(batch, labels)``, ``anomaly`` a reconstruction
shaped as its input, ``regress`` ``(batch, targets)`` in the scaled units of ``targets``. What must be the same at all
sites of a federation (the objective, the scale of the targets, what stays local) is here and not in a gateway's
configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..errors import ModelError
from ..system.structs import known
from .bearing import Bearing
from .channels import Channel, Derived, Positive, channel_problems, formulas, input_channels, is_input
from .derive.plan import Formula

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Card",
    "Channel",
    "Derived",
    "ImageSpec",
    "InputSpec",
    "Objective",
    "Target",
    "Task",
    "WindowSpec",
    "decode_card",
    "encode_card",
    "read_card",
    "write_card",
]
METADATA_KEY = "fedge.card"
MAX_CARD_BYTES = 64 * 1024
MAX_SIDE = 1024  # pixels of what a graph sees; training it on a gateway is hopeless long before

Task = Literal["classify", "multilabel", "anomaly", "regress"]
NONE = "normal"  # what is said of a multilabel sample that has none of the labels
SEPARATOR = ";"  # between the labels of one sample


Probability = Annotated[float, Meta(gt=0, lt=1)]
LABEL_LIMIT = 0.5


@known
class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One quantity that a ``regress`` model estimates. The graph's output is ``(value - centre) / scale``.

    ``centre`` and ``scale`` default to those of the range ``low`` to ``high`` where both are given, else to 0 and 1.
    """

    name: str
    unit: str = ""
    low: float | None = None  # true and estimated values below this count as this
    high: float | None = None  # and values above this as this (remaining life far from failure: 125 cycles)
    centre: float | None = None
    scale: Positive | None = None
    alarm_below: float | None = None  # an estimate below raises a work order
    alarm_above: float | None = None

    def scaling(self) -> tuple[float, float]:
        """(centre, scale) in the target's unit."""
        both = self.low is not None and self.high is not None
        centre = (self.low + self.high) / 2 if both else 0.0  # type: ignore[operator]  # both are given
        scale = (self.high - self.low) / 2 if both else 1.0  # type: ignore[operator]
        return centre if self.centre is None else self.centre, scale if self.scale is None else self.scale

    def beyond(self, value: float) -> float | None:
        """How far an estimate lies beyond its alarm level, in units of the target's scale; None without a level."""
        distances = []
        if self.alarm_below is not None:
            distances.append(self.alarm_below - value)
        if self.alarm_above is not None:
            distances.append(value - self.alarm_above)
        return max(distances) / self.scaling()[1] if distances else None


@known
class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What training minimises (`losses.py`). The defaults measured best over the benchmark's data sets."""

    loss: Literal["default", "cross_entropy", "focal", "binary_cross_entropy", "squared", "huber", "pinball"] = (
        "default"
    )
    class_weights: Literal["none", "sqrt", "balanced"] = "sqrt"  # by the site's own counts of each class or label
    focal_gamma: Annotated[float, Meta(ge=0)] = 2.0
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    label_skew: Literal["none", "adjust", "restrict"] = "none"  # for sites that lack classes
    huber_delta: Positive = 1.0  # in scaled units
    quantile: Annotated[float, Meta(gt=0, lt=1)] = 0.5  # pinball


MIN_RATE_HZ = 1e-5  # a sample a day is 1.16e-5 Hz
MAX_RATE_HZ = 1e6  # faster than any sensor that a gateway reads
MAX_LENGTH = 1_000_000  # samples of a window, and of a hop: a gateway holds four windows of each channel


@known
class WindowSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A window of ``length`` samples at ``rate_hz``, a new one every ``hop`` samples."""

    rate_hz: float
    length: int
    hop: int


@known
class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a picture is prepared for the graph: cropped, resized, in one colour or three, normalised.

    With ``mean`` and ``std`` (one number per colour) a value of 0 to 255 enters as ``(value * scale - mean) / std`` at
    every site. Without them, each site uses the statistics of its own pictures, as for a channel.
    """

    height: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    width: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    colour: Literal["grey", "rgb"] = "grey"
    # "none", "square": the middle; or left, top, right, bottom as fractions of width and height
    crop: Literal["none", "square"] | tuple[float, float, float, float] = "none"
    # "area": mean over the area of a pixel, as in OpenCV; "bilinear": weighted by distance, as in Pillow
    resize: Literal["area", "bilinear"] = "area"
    scale: Positive = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[Positive, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture, as the graph expects it after the batch."""
        return (3 if self.colour == "rgb" else 1), self.height, self.width


@known
class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one of a file's several inputs takes: a group of channels, or a constant (a state, a sampling rate)."""

    name: str  # of the graph's input
    channels: tuple[str, ...] = ()
    value: float | None = None


@known
class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description of a model file's input, output and training."""

    task: Task
    channels: tuple[Channel, ...]
    window: WindowSpec
    features: tuple[str, ...] = ()  # names understood by fedge_agent.windows.features; empty: the raw window
    labels: tuple[str, ...] = ()  # classify: class names in output order; multilabel: what may be true at once
    normal: str = ""  # classify: the label that raises no work order; empty: the first label
    threshold_quantile: float = 0.995  # anomaly: of the scores of the site's own normal windows
    threshold_fit: Literal["quantile", "peaks"] = "quantile"  # as counted, or by extreme values (`extremes.py`)
    targets: tuple[Target, ...] = ()  # regress: in output order
    objective: Objective = Objective()
    trainable: str = "*"  # globs over initializer names, comma-separated; the rest stays frozen
    constants: tuple[str, ...] = ()  # initializers that no glob trains: tables and factors, which intake finds
    shared: tuple[str, ...] = ()  # globs over initializers that several nodes read as one on purpose
    inputs: tuple[InputSpec, ...] = ()  # of an exported file with several: what each takes; intake makes one of them
    output: str = ""  # of an exported file with several: the one to train; intake leaves out the others
    local: str = ""  # globs over trainable initializers that stay at each site and are never sent
    batch_norm: Literal["frozen", "updated"] = "frozen"  # running statistics: as delivered, or updated by training
    description: str = ""
    bearing: Bearing | None = None  # for features of its defects, where all sites have the same bearing
    image: ImageSpec | None = None  # the only channel is a picture, and each one is scored; the window is 1 long
    derive: Mapping[str, str | Derived] = {}  # channels that formulas over the others give (`derive/`)
    # "site": values are standardised for each site; "file": they enter as measured, and the file scales them itself.
    scaling: Literal["site", "file"] | None = None  # None: "file" where intake finds that it does, else "site"
    label_limits: dict[str, Probability] = {}  # multilabel: probability above which a label holds; default 0.5

    @property
    def formulas(self) -> tuple[Formula, ...]:
        """The derived channels in an order in which they can be computed."""
        return formulas(self.channels, self.derive)

    @property
    def input_channels(self) -> tuple[Channel, ...]:
        """What the graph's input is made of, in its order: measured channels, derived ones, and last those derived
        ones that are one number a window."""
        return input_channels(self.channels, self.derive)

    @property
    def numbers(self) -> int:
        """How many of the input's channels are one number a window: with features, each is one value."""
        return sum(f.window for f in self.formulas if is_input(self.derive[f.name]))

    def owners(self, columns: int) -> NDArray[np.int64] | None:
        """Return which of the input's channels each column belongs to: a feature, or a channel of raw windows.

        None where so many columns cannot be divided among them.
        """
        channels, numbers = len(self.input_channels), self.numbers if self.features else 0
        varying = channels - numbers
        each, rest = divmod(columns - numbers, varying) if varying else (0, columns - numbers)
        if rest or each < 0:
            return None
        return np.concatenate([np.repeat(np.arange(varying), each), np.arange(varying, channels)])

    @property
    def normal_index(self) -> int:
        """Output column of the normal label."""
        return self.labels.index(self.normal) if self.normal else 0

    @property
    def measured(self) -> tuple[str, ...]:
        """What an asset's `targets` may give a tag each: targets, or the labels of which several may hold."""
        return self.labels if self.task == "multilabel" else tuple(t.name for t in self.targets)

    @property
    def limits(self) -> tuple[float, ...]:
        """multilabel: the probability above which each label holds."""
        return tuple(self.label_limits.get(label, LABEL_LIMIT) for label in self.labels)

    @property
    def loss(self) -> str:
        """Name of the loss, the task's own unless the objective says otherwise."""
        given = self.objective.loss
        return given if given != "default" else DEFAULT_LOSSES[self.task]


def encode_card(card: Card) -> str:
    """Encode a card as the JSON text of the file's metadata."""
    return msgspec.json.encode(card).decode()


def decode_card(text: str, where: str = "model") -> Card:
    """Parse and check a card. Raises ModelError naming the field."""
    if len(text) > MAX_CARD_BYTES:
        raise ModelError(f"{where}: card has {len(text)} bytes, expected at most {MAX_CARD_BYTES}")
    try:
        card = msgspec.json.decode(text, type=Card)
    except msgspec.DecodeError as e:
        raise ModelError(f"{where}: metadata {METADATA_KEY!r} is not a valid card: {e}") from e
    _check(card, where)
    return card


def read_card(model: onnx.ModelProto, where: str = "model") -> Card:
    """Read the card of a loaded ONNX model. Raises ModelError when there is none."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return decode_card(entry.value, where)
    raise ModelError(
        f"{where}: no model card; expected metadata key {METADATA_KEY!r}, or a TOML file with the card: --card on the "
        "command line, card in [model.X] of a gateway (see docs/reference/model-card.md)"
    )


def write_card(model: onnx.ModelProto, card: Card) -> None:
    """Write the card into the model's metadata, replacing any other."""
    _check(card, "card")
    others = [(e.key, e.value) for e in model.metadata_props if e.key != METADATA_KEY]
    del model.metadata_props[:]
    for key, value in [*others, (METADATA_KEY, encode_card(card))]:
        model.metadata_props.add(key=key, value=value)


LOSSES = {
    "classify": ("cross_entropy", "focal"),
    "multilabel": ("binary_cross_entropy",),
    "anomaly": ("squared", "huber"),
    "regress": ("squared", "huber", "pinball"),
}
DEFAULT_LOSSES = {task: names[0] for task, names in LOSSES.items()}


def _check(card: Card, where: str) -> None:
    for check in (_input_problems, _image_problems, _task_problems, _label_problems, _target_problems):
        for wrong, text in check(card):
            if wrong:
                raise ModelError(f"{where}: card: {text}")


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
    numbers = (
        [c.name for c in card.input_channels[len(names) - card.numbers :]] if card.inputs and card.features else []
    )
    problems.append((bool(numbers), f"inputs: {numbers} are one number a window, which goes without several inputs"))
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
    ]


def _label_problems(card: Card) -> list[tuple[bool, str]]:
    """What is wrong with the labels of which several may hold."""
    if card.task != "multilabel":
        return [(bool(card.label_limits), f"label_limits are for task multilabel, this is {card.task}")]
    parted = [name for name in card.labels if not name.strip() or SEPARATOR in name or name == NONE]
    unknown = [name for name in card.label_limits if name not in card.labels]
    skew = card.objective.label_skew
    return [
        (len(card.labels) < 2, f"task multilabel needs two labels or more, got {card.labels}; of one, use classify"),
        (len(set(card.labels)) != len(card.labels), f"labels repeat a name: {list(card.labels)}"),
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
