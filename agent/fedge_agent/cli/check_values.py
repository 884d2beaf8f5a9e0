# SPDX-License-Identifier: Apache-2.0
"""Whether the values that `check` read are what the channels take, judged as the running agent judges them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..config.schema import AssetConfig, TagConfig
from ..types import Reading
from ..windows.assembler import values_of
from ..windows.channel import Channel
from ..windows.facts import ChannelFacts
from ..windows.intake import Intake

NUMERIC = ("channels.", "targets.")


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
            made.append(f"asset {name}: values of {facts.label} are not {facts.example_words}")
    return made


def _numeric(assets: Mapping[str, AssetConfig]) -> Iterator[tuple[str, str, TagConfig]]:
    """Asset, channel and tag of everything whose values have to be numbers."""
    for name, asset in assets.items():
        for key, tag in asset.tags().items():
            if key.startswith(NUMERIC) or key == "shaft_rpm":
                yield name, key.partition(".")[2] or key, tag
