# SPDX-License-Identifier: Apache-2.0
"""What figures are taken to mean: nothing within its error is called a gain, and the default is left for cause only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from fedge_fleet.simulate.bench import HONEST, Found, Judged, Lines
from fedge_fleet.simulate.estimate import estimate, unseen
from fedge_fleet.simulate.rule_choice import DEFAULT, UNPROTECTED
from fedge_fleet.simulate.study import Study, hostile_numbers
from fedge_fleet.simulate.study_page import render
from fedge_fleet.simulate.study_text import remarks
from fedge_fleet.simulate.verdict import judge
from fedge_models.graph.card import Card, Channel, WindowSpec

CARD = Card("classify", (Channel("a"),), WindowSpec(1, 1, 1), labels=("ok", "worn"))
SITES = ("a", "b", "c", "d", "e")


def judged(values: Sequence[float]) -> Judged:
    return Judged({n: v for n, v in zip(SITES, values, strict=True) if np.isfinite(v)}, float(np.mean(values)))


def found(values: Sequence[float], hostile: tuple[str, ...] = (), rounds: int = 20) -> Found:
    history = tuple((k, 0.5 + 0.3 * min(1.0, k / 5)) for k in range(rounds + 1))
    row = judged(values)
    row = Judged({n: v for n, v in row.sites.items() if n not in hostile}, row.overall)
    return Found(
        row,
        row,
        0.5,
        history,
        float("nan"),
        hostile,
        hostile,
        {"admitted": 100},
        100_000,
        20_000,
        np.zeros(1, np.float32),
    )


def study(
    alone: float,
    together: Mapping[str, float],
    attacked: Mapping[str, float] | None = None,
    noise: float = 0.001,
    seeds: int = 5,
    metric: str = "macro_f1",
) -> Study:
    """A comparison of five sites in which every site has the same score, up to noise that differs by seed."""
    rng = np.random.default_rng(0)

    def row(value: float) -> list[float]:
        return (value + noise * rng.standard_normal(len(SITES))).tolist()

    lines = {s: Lines(judged(row(alone)), judged(row(alone)), dict.fromkeys(SITES, 300), dict.fromkeys(SITES, 100))
             for s in range(seeds)}  # fmt: skip
    runs = {(rule, HONEST, 0, s): found(row(v)) for rule, v in together.items() for s in range(seeds)}
    for rule, value in (attacked or {}).items():
        runs |= {(rule, "alie", 1, s): found(row(value), ("e",)) for s in range(seeds)}
    return Study(
        "test", CARD, metric, SITES, tuple(range(seeds)), tuple(together), ("alie",) if attacked else (),
        (1,) if attacked else (), lines, runs, 20, 100, 5000, True, False, {}, {}, (), (), {r: r for r in together},
        dict.fromkeys(together, 0),
    )  # fmt: skip


def answers(made: Study) -> str:
    assert "nan" not in render(made).lower().replace("alie", "")
    return "\n".join(f"{s.question} {s.answer}" for s in judge(made).sentences)


def test_among_few_sites_it_is_said_that_the_default_averages() -> None:
    assert "Among 5 sites, fewer than 7, the default is an average too" in answers(
        study(0.7, {DEFAULT: 0.8, UNPROTECTED: 0.81})
    )
    assert "is an average too" not in answers(study(0.7, {"median": 0.8, UNPROTECTED: 0.81}))


def test_a_gain_beyond_its_error_pays_and_one_within_does_not() -> None:
    pays = study(0.7, {DEFAULT: 0.8})
    assert "Joining pays here: macro-F1 0.80" in answers(pays)
    assert set(judge(pays).gain) == set(SITES) and judge(pays).rule == DEFAULT
    unclear = study(0.7, {DEFAULT: 0.71}, noise=0.1)
    assert "do not show that joining pays" in answers(unclear) and "No site gains clearly; none loses" in answers(
        unclear
    )
    loses = study(0.8, {DEFAULT: 0.7})
    assert "Joining costs here" in answers(loses) and "stay alone" in answers(loses) and judge(loses).rule is None
    assert "5 sites" in answers(loses) and set(judge(loses).lose) == set(SITES)


def test_of_an_error_less_is_better() -> None:
    pays = study(0.8, {DEFAULT: 0.7}, metric="rmse")
    assert "Joining pays here: RMSE 0.70" in answers(pays) and set(judge(pays).gain) == set(SITES)


def test_one_seed_tells_no_error_and_says_so() -> None:
    one = study(0.7, {DEFAULT: 0.8, UNPROTECTED: 0.8}, seeds=1)
    assert "whether that is chance is not known" in answers(one) and not judge(one).gain


def test_sites_that_cannot_be_judged_are_named_and_nothing_is_claimed_where_none_can() -> None:
    made = study(0.7, {DEFAULT: 0.8})
    for lines in made.lines.values():
        del lines.alone.sites["c"]
    assert "c cannot be judged" in answers(made) and judge(made).unknown == ["c"]
    none = study(float("nan"), {DEFAULT: float("nan")})
    assert "These data cannot tell" in answers(none) and judge(none).rule is None


def test_a_site_with_few_samples_to_judge_by_does_not_hide_what_the_others_gain() -> None:
    made = study(0.7, {DEFAULT: 0.8})
    for seed, lines in made.lines.items():
        lines.test["c"] = 12
        lines.alone.sites["c"] = 0.2 + 0.3 * seed
        object.__setattr__(lines.alone, "overall", float(np.mean([*lines.alone.sites.values()])))
    text = answers(made)
    assert (
        "do not show that joining pays" in text and "Without c, judged by fewer than 30 samples, it is +0.100" in text
    )


def with_tests(made: Study, counts: Mapping[str, int]) -> Study:
    for lines in made.lines.values():
        lines.test.update(counts)
    return made


def test_an_error_is_never_less_than_the_samples_to_judge_by_can_show() -> None:
    """Seeds that agree to the last digit do not make a few samples many."""
    same = study(0.7, {DEFAULT: 0.7}, noise=0)
    assert same.gain(DEFAULT).error == pytest.approx(3 / 500)
    assert "(+0.000 ± 0.006)" in answers(same) and "A gain of less than 0.006 cannot be seen" in answers(same)
    assert "0.000 cannot be seen" not in answers(study(0.7, {DEFAULT: 0.7}, noise=0, metric="rmse"))
    little = study(0.7, {DEFAULT: 0.72}, {DEFAULT: 0.69}, noise=0)
    assert set(judge(with_tests(little, dict.fromkeys(SITES, 100))).unclear) == set(SITES)
    assert all(f.gain.error == pytest.approx(0.03) for f in little.site_figures())
    assert "From staying alone that cannot be told apart (-0.010 ± 0.030)" in answers(
        with_tests(little, dict.fromkeys(SITES, 25))
    )
    assert unseen([50, 200]) == pytest.approx(0.03) and unseen([1]) == unseen([]) == 1


@pytest.mark.parametrize(("together", "word"), [(0.9, "Joining pays here"), (0.4, "Joining costs here")])
def test_a_site_with_few_samples_is_never_clear_and_named_in_every_answer(together: float, word: str) -> None:
    made = with_tests(study(0.7, {DEFAULT: together}), {"c": 29})
    found = judge(made)
    assert "c" in found.unclear and {*found.gain, *found.lose} == {"a", "b", "d", "e"}
    assert word in answers(made) and "Without c, judged by fewer than 30 samples, it is" in answers(made)
    assert "Without c, judged by" in answers(with_tests(study(0.7, {DEFAULT: together}, seeds=1), {"c": 29}))
    every = with_tests(study(0.7, {DEFAULT: together}), dict.fromkeys(SITES, 29))
    assert "Every site is judged by fewer than 30 samples" in answers(every) and not judge(every).gain


def test_a_default_that_is_better_has_a_gain_and_not_a_price_below_zero() -> None:
    text = answers(study(0.7, {DEFAULT: 0.83, UNPROTECTED: 0.8}))
    assert "it is better than FedAvg without trust, by macro-F1 0.03" in text and "macro-F1 -" not in text
    assert "Nothing that can be seen" in answers(study(0.7, {DEFAULT: 0.804, UNPROTECTED: 0.8}, noise=0))


def test_the_price_of_the_default_is_told_with_its_error() -> None:
    assert "Where nobody attacks, macro-F1 0.03" in answers(study(0.7, {DEFAULT: 0.77, UNPROTECTED: 0.8}))
    assert "Nothing that can be seen" in answers(study(0.7, {DEFAULT: 0.8, UNPROTECTED: 0.8}))


@pytest.mark.parametrize(
    ("left", "taken", "words"),
    [
        ({DEFAULT: 0.75, UNPROTECTED: 0.3}, DEFAULT, "but an attack (alie, 1 of 5 sites) leaves only 0.3"),
        ({DEFAULT: 0.75, UNPROTECTED: 0.76}, UNPROTECTED, "FedAvg without trust: where nobody attacks it is better"),
        ({}, DEFAULT, "Take it only if no site can be hostile"),
    ],
)
def test_the_default_is_left_only_for_what_holds_under_attack_too(
    left: dict[str, float], taken: str, words: str
) -> None:
    made = study(0.7, {DEFAULT: 0.77, UNPROTECTED: 0.82}, left)
    assert judge(made).rule == taken and words in answers(made)


def test_an_attack_is_compared_with_being_alone() -> None:
    assert "That is worse than staying alone" in answers(study(0.7, {DEFAULT: 0.8}, {DEFAULT: 0.6}))
    assert "That is still better than staying alone" in answers(study(0.7, {DEFAULT: 0.8}, {DEFAULT: 0.78}))
    assert "cannot be told apart" in answers(study(0.7, {DEFAULT: 0.8}, {DEFAULT: 0.7}, noise=0.01))
    few = (
        "Among 5 sites the rule by itself holds against no hostile site; what bounds the harm is each site's own model"
    )
    assert few in answers(study(0.7, {DEFAULT: 0.8}, {DEFAULT: 0.78}))


def test_a_seed_whose_honest_sites_cannot_be_judged_is_left_out_of_an_attack() -> None:
    """Only a can be judged, and with seed 0 it is the hostile one."""
    made = study(0.7, {DEFAULT: 0.8}, {DEFAULT: 0.6}, seeds=3)
    for lines in made.lines.values():
        for name in SITES[1:]:
            del lines.alone.sites[name]
    for key, run in made.found.items():
        for name in SITES if key[1:] == ("alie", 1, 0) else SITES[1:]:
            run.serves.sites.pop(name, None)
        if not run.serves.sites:
            object.__setattr__(run.serves, "overall", float("nan"))
    object.__setattr__(made.lines[0].alone, "overall", 0.1)
    attacked = made.attacked(DEFAULT, "alie", 1)
    assert attacked is not None and attacked.gain.mean == pytest.approx(attacked.left - attacked.alone)
    assert attacked.alone == pytest.approx(0.7, abs=0.01) and attacked.calm == pytest.approx(0.8, abs=0.01)
    for seed in (1, 2):
        made.found[DEFAULT, "alie", 1, seed].serves.sites.clear()
        object.__setattr__(made.found[DEFAULT, "alie", 1, seed].serves, "overall", float("nan"))
    assert made.attacked(DEFAULT, "alie", 1) is None and made.worst(DEFAULT) is None
    assert "every site that can be judged was among the hostile ones" in answers(made)
    assert "attacks that no honest site is judged under, in any seed: alie, 1 hostile" in remarks(made)


def test_an_interval_grows_with_what_seeds_share_and_has_none_for_one() -> None:
    values = [0.1, 0.12, 0.11, 0.09, 0.13]
    apart, shared = estimate(values, 0.0), estimate(values, 0.25)
    assert apart.mean == shared.mean == pytest.approx(0.11)
    assert apart.error == pytest.approx(2.78 * np.std(values, ddof=1) / 5**0.5) and shared.error > apart.error * 1.4
    assert not estimate([0.1], 0).known and not estimate([], 0).known and not estimate([float("nan")], 0).known


def test_rounds_needed_are_those_after_which_most_of_the_gain_is_there() -> None:
    assert study(0.7, {DEFAULT: 0.8}).rounds_needed() == 5
    assert study(0.7, {DEFAULT: 0.8}).bytes_a_round() == (1000, 1000)


def test_shares_are_rounded_down_and_one_site_at_least_is_hostile() -> None:
    assert hostile_numbers((0.2, 0.3), 5) == (1,) and hostile_numbers((0.2, 0.3), 10) == (2, 3)
    assert hostile_numbers((0.2, 0.3), 3) == (1,) and hostile_numbers((0.2,), 2) == ()
