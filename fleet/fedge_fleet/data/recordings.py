# SPDX-License-Identifier: Apache-2.0
"""Recorded (or simulated) machines in one shape, cut into sites, each with a training and a test part.

The splits are those of the data's own README: whole experiments for SKAB (Katser & Kozitsin 2020), the last 30 % of
each recording for the fan (NXP). Replay puts the training part first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
from fedge_models.errors import ConfigError
from numpy.typing import NDArray

from . import bearing_physics
from .table_file import TableFile

SKAB_TEST = {
    "valve1": {"02", "06", "10", "14"},
    "valve2": {"02"},
    "other": {"06", "09", "14"},
}
# Experiments of the demo's four plants, in replay order, training first.
SKAB_SITES = {
    "valve1-a": ("valve1-00", "valve1-01", "valve1-02"),
    "valve1-b": ("valve1-08", "valve1-09", "valve1-10"),
    "valve2": ("valve2-00", "valve2-01", "valve2-02"),
    "other": ("other-05", "other-07", "other-06"),
}
SKAB_UNITS = {
    "Accelerometer1RMS": "g",
    "Accelerometer2RMS": "g",
    "Current": "A",
    "Pressure": "bar",
    "Temperature": "degC",
    "Thermocouple": "degC",
    "Voltage": "V",
    "VolumeFlowRateRMS": "l/min",
}
FAN_SITES = ("fan1-s1", "fan1-s2", "fan3-s1", "fan3-s2")
FAN_STATES = ("on", "off", "clog", "friction")
FAN_HZ = 200.0
FAN_BLOCK = 100  # half a second
FAN_TRAIN = 0.7
FAN_PIECE = 3000  # samples of one state before the next
GAP_S = 0.2  # of replay, between segments


class Step(NamedTuple):
    """The values of a machine's tags at one time. A waveform's value is a block that ends then."""

    due_s: float  # after the beginning of the replay
    values: dict[str, float | list[float]]
    label: int | None


@dataclass(frozen=True)
class Track:
    """One site's machine over time. Between segments there is a gap in time."""

    channels: tuple[tuple[str, str], ...]  # (name, unit)
    kind: Literal["scalar", "waveform"]
    rate_hz: float  # of replay: recorded rate times speed
    block: int  # samples per value of a tag; 1 for scalars
    values: NDArray[np.float32]  # (channels, samples)
    label: NDArray[np.int64]  # (samples,) class index; anomaly: 0/1
    part: NDArray[np.int64]  # (samples,) 0 training, 1 test
    segments: tuple[tuple[int, int], ...]  # (start, stop)

    @property
    def seconds(self) -> float:
        """Length of the replay, with its gaps."""
        return self.values.shape[1] / self.rate_hz + (len(self.segments) - 1) * GAP_S

    def seconds_at(self, sample: int, segment: int) -> float:
        """Seconds from the start of a replay to a sample of that segment."""
        return sample / self.rate_hz + segment * GAP_S

    def steps(self) -> Iterator[Step]:
        """Yield the values of the machine's tags, step by step; in the test part the label is None."""
        for k, (start, stop) in enumerate(self.segments):
            for at in range(start, stop - self.block + 1, self.block):
                last, cells = at + self.block - 1, self.values[:, at : at + self.block]
                cells_as_lists = cells.tolist() if self.kind == "waveform" else cells[:, 0].tolist()
                values = {name: value for (name, _), value in zip(self.channels, cells_as_lists, strict=True)}
                label = None if self.part[last] else int(self.label[last])
                yield Step(self.seconds_at(last, k), values, label)

    def sample_at(self, seconds: float) -> int | None:
        """The index of the sample that a replay shows after so many seconds, or None in a gap."""
        for k, (start, stop) in enumerate(self.segments):
            at = round((seconds - k * GAP_S) * self.rate_hz)
            if start <= at < stop:
                return at
        return None


def skab(folder: Path, speed: float = 50.0) -> dict[str, Track]:
    """Four plants of the water loop: two with the valve at the inlet, one at the outlet, one with other faults."""
    return {site: join([skab_experiment(folder, name, speed) for name in names]) for site, names in SKAB_SITES.items()}


def skab_experiments(folder: Path, speed: float = 1.0) -> dict[str, Track]:
    """Read every experiment in the folder, by name."""
    names = sorted(p.name.removesuffix(".csv.gz") for p in folder.glob("*-[0-9][0-9].csv.gz"))
    if not names:
        raise ConfigError(f"{folder}: no SKAB experiments (files such as valve1-00.csv.gz) here")
    return {name: skab_experiment(folder, name, speed) for name in names}


def skab_experiment(folder: Path, name: str, speed: float = 1.0) -> Track:
    """One experiment at 1 Hz times `speed`; gaps in its time stamps become borders of segments."""
    table = TableFile(folder / f"{name}.csv.gz")
    group, _, number = name.rpartition("-")
    times = table.times("datetime")
    borders = [0, *(np.flatnonzero(np.diff(times) > 3) + 1).tolist(), len(times)]
    test = number in SKAB_TEST.get(group, set())
    return Track(
        channels=tuple(SKAB_UNITS.items()),
        kind="scalar",
        rate_hz=speed,
        block=1,
        values=np.array([table.numbers(c) for c in SKAB_UNITS], np.float32),
        label=table.numbers("anomaly").astype(np.int64),
        part=np.full(len(times), int(test), np.int64),
        segments=tuple(pairwise(borders)),
    )


def fan(folder: Path, speed: float = 10.0, sites: Sequence[str] = FAN_SITES) -> dict[str, Track]:
    """Fans as waveform blocks; the states follow each other in pieces, first of the training then of the test parts."""
    return {site: _fan(folder / f"{site}.npz", speed) for site in sites}


def _fan(path: Path, speed: float) -> Track:
    try:
        with np.load(path, allow_pickle=False) as data:
            x, y = data["x"], data["y"]
    except (OSError, KeyError, ValueError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from e
    scale = np.array([1 / 4096] * 3 + [0.1] * 3 + [1], np.float32)
    values = x.astype(np.float32).transpose(0, 2, 1) * scale[:, None]
    border = int(values.shape[2] * FAN_TRAIN) // FAN_BLOCK * FAN_BLOCK
    pieces, labels, parts = [], [], []
    for part, (start, stop) in enumerate([(0, border), (border, values.shape[2])]):
        for at in range(start, stop, FAN_PIECE):
            for recording, state in zip(values, y, strict=True):
                piece = recording[:, at : min(at + FAN_PIECE, stop)]
                pieces.append(piece)
                labels.append(np.full(piece.shape[1], state, np.int64))
                parts.append(np.full(piece.shape[1], part, np.int64))
    borders = np.cumsum([0, *(p.shape[1] for p in pieces)]).tolist()
    channels = (("ax", "g"), ("ay", "g"), ("az", "g"), ("Bx", "uT"), ("By", "uT"), ("Bz", "uT"), ("T", "degC"))
    return Track(
        channels=channels,
        kind="waveform",
        rate_hz=FAN_HZ * speed,
        block=FAN_BLOCK,
        values=np.concatenate(pieces, axis=1),
        label=np.concatenate(labels),
        part=np.concatenate(parts),
        segments=tuple(pairwise(borders)),
    )


def simulated(
    seed: int = 0, speed: float = 2.0, machines: Sequence[bearing_physics.Machine] = bearing_physics.SITES
) -> dict[str, Track]:
    """Simulated machines (see `bearing_physics`), cut like the fan's recordings."""
    sites = {}
    for i, site in enumerate(machines):
        pieces, labels, parts = [], [], []
        for part, rounds in enumerate((5, 2)):
            for k in range(rounds):
                for state in range(len(bearing_physics.STATES)):
                    x = bearing_physics.run(site, state, seed=1000 * seed + 100 * i + 10 * k + part)
                    pieces.append(x)
                    labels.append(np.full(x.shape[1], state, np.int64))
                    parts.append(np.full(x.shape[1], part, np.int64))
        borders = np.cumsum([0, *(p.shape[1] for p in pieces)]).tolist()
        sites[site.name] = Track(
            channels=bearing_physics.CHANNELS,
            kind="waveform",
            rate_hz=bearing_physics.RATE_HZ * speed,
            block=bearing_physics.BLOCK,
            values=np.concatenate(pieces, axis=1),
            label=np.concatenate(labels),
            part=np.concatenate(parts),
            segments=tuple(pairwise(borders)),
        )
    return sites


def join(tracks: Sequence[Track]) -> Track:
    """Join tracks of one machine into one, with a gap between them."""
    offsets = np.cumsum([0, *(t.values.shape[1] for t in tracks)]).tolist()
    return Track(
        channels=tracks[0].channels,
        kind=tracks[0].kind,
        rate_hz=tracks[0].rate_hz,
        block=tracks[0].block,
        values=np.concatenate([t.values for t in tracks], axis=1),
        label=np.concatenate([t.label for t in tracks]),
        part=np.concatenate([t.part for t in tracks]),
        segments=tuple((a + o, b + o) for t, o in zip(tracks, offsets, strict=False) for a, b in t.segments),
    )


def write_track(path: Path, track: Track) -> None:
    """Write a track to a file, for another process to replay."""
    np.savez(
        path,
        channels=np.array([f"{name}|{unit}" for name, unit in track.channels]),
        kind=np.array(track.kind),
        numbers=np.array([track.rate_hz, track.block]),
        values=track.values,
        label=track.label,
        part=track.part,
        segments=np.array(track.segments),
    )


def read_track(path: Path) -> Track:
    """Read a track that `write_track` wrote. Raises ConfigError when the file is no such track."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return _track(data)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror or e}") from e
    except (ValueError, TypeError, LookupError, EOFError, BadZipFile) as e:
        raise ConfigError(f"{path}: is no recorded track; expected an .npz file that fedge-fleet wrote") from e


def _track(data: Mapping[str, NDArray[Any]]) -> Track:
    names = [str(c).partition("|") for c in data["channels"]]
    return Track(
        channels=tuple((name, unit) for name, _, unit in names),
        kind="waveform" if str(data["kind"]) == "waveform" else "scalar",
        rate_hz=float(data["numbers"][0]),
        block=int(data["numbers"][1]),
        values=data["values"],
        label=data["label"],
        part=data["part"],
        segments=tuple((int(a), int(b)) for a, b in data["segments"]),
    )
