# SPDX-License-Identifier: Apache-2.0
"""A simulated pump to practise with: the tags of the agent's example configuration, and a fault now and then.

A centrifugal pump follows a demand that swings over ten minutes. The current rises with the flow and the pressure falls
with it (the pump's characteristic curve). A fault is cavitation: the pressure drops and both values become noisy.
"""

from __future__ import annotations

import numpy as np

from ..data.recordings import Track

CHANNELS = (("Pump1.Current", "A"), ("Pump1.Pressure", "bar"))
FAULT_TAG = "Pump1.Fault"
RATE_HZ = 1.0
DEMAND_S = 600.0  # one swing of the demand
HEALTHY_S, FAULT_S = 1500, 300  # one after the other


def pump(hours: float = 24.0, seed: int = 0) -> Track:
    """The pump over some hours, one value of each channel a second."""
    rng = np.random.default_rng(seed)
    count = round(hours * 3600 * RATE_HZ)
    seconds = np.arange(count) / RATE_HZ
    fault = (seconds % (HEALTHY_S + FAULT_S)) >= HEALTHY_S
    flow = 1 + 0.2 * np.sin(2 * np.pi * seconds / DEMAND_S) + 0.02 * rng.standard_normal(count)
    noise = np.where(fault, 6.0, 1.0) * rng.standard_normal((2, count))
    current = 8.0 + 4.0 * flow + 0.05 * noise[0]
    pressure = 6.0 - 1.5 * flow**2 - 0.6 * fault + 0.03 * noise[1]
    return Track(
        channels=CHANNELS,
        kind="scalar",
        rate_hz=RATE_HZ,
        block=1,
        values=np.array([current, pressure], np.float32),
        label=fault.astype(np.int64),
        part=np.zeros(count, np.int64),
        segments=((0, count),),
    )
