# SPDX-License-Identifier: Apache-2.0
"""The one SQLite file of samples, labels and events: where it is, what its tables are, how it is opened.

Labels, and what people did with events, are acknowledged, so their connection commits
with ``synchronous=EXTRA``; samples are acknowledged to nobody, so theirs commits with NORMAL: a power cut may cost the
last half minute, not the file.
"""

from __future__ import annotations

from pathlib import Path

from fedge_models.system.database import Durability
from fedge_models.system.healing import HealingDatabase
from fedge_models.system.worker import Worker

from . import held_rows

SAMPLES_FILE = "samples.sqlite"  # in the state folder
LAST_S = 5.0  # for what waits at the end

# A sample's origin (`label_values.RANKS`; 0: none) and label (an id; 0: a tag) say whose value y is; span_ns is the
# window's length, part is what was made. They stand before the features (x), which may fill pages. A recipe says how
# samples of the model are made (`graph.recipe`), and, with an asset, what is otherwise there (`machine_recipe`);
# those of an id up to `since` were made by another. What the numbers in y stand for: sample_labels (`label_order`).
SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, asset TEXT NOT NULL, time_ns INTEGER NOT NULL,
    y INTEGER, held INTEGER NOT NULL, origin INTEGER NOT NULL DEFAULT 0, label INTEGER NOT NULL DEFAULT 0,
    span_ns INTEGER NOT NULL DEFAULT 0, part TEXT NOT NULL DEFAULT '', x BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_model ON samples (model, held);
CREATE INDEX IF NOT EXISTS by_asset ON samples (model, asset, y);
CREATE INDEX IF NOT EXISTS by_time ON samples (asset, time_ns);
CREATE INDEX IF NOT EXISTS by_part ON samples (asset, part) WHERE part != '';
CREATE TABLE IF NOT EXISTS scalings (
    model TEXT PRIMARY KEY, shape TEXT NOT NULL, scale BLOB NOT NULL, samples INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS baselines (
    model TEXT, asset TEXT, bytes INTEGER NOT NULL, covered_ns INTEGER NOT NULL, PRIMARY KEY (model, asset));
CREATE TABLE IF NOT EXISTS sample_recipes (
    model TEXT, asset TEXT, recipe BLOB NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (model, asset));
CREATE TABLE IF NOT EXISTS sample_labels (model TEXT PRIMARY KEY, names TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS labels (
    id INTEGER PRIMARY KEY AUTOINCREMENT, asset TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    value NOT NULL, origin TEXT NOT NULL, part TEXT NOT NULL, noted INTEGER NOT NULL,
    matched INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS labels_of ON labels (asset);
CREATE TABLE IF NOT EXISTS events (
    key TEXT PRIMARY KEY, asset TEXT NOT NULL, opened_ns INTEGER NOT NULL, cleared_ns INTEGER, severity TEXT NOT NULL,
    worst REAL, threshold REAL, provisional INTEGER NOT NULL, body BLOB NOT NULL, sent INTEGER NOT NULL,
    acknowledged REAL, who TEXT NOT NULL DEFAULT '', kind TEXT NOT NULL DEFAULT 'alert');
CREATE TABLE IF NOT EXISTS questions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, asset TEXT NOT NULL,
    start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, part TEXT NOT NULL, label TEXT NOT NULL, says TEXT NOT NULL,
    reason TEXT NOT NULL, why TEXT NOT NULL, answers TEXT NOT NULL, release INTEGER NOT NULL,
    asked_ns INTEGER NOT NULL, state TEXT NOT NULL, answer TEXT NOT NULL, sent INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS withheld (
    name TEXT PRIMARY KEY, key TEXT NOT NULL, asset TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    verdict TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS withheld_of ON withheld (key);
CREATE TABLE IF NOT EXISTS event_notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, at REAL NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
    text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shelves (
    subject TEXT PRIMARY KEY, until REAL NOT NULL, left_s REAL NOT NULL, who TEXT NOT NULL, text TEXT NOT NULL,
    suppressed INTEGER NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS labels_by_span ON labels (asset, part, end_ns, start_ns);
"""


def open_tables(
    path: Path, name: str, durability: Durability, beside: HealingDatabase | None = None, heals: bool = True
) -> HealingDatabase:
    """The file with all tables; the arguments are those of HealingDatabase. Where nobody else heals it, what is stored
    while it cannot be used is held in memory, which connections beside this one share."""
    return HealingDatabase(
        path, SCHEMA, name, durability, memory=heals, beside=beside, heals=heals, holding=held_rows.holding()
    )


class TableWriter:
    """A connection to the tables, and the thread that writes to them; base of the samples, labels and events."""

    def __init__(self, tables: HealingDatabase, worker: Worker) -> None:
        self.tables, self._worker = tables, worker

    @property
    def problem(self) -> str | None:
        """Why nothing is written at the moment."""
        return self._worker.problem or self.tables.problem

    def start(self) -> None:
        """Write from now on."""
        self._worker.start()

    def stop(self) -> None:
        """Write what waits, and close."""
        self._worker.stop(LAST_S)
        self.tables.close()
