# SPDX-License-Identifier: Apache-2.0
"""A model file in Python: load it, train it, evaluate it, score rows with it, save it.

Everything is done by the parts that a gateway uses, so what is measured here is what a gateway will do. Windows and
features are made by the agent; here a row is what the graph takes, in the channels' units.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .graph.array_rows import from_measured, input_rows
from .graph.card import Card
from .graph.card_scale import rows_in_card_scale
from .graph.intake import read_model, with_weights
from .graph.serve_check import check_served
from .graph.starter import Kind, make_starter
from .graph.trainable import TrainableGraph
from .ops.operator import Array
from .system import files
from .system.floats import rounded, wide
from .training import evaluation, objective, precision, standardise
from .training.config import TrainingConfig
from .training.loop import FitReport, fit
from .training.outliers import finite_rows
from .training.personal import check_local
from .training.scores import probabilities, scores, sigmoids
from .training.standardise import Scale


def load(path: str | Path, card: Card | str | Path | None = None, trainable: str | None = None) -> Model:
    """Load an ONNX file and check that it can be trained here.

    card: the model card, or a TOML file with it, for a file that has none; trainable: globs over initializer names,
    comma-separated, instead of the card's. Raises ModelError for a file that cannot serve or train here, ConfigError
    for the card's file.
    """
    found = Path(card) if isinstance(card, str) else card
    model = Model(read_model(Path(path), found, trainable), str(path))
    model.check()
    return model


def starter(card: Card, inputs: int | None = None, seed: int = 0, kind: Kind = "auto") -> Model:
    """Make a small untrained model for a card; `inputs`: how many values its features give, where it names any.

    kind: "dense" or "table" instead of the one for such inputs. Raises ModelError when there is none for such a card.
    """
    return Model(make_starter(card, inputs, seed, kind).SerializeToString())


class Model:
    """An ONNX model with its card. Not thread-safe.

    A row is, as the card says, a raw window (channels, length) in the channels' units, a feature vector as gateways
    compute it, or a picture with values from 0 to 255. The card's `centre`, `scale`, `mean` and `std` are applied here,
    then the standardisation. Where a window is one sample long, a row may also be (channels,); windows (time, channels)
    are turned. Where the card derives channels, x may hold what was measured instead, as its shape says; where that
    fits both, `measured` says whether it does.

    The first training fits the standardisation to its rows, as every site fits its own; `fit_scale` fits it to other
    rows. It is not part of the file. Without one, rows are standardised by their own statistics.
    """

    def __init__(self, data: bytes, where: str = "model") -> None:
        """Read the bytes of an ONNX file with a card; `where` names it in errors. Raises ModelError."""
        self.graph = TrainableGraph.load(data, where=where)
        self.scale: Scale | None = None
        self._data, self._where = data, where

    def check(self) -> None:
        """Run two samples in NumPy, backwards too, and in ONNX Runtime.

        Raises ModelError when they differ or fail, and when the card's `local` matches nothing.
        """
        check_local(self.graph, self._where)
        self.graph.probe()
        check_served(self._data, self.graph, self._where)

    @property
    def card(self) -> Card:
        """The model card: task, channels, window, labels or targets."""
        return self.graph.card

    def derived(self, x: ArrayLike) -> Array:
        """Return rows (n, *input_shape) of what was measured, x (n, channels, length) or (n, channels).

        A window with a value that is not finite, measured or derived, is NaN throughout; training leaves it out. Raises
        ModelError when the card names features, which are the agent's part, and ValueError for another shape.
        """
        return from_measured(wide(np.asarray(x)), self.card, self.graph.input_shape, self._where)

    def fit_scale(self, x: ArrayLike, y: ArrayLike | None = None, measured: bool | None = None) -> Scale:
        """Fit the standardisation to rows x (n, *input_shape); windows labelled as anomalies are left out.

        Raises ValueError when no row is left, or x does not fit the model.
        """
        return self._fit_scale(*self._rows(x, y, measured))

    def _fit_scale(self, rows: NDArray[Any], labels: NDArray[Any]) -> Scale:
        if self.card.task == "anomaly":
            rows = rows[labels != 1]
        if standardise.given(self.card) is None and not finite_rows(rows).any():
            raise ValueError(f"x: none of {len(rows)} rows to standardise by holds finite values only")
        self.scale = standardise.fit(rows, self.card)
        return self.scale

    def train(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        config: TrainingConfig | None = None,
        rng: np.random.Generator | None = None,
        pause: Callable[[], None] | None = None,
        measured: bool | None = None,
    ) -> FitReport:
        """Train in place on rows x (n, *input_shape).

        y: class indices (n,), for anomaly 0 and 1 or None, -1 where unknown; for multilabel 0 and 1 (n, labels), for
        regress values (n,) or (n, targets) in the targets' units, NaN where unknown. Rows of unknown label, and
        anomalies, are left out. rng: default, seed 0; pause: called before each batch. Raises ValueError when x or y do
        not fit the model, or no row is left. When training diverges, the weights are restored and the report says so.
        """
        rows, labels = self._rows(x, y, measured)
        keep = labels != 1 if self.card.task == "anomaly" else objective.known(self.card.task, labels)
        if len(rows) and not keep.any():
            raise ValueError(f"y: none of {len(rows)} rows can be trained on: {_why_none(self.card.task)}")
        if self.scale is None and len(rows):
            self._fit_scale(rows, labels)
        given = None if self.card.task == "anomaly" else labels[keep]
        config, rng = config or TrainingConfig(), rng or np.random.default_rng(0)
        return fit(self.graph, self._standardised(rows[keep]), given, config, rng, pause)

    def evaluate(self, x: ArrayLike, y: ArrayLike | None = None, measured: bool | None = None) -> dict[str, float]:
        """Return the figures of the model's task on rows x (n, *input_shape) with labels as for `train`.

        Always `loss`; classify: accuracy, macro_f1 and, with two labels, auroc and average_precision; multilabel: the
        same, and f1, ap and auroc of each label; regress: rmse and mae in the target's unit; anomaly: auroc where both
        labels occur. Rows with a value that is not finite are left out, as in training; `left_out`: how many, where
        there are any. No other figure when no row is left.
        """
        rows, labels = self._rows(x, y, measured)
        finite = finite_rows(rows)
        left_out = {} if finite.all() else {"left_out": float((~finite).sum())}
        rows, labels = rows[finite], labels[finite]
        if self.card.task == "anomaly":
            given = labels if (labels >= 0).any() else None
        else:
            keep = objective.known(self.card.task, labels)
            rows, given = rows[keep], labels[keep]
        found = evaluation.evaluate(self.graph, self._standardised(rows), given) if len(rows) else {}
        return found | left_out

    def predict(self, x: ArrayLike, measured: bool | None = None) -> Array:
        """Return the output for rows x (n, *input_shape).

        classify, multilabel: probabilities (n, labels); regress: estimates (n, targets) in the targets' units; anomaly:
        the standardised reconstruction (n, *input_shape).
        """
        out = evaluation.predict(self.graph, self._standardised(self._rows(x, None, measured)[0]), logits=True)
        if self.card.task == "classify":
            return probabilities(out)
        if self.card.task == "multilabel":
            return sigmoids(out)
        return objective.unscaled(self.card, out) if self.card.task == "regress" else out

    def score(self, x: ArrayLike, measured: bool | None = None) -> Array:
        """Return the score (n,) of rows x (n, *input_shape), which a gateway compares with its threshold."""
        return scores(self.graph, self._standardised(self._rows(x, None, measured)[0]))

    def to_bytes(self) -> bytes:
        """The ONNX file with the weights as they are now."""
        return with_weights(self._data, self.graph.initializers(self.graph.params))

    def save(self, path: str | Path) -> None:
        """Write the ONNX file with the weights as they are now. Raises StorageError when it cannot be written."""
        files.write(Path(path), self.to_bytes())

    def _rows(
        self, x: ArrayLike, y: ArrayLike | None = None, measured: bool | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """x in the card's scale and y; y is -1 or NaN where there is none. Raises ValueError when they do not fit."""
        rows, shape = np.asarray(x), self.graph.input_shape
        rows = rows if rows.dtype == np.uint8 else wide(rows)
        rows = input_rows(rows, self.card, shape, measured, self._where)
        rows = rows_in_card_scale(rows, self.card)
        rows = self._fine(rows)
        if y is None:
            return rows, self._unlabelled(len(rows))
        labels = np.asarray(y)
        if len(labels) != len(rows):
            raise ValueError(f"{len(rows)} rows of x, {len(labels)} of y")
        if self.card.task == "regress":
            return rows, labels.astype(np.float32, copy=False)
        if self.card.task == "multilabel":
            objective.check_labels(self.card, labels)
            return rows, labels.astype(np.float32)
        self._check_labels(labels)
        return rows, labels.astype(np.int64)

    def _fine(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows in float32 where that is fine enough for their scale."""
        if rows.dtype != np.float64 or (self.scale is not None and self.scale.is_wide):
            return rows
        return precision.narrowed(rows) if self.scale is None else rounded(rows)

    def _unlabelled(self, rows: int) -> NDArray[Any]:
        """Labels of rows of which nothing is known."""
        if self.card.task == "multilabel":
            return np.full((rows, len(self.card.labels)), np.nan)
        return np.full(rows, np.nan if self.card.task == "regress" else -1)

    def _check_labels(self, labels: NDArray[Any]) -> None:
        count = len(self.card.labels) if self.card.task == "classify" else 2
        if labels.ndim != 1 or not np.isin(labels, np.arange(-1, count)).all():
            raise ValueError(f"y: expected class indices (n,) from 0 to {count - 1}, or -1 for unknown")

    def _standardised(self, rows: NDArray[Any]) -> Array:
        if not len(rows):
            return rows.astype(np.float32)
        return (self.scale or standardise.fit(rows, self.card))(rows)


def _why_none(task: str) -> str:
    return "each is an anomaly" if task == "anomaly" else "each has an unknown label or target (-1, or NaN)"
