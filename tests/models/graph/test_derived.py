# SPDX-License-Identifier: Apache-2.0
"""What the formulas of a card make of its input, and which cards are refused."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fedge_models import starter
from fedge_models.errors import FedgeError, ModelError
from fedge_models.graph.card import (
    Card,
    Channel,
    Derived,
    ImageSpec,
    InputSpec,
    Target,
    WindowSpec,
    decode_card,
    encode_card,
)
from fedge_models.graph.channels import with_formulas
from fedge_models.graph.derived import DerivedChannels
from fedge_models.graph.intake import read_card_file
from fedge_models.graph.intake.inputs import join_inputs
from fedge_models.training import outliers, standardise
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from support.paths import ROOT

CHANNELS = (Channel("torque"), Channel("speed", input=False), Channel("temp"))
WINDOW = WindowSpec(1.0, 4, 4)
DERIVE: dict[str, str | Derived] = {
    "swing": "max(power) - min(power)",
    "power": Derived("torque * speed", unit="W", centre=10.0, scale=2.0),
    "hidden": Derived("temp + 1", input=False),
    "warmer": "hidden - mean(temp)",
}


def card(**fields: Any) -> Card:
    made = {"task": "anomaly", "channels": CHANNELS, "window": WINDOW, "derive": DERIVE, **fields}
    return decode_card(encode_card(Card(**made)))


def test_the_input_is_measured_then_derived_and_numbers_last() -> None:
    made = card()
    assert [c.name for c in made.input_channels] == ["torque", "temp", "power", "warmer", "swing"]
    assert made.input_channels[2] == Channel("power", "W", 10.0, 2.0)
    assert made.numbers == 1
    assert [c.name for c in made.channels] == ["torque", "speed", "temp"]  # what a gateway binds to tags


def test_a_starter_takes_what_the_card_gives() -> None:
    assert starter(card()).graph.input_shape == (5, 4)
    assert starter(card(task="classify", labels=("a", "b"), window=WindowSpec(1, 64, 1))).graph.input_shape == (5, 64)


def test_windows_get_their_derived_rows() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    rows, numbers, wrong = DerivedChannels(card())(x, None)
    torque, speed, temp = x[:, 0], x[:, 1], x[:, 2]
    power = torque * speed
    assert wrong is None and numbers.shape == (2, 0)
    np.testing.assert_allclose(rows[:, :2], x[:, ::2])
    np.testing.assert_allclose(rows[:, 2], power)
    np.testing.assert_allclose(rows[:, 3], temp + 1 - temp.mean(1, keepdims=True))
    np.testing.assert_allclose(rows[:, 4], np.repeat(np.ptp(power, axis=1)[:, None], 4, 1))
    rows, numbers, _ = DerivedChannels(card(features=("mean", "std")))(x, None)
    assert rows.shape == (2, 4, 4)
    np.testing.assert_allclose(numbers[:, 0], np.ptp(power, axis=1))


def test_a_window_without_a_number_is_reported_with_its_channel() -> None:
    derived = DerivedChannels(card(derive={"share": "torque / temp", "double": "torque * speed * 2"}))

    def wrong(windows: Any) -> tuple[Any, list[str]]:
        rows, _, found = derived(windows, None)
        assert np.isfinite(rows).all()
        return None if found is None else found.tolist(), [*derived.undefined]

    x = np.ones((3, 3, 4), np.float32)
    assert wrong(x) == (None, [])
    x[1, 2, 3] = 0
    assert wrong(x) == ([False, True, False], ["share"])
    assert wrong(x[1]) == (True, ["share"])
    assert wrong(x[0]) == (None, [])
    x[2, 0] = 3e38  # the result is beyond float32
    assert wrong(x) == ([False, True, True], ["share", "double"])


def test_what_depends_on_a_channel_without_any_value_is_zero_as_that_one() -> None:
    derived = DerivedChannels(card(derive={"up": "where(speed > 5, 1, 2)", "ratio": "1 / speed", "own": "temp + 1"}))
    x = np.ones((2, 3, 4), np.float32)
    x[1, 1] = 0  # what bridging made of it
    absent = np.array([[False, False, False], [False, True, False]])
    rows, _, wrong = derived(x, absent)
    assert wrong is None
    assert rows[:, 2, 0].tolist() == [2, 0] and rows[:, 3, 0].tolist() == [1, 0] and rows[:, 4, 0].tolist() == [2, 2]
    rows, _, wrong = derived(x[1], absent[1])
    assert wrong is None and rows[2:, 0].tolist() == [0, 0, 2]


def test_in_python_a_derived_channel_may_be_a_table_as_in_toml() -> None:
    table = {"formula": "torque * speed", "unit": "W", "centre": 0, "scale": 500}
    made = card(derive={"p": table, "q": "torque"})
    assert made.derive == {"p": Derived("torque * speed", "W", 0.0, 500.0), "q": "torque"}
    assert decode_card(encode_card(made)) == made


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (5, "card: key 'derive.p': expected a formula as text, Derived.*, got 5"),
        (None, "card: key 'derive.p': expected a formula as text, Derived.*, got None"),
        ({"formla": "torque"}, "card: unknown key 'derive.p.formla'; did you mean 'formula'"),
        ({"formula": 4}, "card: key 'derive.p.formula': expected text, got 4"),
        ({"formula": "torque", "scale": 0}, "card: key 'derive.p.scale': expected a number, more than 0, got 0"),
        ({"unit": "W"}, "card: key 'derive.p.formula' is missing"),
    ],
)
def test_in_python_what_is_no_derived_channel_is_refused(wrong: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        card(derive={"p": wrong})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "key 'derive.p': expected text or a table, got 5"),
        ('{ formla = "a" }', "unknown key 'derive.p.formla'; did you mean 'formula'"),
        ("{ formula = 3 }", "key 'derive.p.formula': expected text, got 3"),
        ('{ formula = "a", scale = -1 }', "key 'derive.p.scale': expected a number, more than 0, got -1"),
        ('"a *"', "card: derive.p: position 4: expected a number"),
    ],
)
def test_a_card_file_names_itself_and_the_derived_channel(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    base = 'task = "anomaly"\nchannels = [{ name = "a" }]\nwindow = { rate_hz = 1, length = 8, hop = 8 }\n'
    path.write_text(f"{base}derive.p = {text}\n")
    with pytest.raises(FedgeError, match=f"^{re.escape(str(path))}: {message}"):
        read_card_file(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": (Channel("torque\nPROBLEM"),)},
        {"channels": (Channel("torque", "N\x1b[2J"),)},
        {"derive": {"p\nPROBLEM fake": "speed"}},
        {"derive": {"p": Derived("speed", "\r")}},
        {"task": "classify", "labels": ("ok", "bad\n")},
        {"task": "regress", "targets": (Target("t\x00"),)},
        {"task": "regress", "targets": (Target("t", "\u202ekW"),)},
        {"features": ("mean\n",)},
    ],
)
def test_names_on_a_card_stand_on_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(
        ModelError, match=r"^model: card: \w+: '.*' has a control character, expected text on one line$"
    ):
        card(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"derive": {"p": "torque *"}}, "card: derive.p: position 9: expected a number"),
        ({"derive": {"p": "torq"}}, "there is no channel 'torq'; did you mean 'torque'"),
        ({"derive": {"p": Derived("torque", input=False)}}, r"\['speed', 'p'\]: input is false, and no formula"),
        ({"derive": {}}, r"channels \['speed'\]: input is false, and no formula reads them"),
        ({"derive": {"p": "torque"}}, r"channels \['speed'\]: input is false, and no formula reads them"),
        (
            {"channels": (Channel("a", input=False, centre=0, scale=1),), "derive": {"p": "a"}},
            r"channels \['a'\]: input is false; centre, scale and condition are for the graph's input",
        ),
        (
            {
                "channels": (Channel("a", input=False),),
                "derive": {"p": Derived("a", input=False), "q": Derived("p + a", input=False)},
            },
            "input is false",
        ),
        ({"derive": {"p": "diff(speed)"}, "window": WindowSpec(1, 1, 1)}, "derive.p: needs windows of 2 samples"),
        ({"derive": {"p": Derived("speed", centre=1.0)}}, r"channels \['p'\] have only one of centre and scale"),
        ({"derive": {"p": Derived("speed", condition=1.0)}, "features": ("mean",)}, "have a condition, which needs"),
        ({"window": WindowSpec(1, 1_000_000, 1), "derive": {f"p{i}": "speed" for i in range(20)}}, "20,000,000 values"),
        (
            {"window": WindowSpec(1, 1_000_000, 1), "derive": {"p": "(speed * 2 + " * 25 + "speed" + ")" * 25}},
            "the formulas hold 25,000,000 values of a window of 1,000,000 samples",
        ),
        (
            {
                "channels": (Channel("p"),),
                "derive": {"q": "p"},
                "image": ImageSpec(8, 8),
                "window": WindowSpec(1, 1, 1),
            },
            "image goes without derived channels",
        ),
    ],
)  # fmt: skip
def test_a_card_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        card(**fields)


def test_an_unknown_key_of_a_derived_channel_is_refused() -> None:
    text = encode_card(card()).replace('"unit":"W"', '"units":"W"')
    with pytest.raises(ModelError, match="units"):
        decode_card(text)


def test_columns_belong_to_their_channels() -> None:
    with_features = card(features=("mean", "std"))
    assert with_features.owners(9).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]  # type: ignore[union-attr]
    assert with_features.owners(10) is None
    assert card().owners(5).tolist() == [0, 1, 2, 3, 4]  # type: ignore[union-attr]


def test_a_scale_on_the_card_holds_for_derived_channels_too() -> None:
    derive = {
        "power": Derived("torque * speed", centre=10.0, scale=2.0),
        "swing": Derived("max(temp)", centre=0, scale=4),
    }
    made = card(features=("mean",), derive=derive)
    x = np.random.default_rng(0).normal(5, 3, (200, 4)).astype(np.float32)
    scale = standardise.fit(x, made)
    assert scale.mean[2:].tolist() == [0, 0] and scale.scale[2:].tolist() == [1, 1] and (scale.mean[:2] != 0).all()


def test_a_number_with_values_far_from_all_others_is_doubtful_by_its_name() -> None:
    made = card(features=("mean",))
    x = np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)
    assert outliers.doubtful(x, made) == []
    x[:100, 4] = -9999
    assert outliers.doubtful(x, made) == ["swing"]


@pytest.mark.parametrize("page", ["data-scientist/derived-channels.md", "reference/model-card.md"])
def test_the_cards_of_the_docs_are_right(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    blocks = [b.partition("```")[0] for b in text.split("```toml\n")[1:]]
    cards = [msgspec.toml.decode(b, type=Card) for b in blocks if "[derive]" in b or "derive =" in b]
    assert len(cards) >= (4 if "derived" in page else 1)
    for found in cards:
        assert len(decode_card(encode_card(found)).input_channels) > 0


def test_sites_with_other_formulas_have_another_model() -> None:
    """A release names the file's digest: a gateway takes none of another file."""
    made = [starter(card(derive={"p": formula})).to_bytes() for formula in ("speed * 2", "speed * 2.0", "speed * 2")]
    assert made[0] == made[2] and sha256(made[0]).digest() != sha256(made[1]).digest()


def test_a_formula_is_shown_on_one_line() -> None:
    double = Channel("two  spaces")
    made = card(channels=(*CHANNELS, double), derive={"p": "speed\n\t* 2\x1c", "q": "`two  spaces` * 2"})
    assert with_formulas(made.derive, ["p"]) == ("p = speed * 2",)


def test_several_inputs_take_derived_channels_by_name() -> None:
    from onnx import TensorProto, helper

    made = card(
        derive={"power": "torque * speed"}, inputs=(InputSpec("x", ("torque", "temp")), InputSpec("p", ("power",)))
    )
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, 4]) for n, c in (("x", 2), ("p", 1))]
    node = helper.make_node("Concat", ["p", "x"], ["y"], axis=1)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 4])
    model = helper.make_model(helper.make_graph([node], "g", given, [out]), opset_imports=[helper.make_opsetid("", 17)])
    changed = join_inputs(model, made, "file")
    assert changed
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})[0]
    assert (found == x[:, [2, 0, 1]]).all()


texts = st.text(max_size=30)
numbers = st.none() | st.floats()
derived: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict, formula=st.sampled_from(["torque", "speed*2", "max(temp)", "p/q", "where(torque,q,1)"]) | texts,
    centre=numbers, scale=numbers, condition=numbers, input=st.booleans(),
)  # fmt: skip


@given(
    derive=st.dictionaries(
        st.sampled_from(["p", "q", "torque", ""]) | texts, derived | derived.map(lambda d: d["formula"])
    ),
    length=st.integers(1, 8),
    features=st.sampled_from([(), ("mean",), ("mean", "std")]),
    hidden=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_card_is_taken_whole_or_a_model_error(derive: Any, length: int, features: Any, hidden: bool) -> None:
    plain = json.loads(encode_card(Card("anomaly", CHANNELS, WindowSpec(1, length, 1), features)))
    plain["channels"][1]["input"] = not hidden
    text = json.dumps({**plain, "derive": derive})
    try:
        made = decode_card(text)
    except ModelError:
        return
    x = np.random.default_rng(0).normal(size=(3, 3, length)).astype(np.float32)
    rows, numbers_, _ = DerivedChannels(made)(x, None)
    assert rows.shape[1] + numbers_.shape[1] == len(made.input_channels) and np.isfinite(rows).all()
    assert [c.name for c in decode_card(encode_card(made)).input_channels] == [c.name for c in made.input_channels]
