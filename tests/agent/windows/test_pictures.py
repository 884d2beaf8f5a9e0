# SPDX-License-Identifier: Apache-2.0
"""Pictures: decoded within bounds whatever the bytes, prepared as the card says, decided on one by one."""

from __future__ import annotations

import gc
import io
import math
import struct
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from fedge_agent.config.schema import AssetConfig, TagConfig
from fedge_agent.machines.fit import check_fit
from fedge_agent.types import Batch, Reading
from fedge_agent.windows import pictures
from fedge_agent.windows.decoding import BUDGET, Budget
from fedge_agent.windows.pictures import RawFormat, check_raw, decode, decode_raw, prepare
from fedge_agent.windows.snapshots import Snapshots
from fedge_models.errors import ConfigError, ModelError, PictureError
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec, decode_card, encode_card, write_card
from fedge_models.training import standardise
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from support.examples import examples
from support.waiting import LONGEST_S

MAX_DECODE_MIB, MAX_DECODE_S = 200, 5.0
BESIDE_AGENT_MIB = 256e6 / 2**20 - 110  # the agent itself takes 110 MB at most


def noise(*shape: int, key: int = 0) -> np.ndarray:
    return np.random.default_rng(key).integers(0, 256, shape, dtype=np.uint8)


def ramp(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((np.sin(x / 7) + np.cos(y / 5) + 2) * 63).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes = b"", bits: int = 8, colour: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_png_gives_its_pixels(shape: tuple[int, ...]) -> None:
    assert np.array_equal(decode(encoded(noise(*shape))), noise(*shape))


def test_jpeg_gives_nearly_its_pixels() -> None:
    found = decode(encoded(ramp(64, 48), "JPEG", quality=95))
    assert found.shape == (64, 48) and np.abs(found.astype(int) - ramp(64, 48)).max() < 12


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    values = np.array([[0, 255, 256, 40_000, 65_535]], np.uint16)
    assert decode(encoded(values)).tolist() == [[0, 0, 1, 156, 255]]


def test_transparency_palette_and_black_and_white() -> None:
    assert decode(encoded(noise(4, 4, 4))).tolist() == noise(4, 4, 4)[:, :, :3].tolist()
    file = io.BytesIO()
    Image.fromarray(noise(5, 5) > 127).save(file, "PNG")
    assert decode(file.getvalue()).tolist() == (255 * (noise(5, 5) > 127)).tolist()
    file = io.BytesIO()
    Image.fromarray(noise(8, 8, 3)).quantize(16).save(file, "PNG")
    assert decode(file.getvalue()).shape == (8, 8, 3)


HUGE = png(60_000, 60_000, bytes(1000))
SCANS = b"\xff\xd8" + 101 * b"\xff\xda\x00\x08"
REFUSED = {
    "nothing": (b"", "no PNG or JPEG"),
    "text": (b"<html>404 not found</html>", "no PNG or JPEG"),
    "gif": (b"GIF89a" + bytes(100), "no PNG or JPEG"),
    "cut off png": (encoded(noise(64, 64))[:2000], "cut off or damaged"),
    "cut off jpeg": (encoded(noise(64, 64), "JPEG")[:900], "cut off or damaged"),
    "only a header": (encoded(noise(8, 8))[:33], "damaged"),
    "decompression bomb": (HUGE, "bomb"),
    "just over the cap": (png(4097, 4096, bytes(10)), "4097 x 4096 pixels, expected at most 16777216"),
    "a long side": (png(20_000, 1, bytes(20_001)), "20000 x 1 pixels, expected at most 16777216, and 16384 a side"),
    "many scans": (SCANS, "101 scans, expected at most 100"),
    "wrong checksum": (encoded(noise(8, 8))[:40] + b"x" + encoded(noise(8, 8))[41:], "damaged"),
    "large file": (bytes(pictures.MAX_BYTES + 1), "expected at most 33554432"),
}


def large(width: int, height: int, mode: str, kind: str = "PNG", **how: Any) -> bytes:
    """A picture file of many pixels."""
    pixels = (np.add.outer(np.arange(height) // 7, np.arange(width) // 5) % 256).astype(np.uint8)
    bands = {"L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 1}[mode]
    array = pixels.astype(np.uint16) << 8 if mode == "I;16" else pixels if bands == 1 else np.stack([pixels] * bands, 2)
    file, made = io.BytesIO(), Image.fromarray(array, None if mode in ("I;16", "P") else mode)
    (made.convert("P") if mode == "P" else made).save(file, kind, **how)
    return file.getvalue()


BASELINE, PROGRESSIVE = {"quality": 70}, {"quality": 70, "progressive": True}
LARGEST: dict[str, tuple[str, str, dict[str, Any]]] = {
    "grey png": ("L", "PNG", {"compress_level": 1}),
    "palette png": ("P", "PNG", {"compress_level": 1}),
    "16-bit png": ("I;16", "PNG", {"compress_level": 1}),
    "grey png with transparency": ("LA", "PNG", {"compress_level": 1}),
    "colour png": ("RGB", "PNG", {"compress_level": 1}),
    "colour png with transparency": ("RGBA", "PNG", {"compress_level": 1}),
    "jpeg": ("RGB", "JPEG", BASELINE),
    "jpeg without subsampling": ("RGB", "JPEG", {**BASELINE, "subsampling": 0}),
    "cmyk jpeg": ("CMYK", "JPEG", BASELINE),
    "progressive jpeg": ("RGB", "JPEG", PROGRESSIVE),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_picture_fits_beside_an_agent_in_256_mb(name: str) -> None:
    mode, kind, how = LARGEST[name]
    decode(large(8, 8, mode, kind, **how))  # Pillow's modules are loaded
    data = large(4096, 4096, mode, kind, **how)
    before = memory_mib("VmRSS", reset=True)
    found = decode(data)
    peak = memory_mib("VmHWM") - before
    assert found.shape[:2] == (4096, 4096)
    assert peak < BESIDE_AGENT_MIB, f"{peak:.0f} MiB"


@pytest.mark.parametrize(
    ("side", "mode", "how", "words"),
    [
        (4096, "RGB", {**PROGRESSIVE, "subsampling": 0}, "progressive.*decode.*use baseline JPEG"),
        (3600, "CMYK", PROGRESSIVE, "CMYK, progressive"),
    ],
    ids=["colour", "cmyk"],
)
def test_a_picture_that_costs_more_to_decode_is_refused_from_its_header(
    side: int, mode: str, how: dict[str, Any], words: str
) -> None:
    data = large(side, side, mode, "JPEG", **how)
    before = memory_mib("VmRSS", reset=True)
    with pytest.raises(PictureError, match=words):
        decode(data)
    assert memory_mib("VmHWM") - before < 10


def test_a_picture_that_is_stored_too_has_room_for_its_copies() -> None:
    data = large(4096, 4096, "RGB", "JPEG", **BASELINE)
    with pytest.raises(PictureError, match="takes 201326592 bytes to decode and store, expected at most 134217728"):
        decode(data, copies=3)
    assert decode(large(4096, 2048, "RGB", "JPEG", **BASELINE), copies=3).shape == (2048, 4096, 3)


def test_pictures_in_use_count_until_nobody_uses_them() -> None:
    gc.collect()
    before = BUDGET.taken
    one, two = decode(encoded(noise(100, 80, 3))), decode(encoded(noise(50, 80)))
    assert BUDGET.taken - before == one.nbytes + two.nbytes
    view = one[:10]
    del one
    assert BUDGET.taken - before == two.nbytes + 100 * 80 * 3  # the view holds it
    del view, two
    assert BUDGET.taken == before


def test_one_picture_is_decoded_at_a_time_and_waits_for_room() -> None:
    budget, inside, most = Budget(100), threading.Semaphore(0), [0]
    running = threading.Lock()

    def decoding() -> None:
        with budget.room(80):
            most[0] += 1 if running.acquire(blocking=False) else 100
            inside.release()
            running.release()

    waiting = budget.held(np.zeros(30, np.uint8))
    threads = [threading.Thread(target=decoding) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert not inside.acquire(timeout=0.2)  # 30 + 80 are more than 100
    del waiting
    for thread in threads:
        thread.join(LONGEST_S)
    assert most == [3]


def test_a_picture_that_is_never_let_go_delays_the_next_but_does_not_stop_it() -> None:
    budget = Budget(100)
    kept = budget.held(np.zeros(90, np.uint8))
    began = time.monotonic()
    with budget.room(80, wait_s=0.1):
        assert 0.1 <= time.monotonic() - began < LONGEST_S
    assert kept.nbytes == budget.taken


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_bytes_are_refused_with_the_reason(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(PictureError) as refused:
        decode(data)
    assert words in str(refused.value)


def memory_mib(line: str, reset: bool = False) -> float:
    """Of this process, as Linux counts it: what it holds (VmRSS), or the most since the last reset (VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(next(x for x in status.splitlines() if x.startswith(line)).split()[1]) / 1024


SEEDS = [
    encoded(noise(24, 31)),
    encoded(noise(12, 9, 3)),
    encoded(ramp(40, 40), "JPEG"),
    encoded(noise(20, 20, 3), "JPEG", progressive=True),
    encoded(noise(9, 9).astype(np.uint16) * 256),
]
CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8)


def repaired(data: bytes) -> bytes:
    """The chunks of a PNG with right checksums, so that what was changed is looked at."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        if at + 12 + length > len(data):
            break
        out += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return out + data[at:]


@seed(5)
@settings(max_examples=examples(400), deadline=None, database=None, suppress_health_check=list(HealthCheck))
@example(0, [(16, 255), (20, 255)], None, True)  # a width and height of billions
@given(st.integers(0, len(SEEDS) - 1), CHANGES, st.none() | st.integers(0, 1 << 12), st.booleans())
def test_mutated_pictures_never_cost_more_than_they_may(
    which: int, changes: list[tuple[int, int]], length: int | None, mend: bool
) -> None:
    data = bytearray(SEEDS[which])
    for at, value in changes:
        data[at % len(data)] = value
    sent = bytes(data[:length])
    sent = repaired(sent) if mend and sent[:4] == b"\x89PNG" else sent
    before, began = memory_mib("VmRSS", reset=True), time.monotonic()
    try:
        found = decode(sent)
        assert found.dtype == np.uint8 and found.ndim in (2, 3) and found.size <= 3 * pictures.MAX_PIXELS
    except PictureError as e:
        assert str(e)
    assert time.monotonic() - began < MAX_DECODE_S
    assert memory_mib("VmHWM") - before < MAX_DECODE_MIB


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedge\[images\]'"):
        decode(SEEDS[0])


def test_raw_pixels_of_one_and_two_bytes() -> None:
    pixels = noise(4, 6, 3)
    assert np.array_equal(decode_raw(pixels.tobytes(), RawFormat((4, 6, 3))), pixels)
    twelve = np.array([[0, 15, 16, 4095]], "<u2")
    assert decode_raw(twelve.tobytes(), RawFormat((1, 4), "uint16", 12)).tolist() == [[0, 0, 1, 255]]
    assert decode_raw(twelve.tobytes(), RawFormat((1, 4), "uint16")).tolist() == [[0, 0, 0, 15]]
    with pytest.raises(PictureError, match=r"7 bytes, expected 8 \(uint16 \[1, 4\]\)"):
        decode_raw(twelve.tobytes()[:7], RawFormat((1, 4), "uint16"))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (RawFormat((5,)), "shape"),
        (RawFormat((5, 0)), "shape"),
        (RawFormat((5, 5, 4)), "shape"),
        (RawFormat((5000, 5000)), "pixels"),
        (RawFormat((5, 5), "uint8", 12), "bits"),
        (RawFormat((5, 5), "uint16", 4), "bits"),
    ],
)
def test_raw_format_that_describes_no_picture(raw: RawFormat, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_raw(raw)
    check_raw(RawFormat((5, 5, 3), "uint16", 10))


def near(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize(("height", "width"), [(64, 64), (37, 90), (128, 20), (200, 301)])
def test_bilinear_is_pillows(height: int, width: int) -> None:
    pixels = noise(height, width, 3)
    found = prepare(pixels, ImageSpec(48, 32, "rgb", resize="bilinear")).transpose(1, 2, 0)
    assert near(found, np.asarray(Image.fromarray(pixels).resize((32, 48), Image.Resampling.BILINEAR))) <= 1


def test_area_is_the_mean_of_what_is_covered() -> None:
    pixels = noise(120, 90)
    found = prepare(pixels, ImageSpec(40, 30))
    assert near(found[0], np.rint(pixels.reshape(40, 3, 30, 3).mean(axis=(1, 3)))) <= 1
    assert prepare(np.array([[0, 90, 240]], np.uint8), ImageSpec(1, 2)).tolist() == [[[30, 190]]]
    assert prepare(np.array([[10, 20]], np.uint8), ImageSpec(2, 4)).tolist() == [[[10, 10, 20, 20]] * 2][0:1]


@pytest.mark.parametrize(("height", "width"), [(300, 301), (97, 64), (64, 640)])
def test_area_is_opencvs(height: int, width: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not here")
    pixels = noise(height, width)
    assert near(prepare(pixels, ImageSpec(64, 60))[0], cv2.resize(pixels, (60, 64), interpolation=cv2.INTER_AREA)) <= 1


def test_crop_is_cut_out_before_resizing() -> None:
    pixels = np.zeros((10, 20), np.uint8)
    pixels[2:8, 5:15] = 200
    assert (prepare(pixels, ImageSpec(4, 4, crop=(0.25, 0.2, 0.75, 0.8))) == 200).all()
    square = prepare(pixels, ImageSpec(10, 10, crop="square"))
    assert np.array_equal(square[0], pixels[:, 5:15])
    assert prepare(pixels, ImageSpec(3, 3, crop=(0.99, 0.99, 1.0, 1.0))).shape == (1, 3, 3)


def test_colours_as_the_card_wants() -> None:
    pixels = noise(16, 16, 3)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    assert near(prepare(pixels, ImageSpec(16, 16))[0], grey) <= 1
    three = prepare(grey, ImageSpec(8, 8, "rgb"))
    assert three.shape == (3, 8, 8) and (three[0] == three[2]).all()
    assert np.array_equal(prepare(pixels, ImageSpec(16, 16, "rgb")), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros(4, np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8),
     np.zeros((1, 1, 1, 1), np.uint8), np.zeros((1, 20_000), np.uint8)],
)  # fmt: skip
def test_arrays_that_are_no_pictures(array: np.ndarray) -> None:
    with pytest.raises(PictureError):
        prepare(array, ImageSpec(4, 4))


def card(**image: Any) -> Card:
    spec = ImageSpec(**{"height": 8, "width": 8, **image})
    return Card("classify", (Channel("camera"),), WindowSpec(1, 1, 1), labels=("sound", "crack"), image=spec)


def test_card_goes_there_and_back() -> None:
    made = card(colour="rgb", crop=(0.1, 0.2, 0.9, 1.0), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    assert decode_card(encode_card(made)) == made and made.image is not None and made.image.shape == (3, 8, 8)


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "mean without std": ({"mean": (0.5,)}, {}, "image.mean and image.std have"),
    "one mean for three colours": ({"mean": (0.5,), "std": (1.0,), "colour": "rgb"}, {}, "expected 3"),
    "not finite": ({"mean": (math.inf,), "std": (1.0,)}, {}, "finite"),
    "crop": ({"crop": (0.5, 0, 0.5, 1)}, {}, "image.crop is"),
    "crop beyond": ({"crop": (0, 0, 1.5, 1)}, {}, "image.crop is"),
    "window": ({}, {"window": WindowSpec(1, 60, 1)}, "window.length and window.hop"),
    "features": ({}, {"features": ("mean",)}, "without features"),
    "two channels": ({}, {"channels": (Channel("a"), Channel("b"))}, "one channel"),
    "scaled channel": (
        {},
        {"channels": (Channel("a", centre=0.0, scale=1.0),)},
        "image.mean and image.std, not centre",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_card_is_refused_by_field(name: str) -> None:
    image, more, words = WRONG[name]
    wrong = msgspec.structs.replace(card(**image), **more)
    with pytest.raises(ModelError, match=words):
        write_card(onnx.ModelProto(), wrong)
    text = encode_card(card()).replace('"height":8', '"height":0')
    with pytest.raises(ModelError, match="height"):
        decode_card(text)


def test_what_the_card_normalises_is_alike_at_every_site() -> None:
    x = noise(20, 1, 8, 8)
    seen = standardise.fit(x, card(mean=(0.4,), std=(0.2,)))(x)
    assert np.allclose(seen, (x / 255 - 0.4) / 0.2, atol=1e-5)
    own = standardise.fit(x, card())(x)
    assert abs(own.mean()) < 1e-5 and abs(own.std() - 1) < 1e-4 and own.dtype == np.float32


def test_the_label_of_a_picture_has_a_range() -> None:
    picture, spec = TagConfig(source="cam", tag="*"), ImageSpec(height=4, width=4)
    made = Snapshots("a", picture, [TagConfig(source="plc", tag="depth", range=(0.0, 10.0))], spec, 1.0)
    for second, depth in enumerate((3.0, 11.0, 4.0)):
        made.push(Batch("plc", [Reading("depth", second * 10**9, depth)], second * 10**9, 0))
        made.push(Batch("cam", [Reading("*", second * 10**9, noise(4, 4))], None, 0))
    made.push(Batch("plc", [], 9 * 10**9, 0))
    assert [w.label for w in made.labelled()] == [3.0, None, 4.0]
    assert made.out_of_range() == {"label depth": 1} and made.counters.out_of_range == 1


def test_a_picture_has_no_range() -> None:
    spec = ImageSpec(height=4, width=4)
    card = Card("classify", (Channel("camera"),), WindowSpec(1, 1, 1), labels=("ok", "bad"), image=spec)
    config = AssetConfig(model="m", channels={"camera": TagConfig(source="cam", tag="*", range=(0, 1))})
    with pytest.raises(ModelError, match="asset line: channel camera is a picture, which has no range; remove it"):
        check_fit("line", config, card, spec.shape)
