# SPDX-License-Identifier: Apache-2.0
"""A federation on arrays or files of one's own, compared with each site alone and with all data in one place.

The windows, standardisation, training, tuning and own models of gateways and the rounds, rules and messages of the
aggregator are the real ones, with their default settings. Networks, disks and clocks are not: see
`fedge-fleet simulate`, whose settings are taken here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from fedge_models.errors import ConfigError, DataError, ModelError
from fedge_models.graph import array_labels
from fedge_models.graph.array_rows import input_rows
from fedge_models.graph.card_scale import rows_in_card_scale
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import settings
from fedge_models.system.floats import wide
from fedge_models.training.config import TrainingConfig
from fedge_models.training.objective import check_labels
from fedge_models.training.outliers import finite_rows
from numpy.typing import ArrayLike, NDArray

from ..data import site_checks, site_files, site_rows, units
from ..data.site_rows import SiteRows
from . import production, study_page, study_text
from .bench import Judged
from .compare import Described, compare
from .config import Config
from .data_source import OwnData
from .study import Study
from .verdict import Verdict, judge

WHERE = "simulate_federation"


@dataclass(frozen=True)
class Site:
    """The data of one site, before standardisation.

    x: (n, *input shape of the model) in the channels' units, or features, as `fedge_models.Model` takes rows; y: (n,)
    class index, 0 or 1 for anomaly, -1 where unknown, or the target; for several targets (n, targets), for multilabel 0
    or 1 (n, labels). test: (n,) whether a row is judged and not trained on; None: whole units are chosen, by the seed.
    """

    x: ArrayLike
    y: ArrayLike
    test: ArrayLike | None = None
    measured: bool | None = None  # whether x holds what is measured, where channels are derived and its shape fits both
    units: ArrayLike | None = None  # (n,) name or number of the experiment, asset, day, ...; None: blocks of rows


@dataclass(frozen=True)
class Comparison:
    """Scores on the test parts, by site, as means over the seeds, and the model that the federation has learned.

    metric: "auroc", "macro_f1" (more is better) or "rmse" (less is better).
    """

    study: Study  # everything that was run
    weights: NDArray[np.float32]  # (P,) of the last release of the first seed, for `TrainableGraph.set_params`

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.study.metric

    @property
    def federated(self) -> dict[str, float]:
        """What serves at each honest site that can be judged: the tuned release with the site's own model."""
        return self._mean(lambda seed: self._run(seed).serves)

    @property
    def release(self) -> dict[str, float]:
        """The release by itself, at the same sites."""
        return self._mean(lambda seed: self._run(seed).release)

    @property
    def alone(self) -> dict[str, float]:
        """A model of each site alone."""
        return self._mean(lambda seed: self.study.lines[seed].alone)

    @property
    def central(self) -> dict[str, float]:
        """A model of all data in one place."""
        return self._mean(lambda seed: self.study.lines[seed].pooled)

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Sites that trust has silenced, with the first seed."""
        return self._run(self.study.seeds[0]).quarantined

    @property
    def left_out(self) -> dict[str, int]:
        """Rows or windows of each site with gaps, across two parts, or without a number."""
        return dict(self.study.left_out)

    @cached_property
    def verdict(self) -> Verdict:
        """What the figures mean, in sentences, and the rule to take."""
        return judge(self.study)

    def page(self) -> str:
        """The page for those who decide: HTML, in one file."""
        return study_page.render(self.study)

    def save_page(self, path: Path | str) -> None:
        """Write the page."""
        Path(path).write_text(self.page(), encoding="utf-8")

    def as_json(self) -> str:
        """All figures as one JSON object."""
        return study_text.as_json(self.study)

    def __str__(self) -> str:
        return "\n".join(study_text.lines(self.study))

    def _run(self, seed: int) -> Any:
        return self.study.own_run(seed)

    def _mean(self, at: Callable[[int], Judged]) -> dict[str, float]:
        rows = [at(seed).sites for seed in self.study.seeds]
        names = {name: None for row in rows for name in row}
        return {n: float(np.mean([row[n] for row in rows if n in row])) for n in self.study.sites if n in names}


def simulate_federation(
    sites: Mapping[str, Site | Path | str],
    model: bytes | Path | str,
    *,
    rounds: int = production.ROUNDS,
    training: TrainingConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    seeds: int = 1,
    workers: int = 1,
    look: Callable[[int, int], None] = lambda done, of: None,
    **keys: Any,
) -> Comparison:
    """Run a federation of two sites or more, as aggregator and gateways run it by default, and compare it.

    sites: arrays, or a file or folder each, as `fedge-agent train --data` reads them. model: an ONNX file with a card,
    or its bytes. training: of each site, each round; a dict has some of its keys. seeds: repetitions, each with other
    data held back, from `seed` on; several tell the errors. workers: processes at once; above 1 the program needs
    ``if __name__ == "__main__"``. look: gets how much is done, of how much. keys: further keys of a simulation, such as
    ``compare=True``, ``rule={"name": "median"}``, ``trust={"action": "watch"}`` or ``hostile=0.3``.

    Raises DataError for data that does not fit the model, ModelError for a model that does not train, ConfigError for
    keys that do not fit.
    """
    body = model if isinstance(model, bytes) else Path(model).read_bytes()
    table = {**keys, "sites": max(2, len(sites)), "rounds": rounds, "seed": seed, "seeds": seeds}
    if training is not None:
        table["training"] = _training_table(training)
    config = settings.convert(table, Config, WHERE)
    _check_names(sites)
    rows = read_sites(sites, TrainableGraph.load(body), config)
    study = compare_sites(rows, body, config, WHERE, workers, look)
    return Comparison(study, study.own_run(seed).weights)


def _training_table(training: object) -> dict[str, Any]:
    """Keys of a training and their values. Raises ConfigError for anything else."""
    if isinstance(training, TrainingConfig):
        return msgspec.structs.asdict(training)
    if isinstance(training, Mapping):
        return dict(training)
    raise ConfigError(
        f'{WHERE}: training: expected a TrainingConfig or a dict such as {{"epochs": 2}}, got '
        f"{type(training).__name__} {training!r:.100}"
    )


def _check_names(sites: Mapping[Any, Any]) -> None:
    """Raise DataError for names that a gateway cannot have."""
    for name in sites:
        if not isinstance(name, str) or not re.fullmatch(settings.NAME, name):
            raise DataError(
                f"site {name!a}: not a name that a gateway may have: up to {site_files.LONGEST} letters, digits, "
                f"'.', '_' and '-', a letter or digit first; call it {site_files.cleaned(str(name))!r}"
            )


def read_sites(
    sites: Mapping[str, Any],
    graph: TrainableGraph,
    config: Config,
    look: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, SiteRows]:
    """Read every site; a fault at several is told at once. Raises DataError."""
    found, faults = {}, []
    for k, (name, site) in enumerate(sites.items()):
        look(k, len(sites))
        try:
            found[name] = _rows(name, site, graph, config)
        except DataError as e:
            faults.append(str(e))
    if faults:
        raise DataError("\n".join(faults))
    site_checks.check(found, graph.card)
    return found


def compare_sites(
    rows: Mapping[str, SiteRows],
    body: bytes,
    config: Config,
    where: str,
    workers: int,
    look: Callable[[int, int], None],
) -> Study:
    """Compare on the rows of one's own sites. Raises ConfigError."""
    card = TrainableGraph.load(body).card
    notes = [*(f"{name}: {note}" for name, site in rows.items() for note in site.notes), *site_checks.notes(rows, card)]
    described = Described(
        tuple(notes), {n: s.units.kind for n, s in rows.items()}, {n: s.left_out for n, s in rows.items()}
    )
    source = OwnData(rows, body, production.plan(config, where), config, where)
    return compare(config, where, source, described, workers, look)


def _rows(name: str, site: Any, graph: TrainableGraph, config: Config) -> SiteRows:
    """The rows of a site: arrays, a file or folder, or several files. Raises DataError."""
    if not isinstance(site, Site):
        paths = (Path(site),) if isinstance(site, (str, Path)) else site
        return site_rows.read(paths, graph, config.label, config.form)
    try:
        return _of_arrays(site, graph)
    except (ValueError, ModelError) as e:
        raise DataError(f"site {name!r}: {e}") from e


def _of_arrays(site: Site, graph: TrainableGraph) -> SiteRows:
    """The rows of arrays. Raises ValueError, ModelError."""
    x, card = np.asarray(site.x), graph.card
    array_labels.check_numbers(x, "x")
    x = input_rows(wide(x), card, graph.input_shape, site.measured)
    y = array_labels.labels(np.asarray(site.y), len(x), card)
    array_labels.check_targets(y, card, graph.output_shape)
    if card.task == "multilabel":
        check_labels(card, y)
    marked = None if site.test is None else array_labels.marks(np.asarray(site.test), len(x))
    keep = finite_rows(x)
    if not keep.any():
        raise ValueError(f"none of {len(x)} rows of x holds finite values only")
    return SiteRows(rows_in_card_scale(x, card), y, _units(site, len(x)), marked, left_out=int((~keep).sum()))


def _units(site: Site, rows: int) -> units.Units:
    """The units that the caller names, else blocks of rows. Raises ValueError."""
    at = np.arange(rows, dtype=np.int64)
    if site.units is None:
        return units.of_blocks(at, at + 1)
    names = np.asarray(site.units)
    if names.shape != (rows,):
        raise ValueError(f"'units' has the shape {names.shape}, expected ({rows},): one for each row of 'x'")
    return units.of_groups([str(n) for n in names.tolist()], "whole units") or units.of_blocks(at, at + 1)
