# SPDX-License-Identifier: Apache-2.0
"""The store under many threads: shared commits, readers beside a writer, what fails alone and what fails together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from fedge_aggregator.store.audit import Audit, record
from fedge_aggregator.store.database import FILE, Database
from fedge_aggregator.store.group_commit import MOST, GroupCommit
from fedge_models.errors import StaleError, StorageError
from support.waiting import LONGEST_S, until

T = TypeVar("T")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path)
    yield made
    made.close()


def written(database: Database) -> list[str]:
    return [row.detail for row in Audit(database).read()]


def elsewhere(folder: Path) -> list[str]:
    """What another process sees."""
    with closing(sqlite3.connect(folder / FILE)) as db:
        return [detail for (detail,) in db.execute("SELECT detail FROM audit ORDER BY id")]


def write(database: Database, word: str) -> str:
    with database.transaction() as db:
        record(db, 0, "invite", word)
    return word


def gather(joint: GroupCommit, works: list[Callable[[], T]]) -> list[Future[T]]:
    """Run works that all wait while another one has the turn, and return their futures, which are done."""
    pool = ThreadPoolExecutor(len(works))
    with joint._turn:
        futures = [pool.submit(joint.run, work) for work in works]
        until(lambda: len(joint._waiting) == len(works), "all works to wait")
    pool.shutdown()
    return futures


def test_works_that_wait_together_are_one_transaction(database: Database, tmp_path: Path) -> None:
    joint, seen = GroupCommit(database, nullcontext()), []

    def work(word: str) -> str:
        seen.append(len(elsewhere(tmp_path)))  # committed so far
        return write(database, word)

    words = [f"{i:02d}" for i in range(MOST // 2)]
    futures = gather(joint, [partial(work, w) for w in words])
    assert [f.result() for f in futures] == words
    assert sorted(elsewhere(tmp_path)) == words
    assert set(seen) == {0}


def test_more_than_fit_are_all_done(database: Database, tmp_path: Path) -> None:
    joint = GroupCommit(database, nullcontext())
    words = [f"{i:03d}" for i in range(2 * MOST + 3)]
    for future in gather(joint, [partial(write, database, w) for w in words]):
        future.result()
    assert sorted(elsewhere(tmp_path)) == words


def test_work_that_is_refused_undoes_itself_alone(database: Database, tmp_path: Path) -> None:
    joint = GroupCommit(database, nullcontext())

    def refused() -> str:
        write(database, "never")
        raise StaleError("too late")

    futures = gather(joint, [lambda: write(database, "a"), refused, lambda: write(database, "b"), refused])
    assert [type(f.exception()) for f in futures] == [type(None), StaleError, type(None), StaleError]
    assert sorted(elsewhere(tmp_path)) == ["a", "b"]


def test_fault_of_the_database_fails_all_and_keeps_nothing(database: Database, tmp_path: Path) -> None:
    joint = GroupCommit(database, nullcontext())

    def broken() -> None:
        with database.transaction() as db:
            db.execute("INSERT INTO nowhere VALUES (1)")

    futures = gather(joint, [lambda: write(database, "a"), broken, lambda: write(database, "b")])
    assert {type(f.exception()) for f in futures} == {StorageError}
    write(database, "goes on")
    assert elsewhere(tmp_path) == ["goes on"]


def test_result_is_given_only_after_the_commit(database: Database, tmp_path: Path) -> None:
    assert GroupCommit(database, nullcontext()).run(lambda: write(database, "durable")) == "durable"
    assert elsewhere(tmp_path) == ["durable"]


def test_readers_do_not_wait_for_a_writer_and_see_what_is_committed(database: Database) -> None:
    write(database, "before")
    with database.transaction() as db, ThreadPoolExecutor(1) as other:
        record(db, 0, "invite", "mine")
        assert written(database) == ["before", "mine"]
        assert other.submit(written, database).result(LONGEST_S) == ["before"]
    assert written(database) == ["before", "mine"]


def test_reading_is_of_one_moment(database: Database) -> None:
    write(database, "a")
    with ThreadPoolExecutor(1) as other:
        with database.reading():
            assert written(database) == ["a"]
            other.submit(write, database, "b").result(LONGEST_S)
            with database.reading():
                assert written(database) == ["a"]
        assert written(database) == ["a", "b"]


def test_transaction_that_is_given_up_leaves_nothing_to_its_reader(database: Database) -> None:
    with pytest.raises(StaleError), database.transaction() as db:
        record(db, 0, "invite", "never")
        raise StaleError("given up")
    assert written(database) == []
