# SPDX-License-Identifier: Apache-2.0
"""Statistics over sites: error and size of ways to describe a channel, and whether a wrong unit is found and no right
one is blamed. Sites are SKAB's experiments that training may use, their first 400 rows (normal by its protocol)."""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

from collections.abc import Callable
from typing import NamedTuple

import cbor2
import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_fleet.data import recordings
from fedge_models.messages.statistics import SitesStatistics, SiteStatistics, encode_site, encode_sites
from fedge_models.statistics.comparison import Difference, Own, compare
from fedge_models.statistics.histogram import Histogram, describe
from fedge_models.statistics.over_sites import summarise
from numpy.typing import NDArray

NORMAL = 400  # rows at the beginning of an experiment
QUANTILES = (0.1, 0.5, 0.9)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
Values = NDArray[np.float64]
Sites = dict[str, Values]  # (channels, rows) of each


class Way(NamedTuple):
    """A way to describe a channel: its quantiles as a reader sees them, and its bytes."""

    name: str
    describe: Callable[[Values], tuple[list[float], int]]


def dyadic(x: Values) -> tuple[list[float], int]:
    """The histogram that is used."""
    made = describe(x)
    assert made is not None
    return [made.quantile(q) for q in QUANTILES], len(cbor2.dumps(msgspec.to_builtins(made, builtin_types=(bytes,))))


def logarithmic(accuracy: float) -> Callable[[Values], tuple[list[float], int]]:
    """DDSketch: bins of a relative width, with a sign; a code of 8 bits for each bin from the first to the last."""
    gamma = np.log((1 + accuracy) / (1 - accuracy))

    def made(x: Values) -> tuple[list[float], int]:
        index = np.where(x == 0, 0, np.sign(x) * (np.ceil(np.log(np.maximum(np.abs(x), 1e-9)) / gamma) + 2000))
        middles = np.sign(index) * np.exp((np.abs(index) - 2000 - 0.5) * gamma)
        codes = len(np.unique(index)) if index.min() < 0 < index.max() else int(np.ptp(index)) + 1
        return [float(v) for v in np.quantile(middles, QUANTILES, method="nearest")], codes + 8

    return made


def agreed(low: float, high: float) -> Callable[[Values], tuple[list[float], int]]:
    """24 equal bins over a range that all sites know beforehand, here that of all their rows."""

    def made(x: Values) -> tuple[list[float], int]:
        width = max(high - low, 1e-9) / 24
        middles = low + (np.clip(np.floor((x - low) / width), 0, 23) + 0.5) * width
        return [float(v) for v in np.quantile(middles, QUANTILES, method="nearest")], 26 + 8

    return made


def main() -> None:
    """Measure both."""
    args = arguments(__doc__ or "", data=True)
    tracks = recordings.skab_experiments(args.data / "skab")
    held = {f"{group}-{number}" for group, numbers in recordings.SKAB_TEST.items() for number in numbers}
    sites = {n: t.values[:, :NORMAL].astype(np.float64) for n, t in tracks.items() if n not in held}
    channels = next(iter(tracks.values())).channels
    figures = ways(sites, len(channels)) | sizes(sites, len(channels)) | guesses(sites, channels)
    finish("site_statistics", {**figures, "sites": float(len(sites))}, args.json)


def ways(sites: Sites, channels: int) -> dict[str, float]:
    """Error of the quantiles in widths of the site's own range 10 % to 90 %, and bytes, of each way."""
    errors: dict[str, list[float]] = {}
    lengths: dict[str, list[int]] = {}
    for i in range(channels):
        rows = np.concatenate([x[i] for x in sites.values()])
        known = [Way("dyadic", dyadic), Way("log_5", logarithmic(0.05)), Way("log_1", logarithmic(0.01))]
        known.append(Way("agreed", agreed(float(rows.min()), float(rows.max()))))
        for x in sites.values():
            exact = np.quantile(x[i], QUANTILES)
            width = max(float(exact[2] - exact[0]), 1e-6)
            for way in known:
                found, size = way.describe(x[i])
                errors.setdefault(way.name, []).append(float(np.abs(np.array(found) - exact).max()) / width)
                lengths.setdefault(way.name, []).append(size)
    rows_ = [[n, f"{np.mean(e):.3f}", f"{np.max(e):.2f}", f"{np.mean(lengths[n]):.0f}"] for n, e in errors.items()]
    table(["way", "mean error", "worst", "bytes a channel"], rows_)
    return {f"error_{n}": float(np.mean(e)) for n, e in errors.items()} | {
        f"bytes_{n}": float(np.mean(s)) for n, s in lengths.items()
    }


def histograms(x: Values) -> list[Histogram]:
    """Those of a site."""
    return [h for h in (describe(row) for row in x) if h is not None]


def sizes(sites: Sites, channels: int) -> dict[str, float]:
    """Bytes of the signed messages."""
    made = {name: histograms(x) for name, x in sites.items()}
    one = [
        len(encode_site(SiteStatistics(federation="pumps", node=name, graph=bytes(32), sequence=1_764_500_000_000_000,
            windows=256, channels=(*found, found[0])), KEY)) for name, found in made.items()
    ]  # fmt: skip
    over = tuple(summarise([found[i] for found in made.values()]) for i in range(channels))
    whole = SitesStatistics(
        federation="pumps", graph=bytes(32), number=3, created=1_764_500_000, sites=len(made), channels=(*over, over[0])
    )
    return {"site_message_bytes": float(np.mean(one)), "sites_message_bytes": float(len(encode_sites(whole, KEY)))}


CHANGES: dict[str, tuple[Callable[[Values], Values], str]] = {  # and what the guess has to say
    "as it is": (lambda x: x, "no guess at all"),
    "1,000 times": (lambda x: x * 1000, "1,000 times too large"),
    "a thousandth": (lambda x: x / 1000, "1,000 times too small"),
    "tenths as integers": (lambda x: np.rint(x * 10), "10 times too large"),
    "°F for °C": (lambda x: x * 9 / 5 + 32, "°F where the others are in °C"),
    "K for °C": (lambda x: x + 273.15, "in K where the others are in °C"),
    "constant": (lambda x: np.full_like(x, np.median(x)), "constant here"),
}


def guesses(sites: Sites, channels: tuple[tuple[str, str], ...]) -> dict[str, float]:
    """How often a changed channel gets a guess, the right one, or is said to differ; each site against all others."""
    rows: list[list[str]] = []
    figures: dict[str, float] = {}
    for change, (apply, words) in CHANGES.items():
        heat = "°" in change
        wanted = [(name, i) for name in sites for i, (_, unit) in enumerate(channels) if not heat or unit == "degC"]
        found = [_one(sites, name, i, channels[i], apply) for name, i in wanted]
        any_, right = np.mean([bool(d.hint) for d in found]), np.mean([words in d.hint for d in found])
        far = np.mean([d.differs for d in found])
        rows.append([change, str(len(found)), f"{any_:.3f}", f"{right:.3f}", f"{far:.3f}"])
        key = "none" if change == "as it is" else change.replace(" ", "_").replace(",", "").replace("°", "")
        figures |= {f"guessed_{key}": float(any_), f"right_{key}": float(right), f"far_{key}": float(far)}
    table(["change", "channels", "a guess", "the right one", "far from others"], rows)
    return figures


def _one(sites: Sites, name: str, i: int, channel: tuple[str, str], apply: Callable[[Values], Values]) -> Difference:
    """One channel of one site, changed, among all sites."""
    made = [describe(apply(x[i]) if n == name else x[i]) for n, x in sites.items()]
    over = summarise([h for h in made if h is not None])
    return compare([channel[0]], [channel[1]], [Own.of(apply(sites[name][i]))], [over])[0]


if __name__ == "__main__":
    main()
