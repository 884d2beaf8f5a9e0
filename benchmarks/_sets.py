"""The nine sets as federations: sites, card, model, how it trains and what is scored; splits of the data's README.

Rates, rounds and sizes of the sets with a validation cut were compared on that cut: whole groups (experiments, tool
runs, cells, modules, engines) taken out of the training part (`accuracy.py --validate`). The test scores were seen
between such comparisons and led to further ones for liion, elpv and xsdd. nab, fan, mfpt and skab_experiments have no
such cut.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from fedge_agent.features import Preparation, bridge, feature_count
from fedge_fleet import offline, recordings
from fedge_fleet.offline import Plan, Windows
from fedge_models import zoo
from fedge_models.card import Card, Channel, Objective, Target, WindowSpec
from fedge_models.training import TrainingConfig
from numpy.typing import NDArray

Array = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """One federation on recorded data."""

    name: str
    sites: dict[str, Windows]  # not yet standardised
    card: Card
    model: Callable[[int], bytes]  # by seed
    metric: str  # of `training.evaluate`
    plan: Plan
    alone: Plan  # of a site alone
    central: Plan  # of all data in one place
    pooled: bool = False  # score: of all sites' test rows together, not the mean over the sites
    validation: dict[str, Bools] = field(default_factory=dict)  # of the training part, for choosing
    unseen: bool = False  # leave one site out: the score is what the others' model does there

    @property
    def error(self) -> bool:
        """Whether less is better."""
        return self.metric == "rmse"

    def validating(self) -> Problem:
        """The same with the validation cut in the place of the test part, which is taken away."""
        sites = {}
        for name, site in self.sites.items():
            cut, keep = self.validation[name], ~site.test
            sites[name] = Windows(site.x[keep], site.y[keep], cut[keep], site.held[keep])
        return replace(self, sites=sites)


def plan(
    rounds: int,
    epochs: int = 5,
    rate: float = 0.003,
    mu: float = 0.0,
    halving: int = 0,
    max_samples: int = 10_000,
    correction: float = 1.0,
    batch: int = 32,
) -> Plan:
    """A plan with Adam."""
    return Plan(rounds, TrainingConfig(batch, epochs, "adam", rate, mu), halving, correction, max_samples)


def skab(data: Path) -> Problem:
    """Three plants, whole experiments held out."""
    experiments = recordings.skab_experiments(data / "skab")
    cut = {"valve1-01", "valve1-05", "valve1-09", "valve2-01", "other-05", "other-11"}
    tracks, validation = {}, {}
    card = _skab_card()
    for plant in ("valve1", "valve2", "other"):
        own = {n: t for n, t in experiments.items() if n.startswith(plant)}
        parts = [offline.windows(t, card) for t in own.values()]
        tracks[plant] = _joined(parts)
        validation[plant] = np.concatenate([np.full(len(p.y), n in cut) for n, p in zip(own, parts, strict=True)])
    return _anomalies("skab", tracks, card, validation)


def skab_experiments(data: Path) -> Problem:
    """Every experiment a site; its first 400 rows are for fitting, the rest is judged."""
    card, sites, validation = _skab_card(), {}, {}
    for name, track in recordings.skab_experiments(data / "skab").items():
        part = (np.arange(track.values.shape[1]) >= 400).astype(np.int64)
        sites[name] = offline.windows(replace(track, part=part), card)
    return _anomalies("skab_experiments", sites, card, validation)


def _skab_card() -> Card:
    channels = tuple(Channel(n, u) for n, u in recordings.SKAB_UNITS.items())
    return Card("anomaly", channels, WindowSpec(1, 60, 5), ("mean", "std", "slope"))


def _anomalies(
    name: str, sites: dict[str, Windows], card: Card, validation: dict[str, Bools], hidden: int = 8
) -> Problem:
    inputs, how = feature_count(card.features, len(card.channels)), plan(12)
    return Problem(
        name,
        sites,
        card,
        lambda seed: zoo.autoencoder(card, inputs, (hidden,), seed).SerializeToString(),
        "auroc",
        how,
        how,
        how,
        validation=validation,
    )


def nab(data: Path) -> Problem:
    """One machine, its time cut into four consecutive sites; the first 35 % of each is for fitting, the rest judged.

    Nothing before the end of the benchmark's probation (15 % of all rows) is judged. The second site has no failure:
    it only teaches.
    """
    rows = _csv(data / "nab/machine_temperature_system_failure.csv.gz")
    values = np.array([[float(r["value"]) for r in rows]], np.float32)
    label = np.array([int(r["anomaly"]) for r in rows])
    card = Card(
        "anomaly", (Channel("temperature"),), WindowSpec(1 / 300, 48, 4), ("mean", "std", "slope", "min", "max")
    )
    sites, quarter = {}, len(label) // 4
    for k in range(4):
        at = slice(k * quarter, (k + 1) * quarter)
        part = (np.arange(quarter) >= 0.35 * quarter).astype(np.int64)
        track = recordings.Track(
            (("temperature", ""),), "scalar", 1 / 300, 1, values[:, at], label[at], part, ((0, quarter),)
        )
        sites[f"part{k + 1}"] = _judged_after(offline.windows(track, card), 0.6 * quarter if k == 0 else 0, card)
    return _anomalies("nab", sites, card, {}, hidden=2)  # of five features


def _judged_after(site: Windows, row: float, card: Card) -> Windows:
    """Without the test windows that begin before a row (windows of one segment, in order)."""
    begins = np.arange(len(site.y)) * card.window.hop
    keep = ~site.test | (begins >= row)
    return Windows(site.x[keep], site.y[keep], site.test[keep], site.held[keep])


AI4I_INPUTS = {
    "air_temperature_K": Channel("air_temperature", "K", 300, 2),
    "process_temperature_K": Channel("process_temperature", "K", 310, 2),
    "rotational_speed_rpm": Channel("rotational_speed", "rpm", 1500, 200),
    "torque_Nm": Channel("torque", "Nm", 40, 10),
    "tool_wear_min": Channel("tool_wear", "min", 110, 60),
}


def ai4i(data: Path) -> Problem:
    """Three product variants; whole tool runs held out."""
    card = Card(
        "classify",
        tuple(AI4I_INPUTS.values()),
        WindowSpec(1, 1, 1),
        ("mean",),
        ("ok", "failure"),
        "ok",
        local="dense2.*",  # what is overstrain depends on the variant
    )
    rows, sites, validation = _csv(data / "ai4i/ai4i.csv.gz"), {}, {}
    for kind in "LMH":
        own = [r for r in rows if r["type"] == kind]
        x = np.array([[[float(r[c])] for c in AI4I_INPUTS] for r in own], np.float32)
        y = np.array([int(r["machine_failure"]) for r in own])
        sites[kind] = _windows(x, y, np.array([r["test"] == "1" for r in own]), card)
        validation[kind] = np.array([int(r["tool_run"]) % 4 == 1 for r in own])
    return Problem(
        "ai4i",
        sites,
        card,
        lambda seed: zoo.mlp(card, 5, (64, 32), seed).SerializeToString(),
        "average_precision",
        plan(48, 1, 0.01, halving=20),
        plan(48, 1, 0.01, halving=20),
        plan(48, 1, 0.01, halving=20),
        pooled=True,
        validation=validation,
    )


def fan(data: Path) -> Problem:
    """Five recordings of fans, the last 30 % of each held out."""
    tracks = recordings.fan(data / "fan", 1.0, (*recordings.FAN_SITES, "fan1-s3"))
    channels = tuple(Channel(n, u) for n, u in next(iter(tracks.values())).channels)
    features = ("mean", "std", "kurtosis", "bands:6")
    card = Card("classify", channels, WindowSpec(200, 200, 100), features, recordings.FAN_STATES, "on")
    inputs = feature_count(features, len(channels))
    return Problem(
        "fan",
        {n: offline.windows(t, card) for n, t in tracks.items()},
        card,
        lambda seed: zoo.mlp(card, inputs, (32, 16), seed).SerializeToString(),
        "macro_f1",
        plan(12),
        plan(12),
        plan(12),
    )


def mfpt(data: Path) -> Problem:
    """Five loads; each in turn is left out, and what the others have learned is judged on it."""
    channels = (Channel("acceleration", "g"),)
    card = Card(
        "classify",
        channels,
        WindowSpec(48828, 4096, 2048),
        ("envelope:64",),
        ("inner race", "outer race"),
        "inner race",
    )
    sites = {}
    for k in range(1, 6):
        with np.load(data / f"mfpt/load{k}.npz", allow_pickle=False) as file:
            signal, y = file["x"] * np.float32(file["scale"]), file["y"]
        x, labels = [], []
        for row, label in zip(signal, y, strict=True):
            starts = range(0, len(row) - 4095, 2048)
            x += [row[None, s : s + 4096] for s in starts]
            labels += [int(label)] * len(starts)
        sites[f"load{k}"] = _windows(np.array(x, np.float32), np.array(labels), np.zeros(len(x), np.bool_), card)
    return Problem(
        "mfpt",
        sites,
        card,
        lambda seed: zoo.mlp(card, 64, (16,), seed).SerializeToString(),
        "macro_f1",
        plan(12),
        plan(12),
        plan(12),
        unseen=True,
    )


CMAPSS_SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)  # the others hardly vary in two of the fleets
CMAPSS_WINDOW = 30


def cmapss(data: Path) -> Problem:
    """Four fleets of engines; the last row of each test unit is judged, every fourth cycle is trained on."""
    channels = (
        Channel("altitude", "kft", condition=2.0),
        Channel("mach", "", condition=0.05),
        Channel("throttle", "%", condition=2.0),
        *(Channel(f"sensor{k}") for k in CMAPSS_SENSORS),
    )
    target = Target("remaining life", "cycles", low=0.0, high=125.0)
    card = Card("regress", channels, WindowSpec(1, CMAPSS_WINDOW, 1), targets=(target,))
    sites, validation = {}, {}
    for name in ("FD001", "FD002", "FD003", "FD004"):
        sites[name], validation[name] = _fleet(data / f"cmapss/{name}.npz")
    return Problem(
        "cmapss",
        sites,
        card,
        lambda seed: zoo.mlp(card, (len(channels), CMAPSS_WINDOW), (64, 32), seed).SerializeToString(),
        "rmse",
        plan(20, 1, 0.003, halving=5),
        plan(20, 1, 0.002, halving=4),
        plan(5, 1, 0.003, halving=5),  # more only overfits
        validation=validation,
    )


def _fleet(path: Path) -> tuple[Windows, Bools]:
    """Every fourth cycle of the training units, the last of the test units; validation: as if every fifth unit had been
    cut off once at a third, a half, three quarters of its life."""
    x, y, test, validation = [], [], [], []
    columns = [k - 1 for k in CMAPSS_SENSORS]
    with np.load(path, allow_pickle=False) as file:
        for part in ("train", "test"):
            unit = file[f"{part}_unit"]
            values = np.concatenate([file[f"{part}_settings"], file[f"{part}_sensors"][:, columns]], axis=1).T
            for i, u in enumerate(np.unique(unit)):
                own = values[:, unit == u]
                n = own.shape[1]
                left = int(file["test_rul"][i]) if part == "test" else 0
                checked = part == "train" and i % 5 == 4
                ends = [n] if part == "test" else range(CMAPSS_WINDOW, n + 1, 4)
                if checked:
                    ends = [round(n * f) for f in (0.4, 0.55, 0.7, 0.85)]
                for end in ends:
                    x.append(_last(own[:, :end], CMAPSS_WINDOW))
                    y.append(n - end + left)
                    test.append(part == "test")
                    validation.append(checked)
    n = len(y)
    site = Windows(np.array(x, np.float32), np.array(y, np.float32), np.array(test), np.zeros(n, np.bool_))
    return site, np.array(validation)


def _last(values: Array, length: int) -> Array:
    """The last `length` samples; a shorter history is bridged as the gateway bridges gaps."""
    have = values[:, -length:]
    if have.shape[1] == length:
        return have
    padded = np.full((len(values), length), np.nan, np.float32)
    padded[:, -have.shape[1] :] = have
    return bridge(padded)


LIION_BENCHES = ("room24C-2A", "room24C-4A", "hot43C-4A", "cold4C-1A", "cold4C-2A", "cold4C-mixed")


def liion(data: Path) -> Problem:
    """Six benches; one whole cell of each held out. Inputs are scaled the same everywhere: current and cold matter."""
    channels = (
        Channel("voltage", "V", 3.5, 0.3),
        Channel("current", "A", -2.5, 1.3),
        Channel("temperature", "degC", 25.0, 15.0),
    )
    target = Target("capacity", "Ah", low=0.0, high=2.2, centre=1.4, scale=0.4)
    features = ("mean", "slope", "std", "min", "max")
    card = Card("regress", channels, WindowSpec(0.1, 61, 61), features, targets=(target,))
    sites, validation = {}, {}
    for name in LIION_BENCHES:
        with np.load(data / f"liion/{name}.npz", allow_pickle=False) as file:
            x, y, test, cell = file["x"].swapaxes(1, 2), file["capacity_Ah"], file["test"] == 1, file["cell"]
        sites[name] = _windows(np.ascontiguousarray(x), y, test, card)
        cells = np.unique(cell[~test])
        validation[name] = (cell == cells[-1]) & (len(cells) > 1)
    return Problem(
        "liion",
        sites,
        card,
        lambda seed: zoo.mlp(card, 15, (64, 32), seed).SerializeToString(),
        "rmse",
        plan(80, 5, 0.003, halving=40, max_samples=1, batch=16),  # every bench counts alike
        plan(150, 2, 0.002, halving=50),
        plan(36, 2, 0.0003, batch=16),  # more only overfits
        validation=validation,
    )


def elpv(data: Path) -> Problem:
    """Five groups of solar modules; whole modules held out."""
    names = ("mono-A", "mono-B", "poly-A", "poly-B", "poly-C")
    sites, validation = {}, {}
    for name in names:
        with np.load(data / f"elpv/{name}.npz", allow_pickle=False) as file:
            sites[name] = _images(file["x"], file["y"], file["test"] == 1)
            module, test = file["module"], file["test"] == 1
        left = np.unique(module[~test])
        validation[name] = np.isin(module, left[len(left) // 2 : len(left) // 2 + max(1, len(left) // 4)]) & ~test
    card, plans = _images_card(("sound", "defective")), (plan(20, 2, 0.006, halving=10), plan(12, 2, 0.01, halving=10))
    return _inspection("elpv", sites, card, "auroc", validation, plans, average=True)


XSDD_CLASSES = ("finishing roll printing", "iron sheet ash", "oxide scale of plate system",
                "oxide scale of temperature system", "red iron", "slag inclusion", "surface scratch")  # fmt: skip


def xsdd(data: Path) -> Problem:
    """Four lines of a strip mill with different mixes of seven defects."""
    sites, validation = {}, {}
    for name in ("line1", "line2", "line3", "line4"):
        with np.load(data / f"xsdd/{name}.npz", allow_pickle=False) as file:
            sites[name] = _images(file["x"], file["y"], file["test"] == 1)
            validation[name] = (file["number"] % 4 == 1) & (file["test"] != 1)
    card = _images_card(
        XSDD_CLASSES,
        objective=Objective(label_smoothing=0.1),
        local="head.bias",  # how common each defect is differs from line to line
    )
    plans = plan(32, 1, 0.02, halving=20), plan(8, 2, 0.012, halving=20)
    made = _inspection("xsdd", sites, card, "macro_f1", validation, plans, average=False)
    return replace(made, pooled=True)


def _images(x: NDArray[np.uint8], y: NDArray[np.generic], test: Bools) -> Windows:
    n = len(y)
    return Windows(x[:, None].astype(np.float32), y.astype(np.int64), test, np.zeros(n, np.bool_))


def _images_card(labels: tuple[str, ...], **fields: Any) -> Card:
    return Card("classify", (Channel("image", "", 128.0, 40.0),), WindowSpec(1, 64, 64), (), labels, **fields)


def _inspection(
    name: str,
    sites: dict[str, Windows],
    card: Card,
    metric: str,
    validation: dict[str, Bools],
    plans: tuple[Plan, Plan],
    average: bool,
) -> Problem:
    federated, together = plans
    return Problem(
        name,
        {n: replace(s, x=Preparation(card)(s.x)) for n, s in sites.items()},
        card,
        lambda seed: zoo.cnn2d(card, (1, 64, 64), (8, 16, 32), seed, shrink=2, average=average).SerializeToString(),
        metric,
        federated,
        together,
        together,
        validation=validation,
    )


def _csv(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def _windows(values: Array, y: NDArray[np.generic], test: Bools, card: Card) -> Windows:
    """Windows that are cut already, as a gateway would hand them to its model."""
    labels = y.astype(np.float32 if card.task == "regress" else np.int64)
    return Windows(Preparation(card)(values), labels, test, np.zeros(len(y), np.bool_))


def _joined(parts: list[Windows]) -> Windows:
    return offline.pooled({str(i): p for i, p in enumerate(parts)})


SETS: Mapping[str, Callable[[Path], Problem]] = {
    f.__name__: f for f in (skab, skab_experiments, nab, ai4i, fan, mfpt, cmapss, liion, elpv, xsdd)
}
