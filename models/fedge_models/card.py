"""The model card, kept as JSON in the ONNX file's own metadata under ``fedge.card``.

It says what the graph's input means, so that a gateway can build that input from its channels and judge the output.
The graph's single input is float32 ``(batch, features)`` when ``features`` names any, else the raw window
``(batch, channels, length)``; it is standardised per site before the graph sees it. Outputs: ``classify`` gives
logits ``(batch, labels)``, ``anomaly`` a reconstruction shaped as its input, ``regress`` ``(batch, targets)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from .errors import ModelError

if TYPE_CHECKING:
    import onnx

METADATA_KEY = "fedge.card"
MAX_CARD_BYTES = 64 * 1024

Task = Literal["classify", "anomaly", "regress"]


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured quantity, by the name that the gateway's ``channels.<name>`` uses."""

    name: str
    unit: str = ""


class WindowSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A window of ``length`` samples at ``rate_hz``, a new one every ``hop`` samples."""

    rate_hz: float
    length: int
    hop: int


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model file promises about its input, output and training."""

    task: Task
    channels: tuple[Channel, ...]
    window: WindowSpec
    features: tuple[str, ...] = ()  # names understood by fedge_agent.features; empty: the raw window
    labels: tuple[str, ...] = ()  # classify: class names in output order
    normal: str = ""  # classify: the label that raises no work order; empty: the first label
    threshold_quantile: float = 0.995  # anomaly: of the scores of the site's own normal windows
    trainable: str = "*"  # glob over initializer names; the rest stays frozen
    description: str = ""

    @property
    def normal_index(self) -> int:
        """Output column of the normal label."""
        return self.labels.index(self.normal) if self.normal else 0


def encode_card(card: Card) -> str:
    """The card as the JSON text that goes into the file's metadata."""
    return msgspec.json.encode(card).decode()


def decode_card(text: str, where: str = "model") -> Card:
    """Parse and check a card. Raises ModelError naming the field."""
    if len(text) > MAX_CARD_BYTES:
        raise ModelError(f"{where}: card has {len(text)} bytes, expected at most {MAX_CARD_BYTES}")
    try:
        card = msgspec.json.decode(text, type=Card)
    except msgspec.DecodeError as e:
        raise ModelError(f"{where}: metadata {METADATA_KEY!r} is not a valid card: {e}") from e
    _check(card, where)
    return card


def read_card(model: onnx.ModelProto, where: str = "model") -> Card:
    """The card of a loaded ONNX model. Raises ModelError when there is none."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return decode_card(entry.value, where)
    raise ModelError(f"{where}: no model card; expected metadata key {METADATA_KEY!r} (see docs/models.md)")


def write_card(model: onnx.ModelProto, card: Card) -> None:
    """Put the card into the model's metadata, replacing one that is there."""
    _check(card, "card")
    kept = [(e.key, e.value) for e in model.metadata_props if e.key != METADATA_KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (METADATA_KEY, encode_card(card))]:
        model.metadata_props.add(key=key, value=value)


def _check(card: Card, where: str) -> None:
    names = [c.name for c in card.channels]
    problems = [
        (not names, "channels is empty, expected at least one"),
        (len(set(names)) != len(names), f"channels repeat a name: {names}"),
        (card.window.rate_hz <= 0, f"window.rate_hz is {card.window.rate_hz}, expected > 0"),
        (card.window.length < 1, f"window.length is {card.window.length}, expected >= 1"),
        (card.window.hop < 1, f"window.hop is {card.window.hop}, expected >= 1"),
        (
            card.task == "classify" and len(card.labels) < 2,
            f"task classify needs two labels or more, got {card.labels}",
        ),
        (bool(card.normal) and card.normal not in card.labels, f"normal is {card.normal!r}, not one of {card.labels}"),
        (not 0.5 <= card.threshold_quantile < 1, f"threshold_quantile is {card.threshold_quantile}, expected 0.5..1"),
    ]
    for wrong, text in problems:
        if wrong:
            raise ModelError(f"{where}: card: {text}")
