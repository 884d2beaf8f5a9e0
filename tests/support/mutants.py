# SPDX-License-Identifier: Apache-2.0
"""Break the core promises one at a time, in a copy of this tree, and expect the tests of each promise to fail.

`tests/mutants.toml` lists them: a line of a file, what it becomes, and the tests that must fail then. A mutant is
caught when one of its tests fails. One that survives is a promise that no test holds: the run ends with exit code 1.
So does a table that is no longer true: a text that is not found exactly once, a test that is not there, tests that
fail without a mutant, or a mutant that breaks an import.

Usage: ``make mutants`` for all, ``make mutants ONLY="WORD ..."`` for those whose promise, file or tests
contain one of the words.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path("tests/mutants.toml")
ROOMS = ("models", "agent", "aggregator", "fleet")  # folders with an import package each
LEFT_OUT = (".git", ".venv*", ".counterparts", "*.egg-info", "__pycache__", "build", ".mypy_cache", ".ruff_cache")
LONGEST_S = 120  # that the tests of one mutant may take
PASSED, FAILED = 0, 1  # exit codes of pytest; 2: an import is broken, 4 and 5: there is no such test
TOO_LONG, SKIPPED = -1, -2  # in addition to those


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table."""

    promise: str
    file: str
    line: str  # text that the file contains exactly once
    becomes: str
    tests: tuple[str, ...]  # PATH::FUNCTION; at least one of them must fail

    def mentions(self, word: str) -> bool:
        """Whether a word of the command line means this one."""
        return any(word in text for text in (self.promise, self.file, *self.tests))


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    mutant: list[Mutant]


def load(root: Path) -> list[Mutant]:
    """The mutants of a tree. Raises msgspec.ValidationError for a key that is missing or unknown."""
    return msgspec.convert(tomllib.loads((root / TABLE).read_text()), _Table).mutant


def problems(mutant: Mutant, root: Path) -> Iterator[str]:
    """What of a row is not true of a tree; nothing when it can be run."""
    path = root / mutant.file
    count = path.read_text().count(mutant.line) if path.is_file() else 0
    if count != 1:
        yield f"{mutant.file}: expected this text exactly once, found it {count} times: {mutant.line}"
    if not mutant.tests:
        yield f"{mutant.file}: {mutant.promise}: names no test"
    for test in mutant.tests:
        file, _, function = test.partition("::")
        if not (root / file).is_file() or f"def {function}(" not in (root / file).read_text():
            yield f"{mutant.file}: there is no test {test}"


class Copy:
    """A copy of this tree that may be broken."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "tree"
        shutil.copytree(ROOT, self._root, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        # By hash and not by time: two versions of a file may be of the same size and written within a second.
        by_hash = py_compile.PycInvalidationMode.CHECKED_HASH
        for room in ROOMS:
            compileall.compile_dir(str(self._root / room), quiet=1, invalidation_mode=by_hash)
        path = os.pathsep.join(str(self._root / room) for room in ROOMS)  # comes before an editable install
        more = {"PYTHONDONTWRITEBYTECODE": "1", "FEDGE_TEST_WAIT_S": str(LONGEST_S / 2)}
        self._environment = {**os.environ, "PYTHONPATH": path, **more}

    def imported(self) -> list[str]:
        """Packages that tests would import from elsewhere; [] as it should be."""
        show = "; ".join(f"import fedge_{room}; print(fedge_{room}.__file__)" for room in ROOMS)
        done = subprocess.run(
            [sys.executable, "-c", show], env=self._environment, capture_output=True, text=True, check=True
        )
        return [line for line in done.stdout.splitlines() if not line.startswith(str(self._root))]

    def test(self, tests: Sequence[str], longest_s: float = LONGEST_S) -> tuple[int, str]:
        """Exit code of pytest, TOO_LONG or SKIPPED (all of them); and what it printed."""
        command = [sys.executable, "-m", "pytest", "-x", "--tb=short", "--hypothesis-profile=thorough", *tests]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                command, cwd=self._root, env=self._environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                code = process.wait(longest_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # and what the tests have started
                process.wait()
                code = TOO_LONG
            output.seek(0)
            text = output.read()
        return (SKIPPED if code == PASSED and " passed" not in text else code), text

    def test_broken(self, mutant: Mutant) -> tuple[int, str]:
        """The same with the mutant's line broken, for its own tests."""
        path = self._root / mutant.file
        whole = path.read_text()
        path.write_text(whole.replace(mutant.line, mutant.becomes))
        try:
            return self.test(mutant.tests)
        finally:
            path.write_text(whole)


OUTCOMES = {FAILED: "caught", SKIPPED: "skipped", PASSED: "SURVIVED", TOO_LONG: "TOO LONG"}


def run(mutants: Sequence[Mutant], copy: Copy) -> int:
    """Test each mutant and print a line for it; how many survived, or could not be run."""
    missed = 0
    for mutant in mutants:
        began = time.monotonic()
        code, output = copy.test_broken(mutant)
        outcome = OUTCOMES.get(code, "BROKEN")
        print(f"{outcome:8} {time.monotonic() - began:5.1f} s  {mutant.file}: {mutant.promise}", flush=True)
        if code not in (FAILED, SKIPPED):
            missed += 1
            print(f"  {mutant.line.strip()!r} -> {mutant.becomes.strip()!r}, tests: {', '.join(mutant.tests)}")
            print("" if code == PASSED else output[-2000:])
    return missed


def main(words: Sequence[str]) -> int:
    """The exit code."""
    mutants = [m for m in load(ROOT) if not words or any(m.mentions(word) for word in words)]
    if not mutants:
        print(f"{TABLE}: no mutant has one of the words {', '.join(words)} in its promise, file or tests")
        return 1
    if wrong := [text for mutant in mutants for text in problems(mutant, ROOT)]:
        print(f"{TABLE} is no longer true:", *wrong, sep="\n  ")
        return 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fedge-mutants-") as folder:
        copy = Copy(Path(folder))
        if elsewhere := copy.imported():
            print("tests would not import the copy but:", *elsewhere, sep="\n  ")
            return 1
        code, output = copy.test(
            list(dict.fromkeys(test for mutant in mutants for test in mutant.tests)), 10 * LONGEST_S
        )
        if code != PASSED:
            print("without any mutant:", output, sep="\n")
            return 1
        print(f"passed   {time.monotonic() - began:5.1f} s  all tests below, without a mutant", flush=True)
        missed = run(mutants, copy)
    times = os.times()
    spent = times.children_user + times.children_system
    print(f"{len(mutants) - missed} of {len(mutants)} mutants as expected, {spent:.0f} s of processor time")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
