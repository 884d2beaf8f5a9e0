# SPDX-License-Identifier: Apache-2.0
"""Whether the values that `check` read are what the channels take, judged as the running agent judges them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median, pstdev

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.training.precision import WITHOUT_SCALER

from ..config.schema import AssetConfig, TagConfig
from ..protocols.csv.numbers import instead_of_words
from ..types import Batch, Reading
from ..windows.assembler import values_of
from ..windows.channel import LARGEST, Channel
from ..windows.facts import ChannelFacts
from ..windows.intake import Intake

FEW = 10  # values that say nothing of their spread
STEPS = 10  # in which a usual change should be seen
CHANNELS = "channels."
NUMERIC = (CHANNELS, "targets.")
OFFSET = "subtract an offset where they come from"


def unusable(source: str, assets: Mapping[str, AssetConfig], seen: Mapping[str, Reading]) -> list[str]:
    """Each channel that cannot use the value of its tag, with that value."""
    made = []
    for name, key, tag in _numeric(assets):
        reading = seen.get(tag.tag) if tag.source == source else None
        if reading is None:
            continue
        facts = ChannelFacts(key, tag.source, tag.tag, values_of(tag))
        channel, intake = Channel(tag.waveform_hz is not None, tag.index, facts, range=tag.range), Intake()
        if channel.waveform:
            intake.block(channel, reading)
        else:
            intake.scalar(channel, reading)
        if facts.not_numbers:
            advice = "" if channel.waveform else instead_of_words(reading.value, key.removeprefix(CHANNELS))
            made.append(f"asset {name}: values of {facts.label} are not {facts.example_words}{advice}")
    return made


def _numeric(assets: Mapping[str, AssetConfig]) -> Iterator[tuple[str, str, TagConfig]]:
    """Asset, channel and tag of everything whose values have to be numbers."""
    for name, asset in assets.items():
        for key, tag in asset.tags().items():
            if key.startswith(NUMERIC) or key == "shaft_rpm":
                yield name, key.partition(".")[2] or key, tag


def twice(name: str, asset: AssetConfig) -> Iterator[str]:
    """Each value that several channels of an asset read: most likely one of them should read another."""
    read: dict[tuple[str, str, int | None], list[str]] = {}
    for channel, tag in asset.channels.items():
        read.setdefault((tag.source, tag.tag, tag.index), []).append(channel)
    for (source, tag_name, _), channels in read.items():
        if len(channels) > 1:
            yield f"asset {name}: the channels {', '.join(channels)} all read tag {tag_name} of source {source}"


def coarse(name: str, asset: AssetConfig, source: str, batches: Sequence[Batch], card: Card) -> Iterator[str]:
    """Each channel whose values lie so far from 0 that the numbers of the calculation hide their changes.

    Those are float64, until the mean is subtracted; a network that scales its input itself takes float32.
    """
    raw = card.scaling == "file"
    kind = np.float32 if raw else np.float64
    taken = {c.name for c in card.input_channels if c.scale is None} if raw else set(asset.channels)
    values: dict[str, list[float]] = {}
    for batch in batches:
        for reading in batch.readings:
            if isinstance(reading.value, (int, float)) and math.isfinite(reading.value):
                values.setdefault(reading.tag, []).append(float(reading.value))
    for channel, tag in asset.channels.items():
        there = values.get(tag.tag, ()) if tag.source == source and channel in taken else ()
        spread = pstdev(there) if len(there) >= FEW else 0.0
        step = float(np.spacing(kind(min(median(map(abs, there)), LARGEST)))) if spread else 0.0
        if step > spread / STEPS:
            yield (
                f"asset {name}: values of {channel} of about {median(there):g} reach the network in steps of {step:g}, "
                f"which hide changes of {spread:.3g}: {WITHOUT_SCALER if raw else OFFSET}"
            )
