# SPDX-License-Identifier: Apache-2.0
"""What the features of a vibration window cost: microseconds a window of one channel, each alone and all at once.

Windows of a third of a second at 20 and 48.8 kHz (with --quick: the latter only), as a gateway makes them.
"""

from __future__ import annotations

import time

import numpy as np
from _common import arguments, finish, table
from fedge_agent.windows.features import extract
from fedge_models.graph.bearing import Bearing

BEARING = Bearing(8, 0.235, 1.245, shaft_hz=25.0)
SINGLE = ("mean", "std", "rms", "peak", "crest", "kurtosis", "slope", "bands:16", "band:2000-4000", "envelope:64")
STRIKES = ("bpfo:3", "bpfi:3", "bsf:3", "ftf:3")
USUAL = ("rms", "kurtosis", "crest", "bands:16", *STRIKES)
WINDOWS = {"20kHz": (20_000, 8_192), "48.8kHz": (48_828, 16_384)}


def cost(names: tuple[str, ...], rate_hz: float, length: int, turns: int = 60) -> float:
    """Return the median seconds that the features of one window take."""
    x = np.random.default_rng(0).normal(size=(1, length)).astype(np.float32)
    faults = {fault: order * 25 for fault, order in BEARING.orders().items()}
    seconds = []
    for _ in range(turns):
        began = time.perf_counter()
        extract(x, names, rate_hz, faults)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    figures: dict[str, float] = {}
    chosen = [(n,) for n in SINGLE] + [STRIKES, USUAL]
    lines = [[" ".join(names)] for names in chosen]
    windows = {"48.8kHz": WINDOWS["48.8kHz"]} if args.quick else WINDOWS
    for kind, (rate_hz, length) in windows.items():
        for line, names in zip(lines, chosen, strict=True):
            line.append(f"{cost(names, rate_hz, length) * 1e6:.0f}")
        usual = cost(USUAL, rate_hz, length)
        figures[f"usual_{kind}_us"] = usual * 1e6
        figures[f"usual_{kind}_share_of_core"] = usual * rate_hz / length
    table(["feature", *(f"us, {n} samples at {kind}" for kind, (_, n) in windows.items())], lines)
    print("share of a core that one channel takes:", {k: f"{v:.2%}" for k, v in figures.items() if "share" in k})
    finish("features", figures, args.json)


if __name__ == "__main__":
    main()
