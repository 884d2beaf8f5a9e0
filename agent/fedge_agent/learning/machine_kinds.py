# SPDX-License-Identifier: Apache-2.0
"""What a starter model of a kind of machine looks at: channels, window, features, derived channels, labels, targets.

It is where to begin when there is no card yet; what the configuration or the user says counts first. Windows are as
long as what has to be seen in them: a minute of a pump that runs steadily, one stroke of a press, a few turns of a
shaft. Slow values enter by mean, spread, ends and slope, vibration by its distribution over frequencies, impacts by
the spectrum of their envelope (Randall, Antoni 2011, doi:10.1016/j.ymssp.2010.07.017).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

from fedge_models.graph.card import ImageSpec

NONE: Mapping[str, str] = MappingProxyType({})
SLOW = ("mean", "std", "min", "max", "slope")
STRIKES = ("bpfo:3", "bpfi:3", "bsf:3", "ftf:3")  # where the asset's bearing is known
LEAST_STRIKES_HZ = 1000.0  # strikes of a bearing are not seen in slower samples


class MachineKind(NamedTuple):
    """A kind of machine."""

    about: str  # what it finds, and in what
    channels: Mapping[str, str]  # name -> unit
    rate_hz: float
    length: int
    hop: int
    features: tuple[str, ...] = SLOW  # (): the window itself
    derive: Mapping[str, str] = NONE  # name -> formula; left out where a channel of it is not there
    labels: tuple[str, ...] = ()
    targets: Mapping[str, str] = NONE
    image: ImageSpec | None = None

    def formulas(self, channels: Collection[str]) -> dict[str, str]:
        """The derived channels that can be made of these."""
        known = {*channels}
        return {name: text for name, text in self.derive.items() if known.issuperset(re.findall(r"[A-Za-z_]\w*", text))}


PLAIN = MachineKind("any machine with slow values", NONE, 1.0, 60, 10)
KINDS: dict[str, MachineKind] = {
    "pump": MachineKind(
        "wear, blockage, cavitation and dry running of a pump, by the minute",
        {"current_A": "A", "pressure_in_bar": "bar", "pressure_out_bar": "bar", "flow_m3_h": "m³/h",
         "temperature_C": "°C", "vibration_mm_s": "mm/s"},
        1.0, 60, 10,
        derive={"head_bar": "pressure_out_bar - pressure_in_bar"},
    ),
    "fan": MachineKind(
        "imbalance, blockage and loose parts of a fan, in its vibration; a window is a second",
        {"vibration_x_g": "g", "vibration_y_g": "g", "vibration_z_g": "g"},
        200.0, 200, 100, ("mean", "std", "kurtosis", "bands:6"),
    ),
    "motor": MachineKind(
        "overload, heat and bearing wear of a motor or gearbox, by the minute",
        {"current_A": "A", "speed_rpm": "rpm", "torque_Nm": "Nm", "temperature_C": "°C", "vibration_mm_s": "mm/s"},
        1.0, 60, 10,
        derive={"power_W": "torque_Nm * speed_rpm * 0.10472"},
    ),
    "bearing": MachineKind(
        "defects of a rolling bearing, in raw vibration; with the asset's `bearing` also at the rates of its parts",
        {"vibration_g": "g"},
        20_000.0, 8192, 8192, ("rms", "kurtosis", "crest", "bands:8", "envelope:32"),
    ),
    "spindle": MachineKind(
        "a worn or broken tool, chatter and collisions of a machine tool, in its signals every second",
        {"power_kW": "kW", "speed_rpm": "rpm", "feed_mm_min": "mm/min", "vibration_g": "g"},
        100.0, 200, 100, ("mean", "std", "max", "rms", "kurtosis"),
    ),
    "mill": MachineKind(
        "failing workpieces of a milling machine, from a row of values for each; give its labels",
        {"air_temperature_K": "K", "process_temperature_K": "K", "speed_rpm": "rpm", "torque_Nm": "Nm",
         "tool_wear_min": "min"},
        1.0, 1, 1, (),
        {"power_W": "torque_Nm * speed_rpm * 0.10472", "warmer_K": "process_temperature_K - air_temperature_K",
         "strain": "torque_Nm * tool_wear_min"},
    ),
    "battery": MachineKind(
        "the capacity that a cell still has, from ten minutes of a discharge",
        {"voltage_V": "V", "current_A": "A", "temperature_C": "°C"},
        0.1, 61, 61,
        targets={"capacity_Ah": "Ah"},
    ),
    "press": MachineKind(
        "a worn die, double sheets and drift of a press, stroke by stroke; set `length` to the samples of a stroke",
        {"force_kN": "kN", "position_mm": "mm"},
        100.0, 100, 100, ("max", "mean", "std", "rms", "slope", "kurtosis"),
    ),
    "surface": MachineKind(
        "defects of a surface in pictures; give the labels, the sound one first",
        {"picture": ""},
        1.0, 1, 1, (),
        labels=("sound", "defect"), image=ImageSpec(64, 64),
    ),
}  # fmt: skip
