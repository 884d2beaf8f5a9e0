# SPDX-License-Identifier: Apache-2.0
"""How a data set is dealt to more sites than it has, so that the sites differ in a chosen way.

A site of the set (a plant, a line, a machine) is what really differs; `own` keeps to those borders, the others deal the
pool. Windows are never shared between sites, nor between training and test; a site's test part is dealt like its
training part.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Annotated

import msgspec
import numpy as np
from fedge_models.errors import ConfigError
from msgspec import Meta
from numpy.typing import NDArray

from ..data.site_data import Windows, pooled

Ints = NDArray[np.int64]


class Own(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each real site is cut into parts, more the more windows it has; each has the site's own mix. For fewer sites than
    the set has, the first ones are taken."""


class Even(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pool dealt evenly: sites that hardly differ."""


class Dirichlet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Label skew: each class's windows are shared out by a Dirichlet draw (Hsu, Qi & Brown 2019)."""

    alpha: Annotated[float, Meta(gt=0)] = 0.5  # small: a class lies with few sites


class Classes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Label skew at its worst: each site has only so many classes (McMahan et al. 2017, pathological non-IID)."""

    per_site: Annotated[int, Meta(ge=1)] = 2


class Quantity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same mix in very different amounts, by a Dirichlet draw."""

    alpha: Annotated[float, Meta(gt=0)] = 0.5


Skew = Own | Even | Dirichlet | Classes | Quantity
SKEWS: dict[str, type[Skew]] = {
    "classes": Classes,
    "dirichlet": Dirichlet,
    "even": Even,
    "own": Own,
    "quantity": Quantity,
}
LEAST = 8  # training windows that a site gets when the set has enough for all
FEWEST = 2  # training windows below which a site cannot take part


def deal(sites: Mapping[str, Windows], count: int, skew: Skew, seed: int) -> dict[str, Windows]:
    """Deal the windows of a set to `count` sites. Raises ConfigError when there is not enough data for them."""
    rng = np.random.default_rng(seed)
    if isinstance(skew, Own):
        dealt = _by_site(sites, count, rng)
    else:
        pool = pooled(sites)
        owner = _owners(pool, count, skew, rng)
        if isinstance(skew, Dirichlet | Quantity):
            _top_up(owner, ~pool.test, count, rng)
        width = len(str(count))
        dealt = {f"site{k + 1:0{width}d}": _chosen(pool, owner == k) for k in range(count)}
    for name, site in dealt.items():
        if (have := int((~site.test).sum())) < FEWEST:
            raise ConfigError(f"key 'sites': {count} sites leave {name} {have} training windows, it needs {FEWEST}")
    return dealt


def _top_up(owner: Ints, trained: NDArray[np.bool_], count: int, rng: np.random.Generator) -> None:
    """Move training windows, in place, from the largest sites to those with fewer than `LEAST`, or than an even share.

    A Dirichlet draw leaves some sites nearly empty (Li et al. 2022 draw again until none is); moving single windows
    changes no draw in which every site has enough.
    """
    least = min(LEAST, int(trained.sum()) // count)
    have = np.bincount(owner[trained], minlength=count)
    while have.min() < least:
        poor, rich = int(have.argmin()), int(have.argmax())
        owner[rng.choice(np.flatnonzero(trained & (owner == rich)))] = poor
        have[poor] += 1
        have[rich] -= 1


def _chosen(site: Windows, keep: NDArray[np.bool_]) -> Windows:
    return Windows(site.x[keep], site.y[keep], site.test[keep], site.held[keep])


def _by_site(sites: Mapping[str, Windows], count: int, rng: np.random.Generator) -> dict[str, Windows]:
    if count < len(sites):
        return dict(islice(sites.items(), count))
    dealt = {}
    for (name, site), parts in zip(sites.items(), _parts([len(s.y) for s in sites.values()], count), strict=True):
        owner = _even(site, parts, rng)
        for k in range(parts):
            dealt[f"{name}.{k + 1}" if parts > 1 else name] = _chosen(site, owner == k)
    return dealt


def _parts(sizes: list[int], count: int) -> list[int]:
    """How many parts each site is cut into: one more, each time, for the site whose parts are largest."""
    parts = [1] * len(sizes)
    while sum(parts) < count:
        parts[int(np.argmax([s / p for s, p in zip(sizes, parts, strict=True)]))] += 1
    return parts


def _owners(pool: Windows, count: int, skew: Skew, rng: np.random.Generator) -> Ints:
    """Assign each window of the pool to a site (0 to count - 1)."""
    if isinstance(skew, Dirichlet):
        return _by_class(pool, [rng.dirichlet(np.full(count, skew.alpha)) for _ in _classes(pool)], rng)
    if isinstance(skew, Quantity):
        share = rng.dirichlet(np.full(count, skew.alpha)) * 0.9 + 0.1 / count  # nobody is left with nothing
        return _by_class(pool, [share] * len(_classes(pool)), rng)
    if isinstance(skew, Classes):
        return _by_class(pool, _few(len(_classes(pool)), count, skew.per_site), rng)
    return _even(pool, count, rng)


def _few(classes: int, count: int, per_site: int) -> list[NDArray[np.float64]]:
    """Shares (count,) of each class when site k has the classes k, k + 1, … (mod their number) only."""
    has = np.zeros((classes, count))
    for k in range(count):
        for j in range(per_site):
            has[(k * per_site + j) % classes, k] = 1
    if not has.sum(axis=1).all():
        raise ConfigError(f"key 'skew.per_site': {count} sites with {per_site} classes do not cover {classes} classes")
    return list(has / has.sum(axis=1, keepdims=True))


def _classes(pool: Windows) -> NDArray[np.generic]:
    if pool.y.dtype.kind == "f":
        raise ConfigError("key 'skew.name': this set has targets, no classes; use 'own' or 'even'")
    return np.unique(pool.y)


def _by_class(pool: Windows, shares: list[NDArray[np.float64]], rng: np.random.Generator) -> Ints:
    """Each class's training and test windows, shuffled, cut where the shares say."""
    owner = np.zeros(len(pool.y), np.int64)
    for label, share in zip(_classes(pool), shares, strict=True):
        for test in (False, True):
            at = rng.permutation(np.flatnonzero((pool.y == label) & (pool.test == test)))
            ends = np.round(np.cumsum(share) * len(at)).astype(np.int64)
            owner[at] = np.searchsorted(ends, np.arange(len(at)), side="right").clip(max=len(share) - 1)
    return owner


def _even(site: Windows, count: int, rng: np.random.Generator) -> Ints:
    """Training and test windows of each class dealt in turn, so that all parts have the same mix."""
    owner = np.zeros(len(site.y), np.int64)
    labels = site.y if site.y.dtype.kind != "f" else np.zeros(len(site.y), np.int64)
    at = 0
    for label in np.unique(labels):
        for test in (False, True):
            mine = rng.permutation(np.flatnonzero((labels == label) & (site.test == test)))
            owner[mine] = (at + np.arange(len(mine))) % count
            at += len(mine)
    return owner
