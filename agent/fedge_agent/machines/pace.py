# SPDX-License-Identifier: Apache-2.0
"""How often the windows of an asset come, and how long they wait for readings: configured, or the model's. Pure."""

from __future__ import annotations

from typing import NamedTuple

from fedge_models.graph.card import Card

from ..config.schema import WindowConfig

PICTURE_HOP_S = 20.0  # how far apart pictures are, as long as nothing is known of it


class Pace(NamedTuple):
    """The grid on which windows lie; a picture is a window of its own, taken in an instant when it comes."""

    rate_hz: float
    length: int  # samples of a window
    hop: int  # samples from one window to the next
    hold_s: float  # how long a value is held
    late_s: float  # how long a slower channel is waited for
    of_pictures: bool = False

    @property
    def span_ns(self) -> int:
        """Source time that a window covers."""
        return 0 if self.of_pictures else round(1e9 / self.rate_hz * self.length)

    @property
    def hop_ns(self) -> int:
        """Operation that a window adds to a baseline."""
        return round(1e9 / self.rate_hz * self.hop)

    @property
    def hop_s(self) -> float:
        """Expected time between two windows."""
        return PICTURE_HOP_S if self.of_pictures else self.hop / self.rate_hz

    @property
    def wait_s(self) -> float:
        """How much later than its end a window may be complete."""
        return 0.0 if self.of_pictures else self.hold_s + self.late_s


UNKNOWN = Pace(1.0, 0, 0, 0.0, 0.0)  # before there is a model


def pace(config: WindowConfig, card: Card) -> Pace:
    """The pace of an asset's windows. Values are held for 3 samples and waited for 2, unless configured otherwise."""
    rate = config.rate_hz or card.window.rate_hz
    hold = 3 / rate if config.max_hold is None else float(config.max_hold)
    late = 2 / rate if config.lateness is None else float(config.lateness)
    length, hop = config.length or card.window.length, config.hop or card.window.hop
    return Pace(rate, length, hop, hold, late, card.image is not None)
