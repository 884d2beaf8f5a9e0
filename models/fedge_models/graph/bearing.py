# SPDX-License-Identifier: Apache-2.0
"""Compute the rates at which a defect of a rolling-element bearing strikes, from the bearing's geometry.

Kinematics without slip, outer race fixed: Randall & Antoni 2011, "Rolling element bearing diagnostics - a tutorial",
Mechanical Systems and Signal Processing 25(2), section 2.1. Real bearings slip by one or two per cent.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..system.structs import known

Fault = Literal["ftf", "bpfo", "bpfi", "bsf"]
FAULTS: tuple[Fault, ...] = ("ftf", "bpfo", "bpfi", "bsf")

Positive = Annotated[float, Meta(gt=0)]


@known
class Bearing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Geometry as in the maker's catalogue; both diameters in the same unit."""

    elements: Annotated[int, Meta(ge=3, le=200)]  # balls or rollers
    element_diameter: Positive
    pitch_diameter: Positive
    contact_angle_deg: Annotated[float, Meta(ge=0, lt=90)] = 0.0
    shaft_hz: Positive | None = None  # revolutions per second, where the speed is constant

    def orders(self) -> dict[Fault, float]:
        """Return strikes per revolution of the shaft: cage, outer race, inner race, element (one of its two strikes).

        Raises ValueError when an element's diameter is not less than the pitch diameter.
        """
        if self.element_diameter >= self.pitch_diameter:
            raise ValueError(
                f"element_diameter is {self.element_diameter:g}, expected less than pitch_diameter, "
                f"{self.pitch_diameter:g}"
            )
        ratio = self.element_diameter / self.pitch_diameter * math.cos(math.radians(self.contact_angle_deg))
        return {
            "ftf": (1 - ratio) / 2,
            "bpfo": self.elements * (1 - ratio) / 2,
            "bpfi": self.elements * (1 + ratio) / 2,
            "bsf": self.pitch_diameter / (2 * self.element_diameter) * (1 - ratio * ratio),
        }
