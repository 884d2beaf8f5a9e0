# SPDX-License-Identifier: Apache-2.0
"""The keys of a model card.

A card describes the graph's input and output: with it a gateway builds the input from its channels and scores the
output. The graph's single input is float32 ``(batch, features)`` when ``features`` names any, else the raw window
``(batch, channels, length)``, or with ``image`` a picture ``(batch, colours, height, width)``; it is standardised
before the graph sees it. Outputs: ``classify`` and ``multilabel`` give logits ``(batch, labels)``, ``anomaly`` a
reconstruction shaped as its input, ``regress`` ``(batch, targets)`` in the scaled units of ``targets``. What must be
the same at all sites of a federation (the objective, the scale of the targets, what stays local) is here and not in a
gateway's configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ...system.structs import known
from ..bearing import Bearing
from ..channels import Channel, Derived, Positive, derived, formulas, input_channels, is_input
from ..derive.plan import Formula

MAX_SIDE = 1024  # pixels of what a graph sees; training it on a gateway is hopeless long before

Task = Literal["classify", "multilabel", "anomaly", "regress"]
Probability = Annotated[float, Meta(gt=0, lt=1)]
NONE = "normal"  # what is said of a multilabel sample that has none of the labels
SEPARATOR = ";"  # between the labels of one sample
LABEL_LIMIT = 0.5
LOSSES = {
    "classify": ("cross_entropy", "focal"),
    "multilabel": ("binary_cross_entropy",),
    "anomaly": ("squared", "huber"),
    "regress": ("squared", "huber", "pinball"),
}
DEFAULT_LOSSES = {task: names[0] for task, names in LOSSES.items()}


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
    # Of an exported file whose windows have as many samples as channels: which come first. None: as the graph shows it.
    layout: Literal["channels_first", "time_first"] | None = None
    inputs: tuple[InputSpec, ...] = ()  # of an exported file with several: what each takes; intake makes one of them
    output: str = ""  # of an exported file with several: the one to train; intake leaves out the others
    local: str = ""  # globs over trainable initializers that stay at each site and are never averaged
    # What a new site begins with for these: the "file"'s values, or "shared": the median of those of the other sites,
    # which then send theirs for it.
    local_start: Literal["file", "shared"] = "file"
    batch_norm: Literal["frozen", "updated"] = "frozen"  # running statistics: as delivered, or updated by training
    description: str = ""
    bearing: Bearing | None = None  # for features of its defects, where all sites have the same bearing
    image: ImageSpec | None = None  # the only channel is a picture, and each one is scored; the window is 1 long
    derive: Mapping[str, str | Derived] = {}  # channels that formulas over the others give (`derive/`)
    # "site": values are standardised for each site; "file": they enter as measured, and the file scales them itself.
    scaling: Literal["site", "file"] | None = None  # None: "file" where intake finds that it does, else "site"
    label_limits: dict[str, Probability] = {}  # multilabel: probability above which a label holds; default 0.5

    def __post_init__(self) -> None:
        """In Python, derived channels may be tables as in TOML. Raises ModelError for anything else."""
        if any(type(given) not in (str, Derived) for given in self.derive.values()):
            made = {name: derived(name, given) for name, given in self.derive.items()}
            msgspec.structs.force_setattr(self, "derive", made)

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
