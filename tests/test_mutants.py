# SPDX-License-Identifier: Apache-2.0
"""The table of mutants is true of this tree; `make mutants` runs them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support import mutants
from support.mutants import Mutant

MUTANTS = mutants.load(mutants.ROOT)
ROW = Mutant("It adds.", "a.py", "x + 1", "x - 1", ("test_a.py::test_adds",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "test_a.py").write_text("def test_adds():\n    assert f(1) == 2\n")
    return tmp_path


def test_every_row_can_be_run() -> None:
    assert [text for mutant in MUTANTS for text in mutants.problems(mutant, mutants.ROOT)] == []


def test_every_row_breaks_something_of_its_own() -> None:
    assert all(m.line != m.becomes for m in MUTANTS)
    assert len({(m.file, m.line, m.becomes) for m in MUTANTS}) == len(MUTANTS) == len({m.promise for m in MUTANTS})


def test_a_row_that_is_true_has_no_problem(tree: Path) -> None:
    assert list(mutants.problems(ROW, tree)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"line": "x + 2"}, "expected this text exactly once, found it 0 times: x + 2"),
        ({"line": "x"}, "found it 2 times"),
        ({"file": "b.py"}, "b.py: expected this text exactly once, found it 0 times"),
        ({"tests": ()}, "names no test"),
        ({"tests": ("test_a.py::test_subtracts",)}, "there is no test test_a.py::test_subtracts"),
        ({"tests": ("test_b.py::test_adds",)}, "there is no test test_b.py::test_adds"),
    ],
)
def test_a_row_that_is_no_longer_true_is_reported(tree: Path, change: dict[str, object], words: str) -> None:
    [problem] = mutants.problems(msgspec.structs.replace(ROW, **change), tree)
    assert words in problem
