# SPDX-License-Identifier: Apache-2.0
"""How often inputs of normal operation count as drifted, and which changes are seen, by six statistics.

Training parts only. A recording's first 60 % (of the SKAB experiments every other one) are what was learnt; what
follows is watched, as it is and with planted changes. A channel drifts when four blocks in a row are outside. Regimes
are the states of a fan, the loads of a bearing, the products of a mill: learnt together, watched one by one. `own
blocks` compares a block with the rest of what was learnt, and with how far its own blocks lie from theirs: a limit that
counts autocorrelation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _common import arguments, finish, table
from fedge_agent.learning.reference import block_figures, learn
from fedge_agent.windows.summary import Summary
from fedge_fleet.data import recordings
from fedge_fleet.data.problems.heat import nab_tracks
from fedge_fleet.data.table_file import TableFile
from fedge_models.graph.card import Card, Channel, WindowSpec
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Windows = NDArray[np.float64]  # (n, channels, length)
Limit = Callable[
    [Windows, int], Callable[[Windows], NDArray[np.bool_]]
]  # what was learnt -> which channels are outside
IN_A_ROW = 4
KNOWN = 0.6
CHANGES = ("none", "off1", "off2", "off4", "x2", "x4", "x0.5", "constant", "ramp")


class Stream(NamedTuple):
    """What was learnt, what is watched, and how many windows a block has."""

    name: str
    known: Windows
    watched: list[Windows]
    block: int


def cut(values: NDArray[Any], length: int, hop: int) -> Windows:
    """Windows of values (channels, samples)."""
    found: Windows = sliding_window_view(values.astype(np.float64), length, axis=1)[:, ::hop].transpose(1, 0, 2)
    return found


def parted(name: str, windows: Windows, block: int) -> Stream:
    """The first windows as what was learnt, the others to watch."""
    border = int(KNOWN * len(windows))
    return Stream(name, windows[:border], [windows[border:]], block)


def streams(data: Path) -> Iterator[Stream]:
    """Every recording."""
    yield from water(data)
    for part, track in nab_tracks(data).items():
        normal = int(np.argmax(np.append((track.part != 0) | (track.label != 0), True)))
        yield parted(f"nab {part}", cut(track.values[:, :normal], 48, 4), 18)
    yield from fans(data)
    yield bearings(data)
    yield from mills(data)
    for fleet in ("FD001", "FD002", "FD003", "FD004"):
        with np.load(data / f"cmapss/{fleet}.npz") as file:
            yield parted(f"cmapss {fleet}", file["train_sensors"].astype(np.float64)[:, :, None], 64)
    for kind, block in (("xsdd", 16), ("elpv", 32)):
        for path in sorted((data / kind).glob("*.npz")):
            with np.load(path) as file:
                yield parted(f"{kind} {path.stem}", pictures(file["x"][file["test"] == 0]), block)


def water(data: Path) -> Iterator[Stream]:
    """SKAB: one long run; the normal beginnings of the experiments at one valve."""
    run = TableFile(data / "skab/anomaly-free.csv.gz")
    yield parted("skab run", cut(np.array([run.numbers(c) for c in recordings.SKAB_UNITS]), 60, 10), 16)
    made = []
    for name, track in recordings.skab_experiments(data / "skab").items():
        if name.startswith("valve1") and not track.part.any():
            made.append(cut(track.values[:, : int(np.argmax(track.label > 0))], 60, 10))
    yield Stream("skab valve1", np.concatenate(made[::2]), made[1::2], 8)


def fans(data: Path) -> Iterator[Stream]:
    """Fans: all states learnt, each watched."""
    for path in sorted((data / "fan").glob("*.npz")):
        with np.load(path) as file:
            x = file["x"].astype(np.float64).transpose(0, 2, 1)
        border = int(recordings.FAN_TRAIN * x.shape[2])
        part = [parted("", cut(one[:, :border], 256, 256), 8) for one in x]
        yield Stream(path.stem, np.concatenate([p.known for p in part]), [p.watched[0] for p in part], 8)


def bearings(data: Path) -> Stream:
    """MFPT: all loads learnt, each watched."""
    part = []
    for path in sorted((data / "mfpt").glob("*.npz")):
        with np.load(path) as file:
            part += [
                parted("", cut(one[None, : int(0.7 * len(one))] * file["scale"], 1024, 1024), 8) for one in file["x"]
            ]
    return Stream("mfpt", np.concatenate([p.known for p in part]), [p.watched[0] for p in part], 8)


def mills(data: Path) -> Iterator[Stream]:
    """AI4I: all products learnt, watched together and each by itself."""
    rows = TableFile(data / "ai4i/ai4i.csv.gz")
    names = ("air_temperature_K", "process_temperature_K", "rotational_speed_rpm", "torque_Nm", "tool_wear_min")
    keep = rows.numbers("test") == 0
    x = np.array([rows.numbers(c) for c in names]).T[keep][:, :, None]
    made = parted("ai4i", x, 64)
    yield made
    kinds = np.array(rows.texts("type"))[keep][len(made.known) :]
    yield made._replace(name="ai4i, one product", watched=[made.watched[0][kinds == k] for k in "LMH"])


def pictures(x: NDArray[np.uint8]) -> Windows:
    """Brightness, contrast and sharpness of pictures (n, height, width)."""
    grey = x.astype(np.float64) / 255
    edges = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    return np.stack([grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), edges], axis=1)[:, :, None]


def changed(windows: Windows, change: str, known: Windows) -> Windows:
    """Windows with a change in every channel; off2: moved by two usual spreads, x2: spread twice as wide."""
    low, high = np.quantile(flat(known), [0.1587, 0.8413], axis=1)
    usual = np.maximum((high - low) / 2, 1e-12)[None, :, None]
    if change.startswith("off"):
        return windows + float(change[3:]) * usual
    if change == "ramp":  # to three usual spreads at the end
        return windows + np.linspace(0, 3, len(windows))[:, None, None] * usual
    if change == "constant":
        return np.broadcast_to(windows[:1, :, :1], windows.shape).copy()
    if change == "none":
        return windows
    middle = windows.mean(axis=2, keepdims=True) if windows.shape[2] > 1 else np.median(windows, axis=0, keepdims=True)
    return middle + float(change[1:]) * (windows - middle)


def flat(windows: Windows) -> Windows:
    """The values of each channel (channels, n): some, where there are many."""
    some = windows[:: max(1, len(windows) // 1000), :, :: max(1, windows.shape[2] // 8)]
    return some.transpose(1, 0, 2).reshape(some.shape[1], -1)


def blocks(windows: Windows, size: int) -> list[Windows]:
    """Blocks of so many windows, without the rest."""
    return [windows[i : i + size] for i in range(0, len(windows) - size + 1, size)]


def psi(block: Windows, known: Windows) -> NDArray[np.float64]:
    """Population stability index of each channel, on ten bins of equal share of what is known."""
    found = []
    for now, was in zip(flat(block), flat(known), strict=True):
        edges = np.unique(np.quantile(was, np.arange(0.1, 1, 0.1)))
        counts = [np.bincount(np.searchsorted(edges, v), minlength=len(edges) + 1) + 0.5 for v in (now, was)]
        p, q = (c / c.sum() for c in counts)
        found.append(float(((p - q) * np.log(p / q)).sum()))
    return np.array(found)


def smirnov(block: Windows, known: Windows) -> NDArray[np.float64]:
    """Two-sample Kolmogorov-Smirnov statistic of each channel."""
    found = []
    for now, was in zip(np.sort(flat(block)), np.sort(flat(known)), strict=True):
        both = np.concatenate([now, was])
        shares = [np.searchsorted(v, both, "right") / len(v) for v in (now, was)]
        found.append(float(np.abs(shares[0] - shares[1]).max()))
    return np.array(found)


def distance(block: Windows, known: Windows) -> NDArray[np.float64]:
    """Wasserstein distance of each channel, in usual spreads."""
    q = np.arange(0.025, 1, 0.05)
    low, high = np.quantile(flat(known), [0.1587, 0.8413], axis=1)
    apart = np.abs(np.quantile(flat(block), q, axis=1) - np.quantile(flat(known), q, axis=1)).mean(axis=0)
    found: NDArray[np.float64] = apart / np.maximum((high - low) / 2, 1e-12)
    return found


def fixed(limit: float) -> Limit:
    """Population stability index above a fixed limit."""
    return lambda known, size: lambda block: psi(block, known) > limit


def counted(known: Windows, size: int) -> Callable[[Windows], NDArray[np.bool_]]:
    """Kolmogorov-Smirnov at 0.1 %, each window counted once."""
    limit = 1.95 * np.sqrt((size + len(known)) / (size * len(known)))
    return lambda block: smirnov(block, known) > limit


def of_own_blocks(statistic: Callable[[Windows, Windows], NDArray[np.float64]], times: float, least: float) -> Limit:
    """A statistic above `times` the most that a block of what is known has against the rest."""

    def made(known: Windows, size: int) -> Callable[[Windows], NDArray[np.bool_]]:
        parts = blocks(known, size)
        rest = [np.concatenate(parts[:i] + parts[i + 1 :]) for i in range(len(parts))]
        most = np.max([statistic(part, other) for part, other in zip(parts, rest, strict=True)], axis=0)
        limit = np.maximum(least, times * most)
        return lambda block: statistic(block, known) > limit

    return made


def shipped(known: Windows, size: int) -> Callable[[Windows], NDArray[np.bool_]]:
    """The range of blocks, as gateways do it (`learning.reference`)."""
    channels, length = known.shape[1:]
    card = Card("anomaly", tuple(Channel(f"c{i}") for i in range(channels)), WindowSpec(1.0, length, length))
    summary = Summary(card, (channels, length))
    times = np.arange(len(known), dtype=np.int64)
    reference = learn(None, times, *summary(known), size - 1, 1 << 62)
    assert reference is not None

    def outside(block: Windows) -> NDArray[np.bool_]:
        figures, still = block_figures(*summary(block))
        beyond: NDArray[np.bool_] = (reference.outside(figures) != 0).any(axis=0) | (still & ~reference.constant)
        return beyond

    return outside


METHODS: dict[str, Limit] = {
    "psi_fixed": fixed(0.25),
    "psi_own_blocks": of_own_blocks(psi, 1.5, 0.25),
    "ks_counted": counted,
    "ks_own_blocks": of_own_blocks(smirnov, 1.25, 0.2),
    "wasserstein_own_blocks": of_own_blocks(distance, 1.5, 0.25),
    "range_of_blocks": shipped,
}


def drifted(outside: Callable[[Windows], NDArray[np.bool_]], windows: Windows, size: int) -> NDArray[np.bool_]:
    """Which channels are outside for four blocks in a row."""
    found = np.array([outside(block) for block in blocks(windows, size)])
    runs = [found[i : i + IN_A_ROW].all(axis=0) for i in range(len(found) - IN_A_ROW + 1)]
    result: NDArray[np.bool_] = np.any(runs, axis=0)
    return result


def measured(data: Path, methods: dict[str, Limit]) -> dict[tuple[str, str], float]:
    """Share of the channels that drift, by method and change: the mean of all recordings."""
    shares: dict[tuple[str, str], list[float]] = {}
    for stream in streams(data):
        for method, limit in methods.items():
            for change in CHANGES:
                hits: list[bool] = []
                for windows in stream.watched:
                    size = min(stream.block, len(windows) // IN_A_ROW)
                    if size >= 8 or size == stream.block:
                        outside = limit(stream.known, size)
                        hits += drifted(outside, changed(windows, change, stream.known), size).tolist()
                if hits:
                    shares.setdefault((method, change), []).append(float(np.mean(hits)))
    return {key: float(np.mean(found)) for key, found in shares.items()}


def main() -> None:
    """Measure, print, and report."""
    asked = arguments("How often normal inputs count as drifted, and which changes are seen.", data=True)
    methods = {"range_of_blocks": METHODS["range_of_blocks"]} if asked.quick else METHODS
    found = measured(asked.data, methods)
    rows = [[method, *(f"{found[method, change]:.3f}" for change in CHANGES)] for method in methods]
    table(["share of channels that drift", *CHANGES], rows)
    finish("input_drift", {f"{method}_{change}": share for (method, change), share in found.items()}, asked.json)


if __name__ == "__main__":
    main()
