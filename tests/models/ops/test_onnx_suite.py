# SPDX-License-Identifier: Apache-2.0
"""ONNX's own test suite: nothing is wrong, every refusal has a reason, and the page has the counts."""

from __future__ import annotations

import onnx
import pytest
from fedge_models.ops.registry import OPERATORS
from support.onnx_suite import PASSED, REFUSED, UNSUPPORTED, WRONG, Outcome
from support.onnx_suite_page import PAGE, release_of, run, tables, written


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return run()


def test_no_output_and_no_gradient_is_wrong(outcomes: list[Outcome]) -> None:
    wrong = [f"{o.suite} {o.name}: {o.why}" for o in outcomes if o.verdict == WRONG]
    assert not wrong, "\n".join(wrong)
    assert len(outcomes) > 1200  # of the oldest release of onnx that is supported
    assert sum(o.slopes for o in outcomes) > 500


def test_every_refusal_says_why_and_every_lacking_operator_is_named(outcomes: list[Outcome]) -> None:
    for o in outcomes:
        if o.verdict == REFUSED:
            assert len(o.why.split()) > 1, o
        if o.verdict == UNSUPPORTED:
            assert not set(o.why.split(", ")) & set(OPERATORS), o


def test_operators_of_the_suite_that_are_supported_pass_in_some_case(outcomes: list[Outcome]) -> None:
    seen = {op for o in outcomes for op in o.operators} & set(OPERATORS)
    passed = {op for o in outcomes if o.verdict == PASSED for op in o.operators}
    assert seen <= passed, seen - passed


def test_page_of_the_suite_is_what_comes_out(outcomes: list[Outcome]) -> None:
    text = PAGE.read_text("utf-8")
    if release_of(text) != onnx.__version__:
        pytest.skip("the page is about another release of onnx")
    assert written(text, tables(outcomes)) == text, "run: make onnx-suite"
