# SPDX-License-Identifier: Apache-2.0
"""What a site offers of its own tensors: near enough, bounded by the grid, and apart from what is averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_models.errors import ConfigError, ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.card.metadata import decode_card, encode_card
from fedge_models.graph.intake import read_card_file
from fedge_models.messages.quantize import LIMIT, dequantize, expand
from fedge_models.training.personal import extract, mask_of
from fedge_models.training.start_value import LEAST_SPREAD, OFFERED, of_tensors, offered, offers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

SIZES = np.array([3, 2, 1, 3])
NAMES = ("a.weight", "b.weight", "b.bias", "c.weight")
MASK = mask_of("b.*", NAMES, SIZES)
WEIGHTS = arrays(np.float32, 9, elements=st.floats(-50, 50, width=32))
STEPS = arrays(np.float32, 4, elements=st.floats(2**-10, 4, width=32))


def test_mask_is_of_the_tensors_that_a_pattern_names() -> None:
    assert MASK.tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert of_tensors(MASK, SIZES).tolist() == [False, True, True, False]
    assert not mask_of("", NAMES, SIZES).any() and not of_tensors(np.zeros(9, np.bool_), SIZES).any()


@given(WEIGHTS, WEIGHTS, STEPS, arrays(np.int8, 9, elements=st.integers(-LIMIT, LIMIT)))
def test_an_offer_leads_to_the_sites_own_tensors_or_as_near_as_the_grid_goes(
    site: np.ndarray, release: np.ndarray, steps: np.ndarray, codes: np.ndarray
) -> None:
    nothing = np.full(4, LEAST_SPREAD, np.float32)
    made, spreads = offered(codes, nothing, extract(site, MASK), release, steps, SIZES, MASK)
    assert (made[~MASK] == codes[~MASK]).all() and made.dtype == np.int8
    grid = expand(steps, SIZES)
    reached = release + dequantize(made, grid)
    missed, far = np.abs(reached - site)[MASK], np.abs(site - release)[MASK]
    slack = grid[MASK] * 0.501 + 1e-4
    assert (missed <= np.maximum(slack, far - LIMIT * grid[MASK] + slack)).all()
    assert spreads[1] == pytest.approx(max(float(far[:2].max()), OFFERED)) and (spreads[[0, 3]] == nothing[0]).all()
    tensors = of_tensors(MASK, SIZES)
    assert offers(spreads, tensors) and not offers(nothing, tensors)


@pytest.mark.parametrize(("at", "field"), [('"task"', "local_end"), ('"loss"', "loss_rate")])
def test_card_of_a_newer_version_says_that_this_one_is_to_be_upgraded(at: str, field: str) -> None:
    card = Card("classify", (Channel("a"),), WindowSpec(1, 4, 2), ("mean",), ("x", "y"))
    text = encode_card(card).replace(at, f'"{field}":1,{at}', 1)
    with pytest.raises(ModelError, match=f"m.onnx: the model's card has the field '{field}'.*upgrade this gateway"):
        decode_card(text, "m.onnx")


def test_patterns_of_a_card_may_be_a_list_in_toml(tmp_path: Path) -> None:
    file = tmp_path / "card.toml"
    for given_local, local in (('["head.*", "norm.*"]', "head.*,norm.*"), ('"head.*"', "head.*")):
        file.write_text(
            f'task = "classify"\nlabels = ["a", "b"]\nlocal = {given_local}\ntrainable = ["*"]\n'
            'window = { rate_hz = 1, length = 4, hop = 2 }\nchannels = [{ name = "x" }]\n'
        )
        card = read_card_file(file)
        assert (card.local, card.trainable) == (local, "*")
        assert decode_card(encode_card(card)) == card
    file.write_text(file.read_text().replace('"head.*"', "[1]"))
    with pytest.raises(ConfigError, match="key 'local': expected text"):
        read_card_file(file)


def test_card_offers_only_what_stays_at_the_sites() -> None:
    def card(**keys: str) -> Card:
        return Card("classify", (Channel("a"),), WindowSpec(1, 4, 2), ("mean",), ("x", "y"), **keys)  # type: ignore[arg-type]

    assert decode_card(encode_card(card(local="b.*"))).local_start == "file"
    assert "local_start" not in encode_card(card(local="b.*"))  # gateways of before would refuse the key
    assert decode_card(encode_card(card(local="b.*", local_start="shared"))).local_start == "shared"
    with pytest.raises(ModelError, match="local_start is 'shared', but local names no tensors that stay at the sites"):
        decode_card(encode_card(card(local_start="shared")))
    with pytest.raises(ModelError, match=r"local_start"):
        decode_card(
            encode_card(card(local="b.*", local_start="shared")).replace(
                '"local_start":"shared"', '"local_start":"mean"'
            )
        )
