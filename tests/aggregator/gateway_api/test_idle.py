# SPDX-License-Identifier: Apache-2.0
"""Why a gateway sends nothing: a word of a fixed list with its next question, shown to the operator while it holds."""

from __future__ import annotations

from contextlib import closing
from typing import Any
from urllib.parse import quote

from click.testing import CliRunner
from fedge_agent.federation.uplink import Uplink
from fedge_aggregator.cli.main import main
from fedge_models.messages import idle
from fedge_models.messages.idle import Idle
from support.running_aggregator import RunningAggregator, head_of, submit, update, wait_for_release

CAP = 1 << 20


def _said(aggregator: RunningAggregator) -> dict[str, str]:
    found: dict[str, Any] = aggregator.app.status()["federations"]["pumps"]
    return dict(found["idle"])


def _printed(aggregator: RunningAggregator, *words: str) -> str:
    done = CliRunner().invoke(main, [*words, "--config", str(aggregator.folder / "aggregator.toml")])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_every_reason_has_words_and_other_words_are_none() -> None:
    assert set(idle.WORDS) == set(Idle) and all(idle.parse(reason.value) is reason for reason in Idle)
    assert idle.parse("") is idle.parse("of a newer gateway") is None


def test_the_operator_hears_why_a_gateway_sends_nothing_until_it_does(aggregator: RunningAggregator) -> None:
    a, b, c = (aggregator.enrol(name) for name in "abc")
    with closing(Uplink(c)) as link:
        assert link.fetch_release("pumps", 1, CAP) is None and _said(aggregator) == {}
        link.fetch_release("pumps", 1, CAP, Idle.FEW_SAMPLES)
        assert _said(aggregator) == {"c": "few_samples"}
        assert "no update from c (too few samples)" in _printed(aggregator, "status")
        first = head_of(a)
        submit(a, update(a, first))
        submit(b, update(b, first))
        wait_for_release(aggregator, 2)
        assert "no update from c (too few samples)" in _printed(aggregator, "release", "show", "pumps")
        assert "no update from c (too few samples)" in _printed(aggregator, "rounds")
        assert '"idle":{"c":"few_samples"}' in _printed(aggregator, "rounds", "--json")
        link.fetch_release("pumps", 1, CAP)
        assert _said(aggregator) == {} and "no update from" not in _printed(aggregator, "status")


def test_the_operator_hears_which_release_serves_where_the_newest_was_refused(aggregator: RunningAggregator) -> None:
    with closing(Uplink(aggregator.enrol("a"))) as link:
        link.fetch_release("pumps", 1, CAP, serves=0)
        assert aggregator.app.status()["federations"]["pumps"]["serves_older"] == {"a": 0}
        assert "refused the newest release: a (its model file serves there)" in _printed(aggregator, "status")
        link.fetch_release("pumps", 1, CAP)
        assert "refused the newest" not in _printed(aggregator, "status")
        for wrong in ("-1", "x", "9" * 17, "²"):
            link._call("GET", f"/v1/federations/pumps/release?have=1&serves={quote(wrong)}", None, CAP)
            assert not aggregator.app.status()["federations"]["pumps"]["serves_older"]


def test_an_unknown_word_and_one_of_another_federation_are_ignored(aggregator: RunningAggregator) -> None:
    with closing(Uplink(aggregator.enrol("a"))) as link:
        status, _ = link._call("GET", "/v1/federations/pumps/release?have=1&idle=" + "x" * 500, None, CAP)
        assert status == 304 and _said(aggregator) == {}
