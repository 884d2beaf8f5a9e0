# SPDX-License-Identifier: Apache-2.0
"""Store what a federation needs after a restart: the model file, the newest release, the release that serves, and what
serves with it: the standardisation.

Written through temp + fsync + rename before it is used; read back with the same distrust as from the network. Each file
carries its own digest, so that one flipped bit on the disk is noticed. A damaged file is set aside and reported with
what is lost, and counts as absent: the aggregator, or the samples, give another. One that cannot be read is a problem
until it is written again, and then set aside, too; but one that this user has no permission to read is left as it is,
and what would replace it is held in memory. So is a file that the disk does not take: the first of its name, and what
is made of samples. A release never replaces a stored one in memory: after a restart, an older one would serve.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cbor2
import numpy as np
from fedge_models.errors import RefusedError, StorageError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.arrays import to_bytes, to_floats
from fedge_models.messages.cbor import decode_cbor, encode
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release, decode_header, weights_hash
from fedge_models.system import damage, files
from fedge_models.training import standardise
from fedge_models.training.standardise import Scale

logger = logging.getLogger(__name__)

SEALED = b"fedge\x01"  # begins a file with its digest
UNSEALED = ("head.cbor", "serving.cbor", "tuned.bin")  # versions up to 0.1 wrote these, and without a digest
DIGEST_BYTES = 32
GRAPHS = ("graph.onnx", "graph.copy.onnx")
# These serve before they are stored.
OF_SAMPLES = (
    *("scale.cbor", "limits.cbor", "own.bin", "own.cbor", "share.cbor", "inputs.cbor"),
    *("calibration.cbor", "statistics.cbor"),
)
RETRY_S = 10.0
LOSSES = {
    **dict.fromkeys(GRAPHS, "the model is read from its copy, or fetched again"),
    "graph.sha256": "whether the model file is whole shows only in its copy",
    "head.cbor": "the newest release is fetched again",
    "serving.cbor": "what served is fetched again",
    "tuned.bin": "the release serves as it came, until it is tuned to this site again",
    "own.bin": "this site's own model begins again from the model file",
    "own.cbor": "how old this site's own model is stays unknown until it is trained again",
    "calibration.cbor": "probabilities are calibrated again by the stored samples",
    "inputs.cbor": "what was learnt of the machines' inputs is found again from the stored samples",
    "share.cbor": "how much this site's own model counts is found again from the stored samples",
    "statistics.cbor": "statistics of this site are made of new windows only",
    "scale.cbor": "the standardisation of this site is fitted again to the stored samples",
    "limits.cbor": "the limits of machines are made again from the stored samples",
}


class Learnt(NamedTuple):
    """The samples that the own model was trained on last."""

    newest_ns: int  # source time of the newest
    last: int = 0  # the highest id of those that were stored then; 0: not known, as an earlier version noted none


class ChainStore:
    """The folder of one federation."""

    def __init__(self, folder: Path) -> None:
        files.try_folder(folder)
        self._folder = folder
        self._problems: dict[str, str] = {}  # file -> why it cannot be read, and what is lost
        self._denied: dict[str, bytes | None] = {}  # file without permission -> what was made in its place
        self._held: dict[str, bytes] = {}  # file that the disk does not take -> what it is to hold
        self.unwritten: str | None = None  # why it does not take them
        self._tried = 0.0  # monotonic, s

    @property
    def problems(self) -> dict[str, str]:
        """Which files cannot be read now, why, and what is lost."""
        held = dict(self._denied)
        return {n: why for n, why in self._problems.copy().items() if n not in held or _is_denied(self._folder / n)}

    def graph_bytes(self) -> bytes | None:
        """The ONNX file, if it or its copy is as it was written; a damaged one is then made again from the other."""
        found = {name: self._plain(name) for name in GRAPHS}
        known = self._read("graph.sha256")
        if known is None or len(known) != DIGEST_BYTES:  # lost; versions up to 0.1 wrote none, and no copy
            return self._without_digest(found)
        good = next((data for data in found.values() if data and hashlib.sha256(data).digest() == known), None)
        for name in (name for name, data in found.items() if data is not None and data != good):
            self._set_aside(name, f"its digest is another; it is {'written' if good else 'fetched'} again")
        if good is not None and (found[GRAPHS[0]] != good or found[GRAPHS[1]] != good):
            with suppress(StorageError):
                self.save_graph(good)
        return good

    def _without_digest(self, found: dict[str, bytes | None]) -> bytes | None:
        """The model file where no digest says which of the two is whole; one that its copy equals gets its digest."""
        first = next((data for data in found.values() if data is not None), None)
        if first is not None and all(data == first for data in found.values()):
            with suppress(StorageError):
                self._write("graph.sha256", hashlib.sha256(first).digest())
        return first

    def has_graph(self) -> bool:
        """Whether there is an ONNX file."""
        return self._has(GRAPHS[0])

    def has_copy(self) -> bool:
        """Whether there is a copy of it; versions up to 0.1 wrote none."""
        return self._has(GRAPHS[1])

    def _has(self, name: str) -> bool:
        if name in self._held or self._denied.get(name) is not None:
            return True
        with suppress(PermissionError):
            return (self._folder / name).is_file()
        return False

    def save_graph(self, data: bytes) -> None:
        """Store the ONNX file, twice: nothing decides without it."""
        self._write("graph.sha256", hashlib.sha256(data).digest())
        for name in reversed(GRAPHS):
            self._replace(name, data)

    def graph_is_damaged(self, why: str) -> None:
        """Set the ONNX file aside, so that another is fetched."""
        for name in (*GRAPHS, "graph.sha256"):
            self._held.pop(name, None)
            if (self._folder / name).exists():
                self._set_aside(name, f"{why}; it is fetched again")

    def save(self, name: str, release: Release) -> None:
        """Store a release as "head" (newest that is trusted) or "serving" (passed the canary)."""
        self._write(f"{name}.cbor", cbor2.dumps([encode(release.header), to_bytes(release.weights)]))

    def save_tuned(self, release: bytes, weights: Floats) -> None:
        """Store the weights to which the release with that hash was tuned here."""
        self._write("tuned.bin", release + to_bytes(weights))

    def load_tuned(self, release: bytes, size: int) -> Floats | None:
        """The locally tuned weights (size,); None when they belong to another release or are damaged."""
        data = self._read("tuned.bin", lambda old: _is_tuned(old, len(release) + 4 * size)) or b""
        if not data.startswith(release) or len(data) != len(release) + 4 * size:
            return None
        weights = to_floats(data[len(release) :])
        return weights if np.isfinite(weights).all() else None

    def save_own(self, graph: bytes, weights: Floats) -> None:
        """Store the weights of this site's own model; graph: the digest of the model file that they are for."""
        self._write("own.bin", graph + to_bytes(weights))

    def load_own(self, graph: bytes, size: int) -> Floats | None:
        """The weights (size,) of this site's own model; None when they are for another file or damaged."""
        data = self._read("own.bin") or b""
        if not data.startswith(graph) or len(data) != len(graph) + 4 * size:
            return None
        weights = to_floats(data[len(graph) :])
        return weights if np.isfinite(weights).all() else None

    def save_learnt(self, graph: bytes, learnt: Learnt) -> None:
        """Store which samples the own model for this model file was trained on last."""
        self._write("own.cbor", cbor2.dumps([graph, *learnt]))

    def load_learnt(self, graph: bytes) -> Learnt | None:
        """Return what the own model was trained on last; None if unknown, or if it is the own model of another file."""
        try:
            stored, *fields = decode_cbor(self._read("own.cbor") or b"\x80", "own.cbor")
            learnt = Learnt(*fields)
        except (RefusedError, ValueError, TypeError):
            return None
        return learnt if stored == graph and all(type(field) is int for field in learnt) else None

    def save_choice(self, data: bytes) -> None:
        """Store how this site's own model and the release decide together."""
        self._write("share.cbor", data)

    def load_choice(self) -> bytes | None:
        """How they did."""
        return self._read("share.cbor")

    def save_calibration(self, data: bytes) -> None:
        """Store how the probabilities of what serves are calibrated to this site."""
        self._write("calibration.cbor", data)

    def load_calibration(self) -> bytes | None:
        """How they were."""
        return self._read("calibration.cbor")

    def save_statistics(self, data: bytes) -> None:
        """Store the readings that statistics are made of."""
        self._write("statistics.cbor", data)

    def load_statistics(self) -> bytes | None:
        """The readings that they were made of."""
        return self._read("statistics.cbor")

    def save_inputs(self, data: bytes) -> None:
        """Store what was learnt of the machines' inputs."""
        self._write("inputs.cbor", data)

    def load_inputs(self) -> bytes | None:
        """What was."""
        return self._read("inputs.cbor")

    def save_scale(self, shape: tuple[int, ...], scale: Scale, samples: int, recipe: bytes = b"") -> None:
        """Store the standardisation of what serves; samples: how many it was fitted on; recipe: how those are made."""
        self._write("scale.cbor", cbor2.dumps([list(shape), standardise.encode(scale), samples, recipe]))

    def load_scale(self, shape: tuple[int, ...], recipe: bytes = b"") -> tuple[Scale, int] | None:
        """The standardisation, and on how many samples it was fitted; None: there is none for this shape and recipe."""
        try:
            stored = decode_cbor(self._read("scale.cbor") or b"\x80", "scale.cbor")
            stored_shape, scale, samples, made = [*stored, b""] if len(stored) == 3 else stored  # 3: of versions to 0.1
            if recipe and made not in (b"", recipe):
                return None
            found = standardise.decode(scale)
        except (RefusedError, ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile):
            return None
        return (found, int(samples)) if tuple(stored_shape) == shape and found.finite else None

    def save_limits(self, data: bytes) -> None:
        """Store the limits of machines."""
        self._write("limits.cbor", data)

    def load_limits(self) -> bytes | None:
        """The stored limits of machines."""
        return self._read("limits.cbor")

    def load(self, name: str, graph: TrainableGraph) -> Release | None:
        """A stored release; None when there is none or the file is damaged."""
        data = self._read(f"{name}.cbor")
        if data is None:
            return None
        try:
            header_bytes, weights_bytes = decode_cbor(data, name)
            header = decode_header(header_bytes, graph.sizes)
            weights = to_floats(weights_bytes)
            if weights_hash(weights) != header.weights or len(weights) != len(graph.params):
                raise ValueError("its weights do not belong to its header")
        except (RefusedError, ValueError, TypeError) as e:
            self._set_aside(f"{name}.cbor", f"{e}; the release is fetched again")
            return None
        return Release(header, hashlib.sha256(header_bytes).digest(), weights)

    def _write(self, name: str, data: bytes) -> None:
        self._replace(name, SEALED + hashlib.sha256(data).digest() + data)

    def _replace(self, name: str, data: bytes) -> None:
        """Write a file; in memory, where there is one that this user may not read: it may be worth more."""
        path = self._folder / name
        if _is_denied(path):
            self._say_denied(name, path)
            self._denied[name] = data
            return
        self._leave_unreadable(name)
        try:
            self._put(path, data)
        except StorageError as e:
            if path.exists() and name not in OF_SAMPLES:
                raise
            self._hold(name, data, str(e))

    def _put(self, path: Path, data: bytes) -> None:
        """Write a file; its folder too, if the disk did not take that. Raises StorageError."""
        files.write_with_folder(path, data)
        self._held.pop(path.name, None)
        self.unwritten = self.unwritten if self._held else None

    def _hold(self, name: str, data: bytes, why: str) -> None:
        if self.unwritten is None:
            logger.error("%s; it is held in memory", why)
        self._held[name], self.unwritten = data, why

    def write_held(self, now: float) -> None:
        """Write what the disk did not take, or where a right was missing, every now and then; now: monotonic, s."""
        if not (self._held or self._denied) or now - self._tried < RETRY_S:
            return
        self._tried = now
        self._take_over_denied()
        if not self._held:
            return
        for name, data in list(self._held.items()):
            try:
                self._put(self._folder / name, data)
            except StorageError as e:
                self.unwritten = str(e)
                return
        logger.warning("%s: what was held in memory is written", self._folder)

    def _say_denied(self, name: str, path: Path) -> None:
        """Note that a file is left as it is, for want of permission."""
        if name not in self._denied:
            self._denied[name] = None
            why = files.explain_denied(path)
            self._problems[name] = f"{why}; it is left as it is, and until it can be read, {LOSSES[name]}, in memory"
            logger.error("%s", self._problems[name])

    def _take_over_denied(self) -> None:
        """Let what was made in place of files without permission be written where there turn out to be none."""
        for name, data in list(self._denied.items()):
            path = self._folder / name
            if data is not None and not _is_denied(path) and not path.exists():
                self._forget_denied(name)
                self._held[name] = data

    def _read(self, name: str, is_old: Callable[[bytes], bool] = bool) -> bytes | None:
        """What a file holds; None when there is none, or it cannot be read or is not as it was written.

        is_old: whether bytes without a digest can be what an earlier version wrote.
        """
        data = self._plain(name)
        if data is None:
            return None
        head = len(SEALED) + DIGEST_BYTES
        if data.startswith(SEALED) and hashlib.sha256(data[head:]).digest() == data[len(SEALED) : head]:
            return data[head:]
        if not data.startswith(SEALED) and name in UNSEALED and is_old(data):
            return data
        self._set_aside(name, f"{'its digest is another' if data else 'it is empty'}; {LOSSES[name]}")
        return None

    def _plain(self, name: str) -> bytes | None:
        """The bytes of a file; None when there is none or it cannot be read."""
        path = self._folder / name
        if name in self._held:
            return self._held[name]
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except PermissionError:
            self._say_denied(name, path)
            return self._denied[name]
        except IsADirectoryError:
            self._set_aside(name, f"it is a folder; {LOSSES[name]}")
            return None
        except OSError as e:
            self._problems[name] = f"{files.explain(e, path)}; {LOSSES[name]}"
            logger.error("%s", self._problems[name])
            return None
        if name in self._denied:  # it can be read again
            self._forget_denied(name)
        return data

    def _leave_unreadable(self, name: str) -> None:
        """Set a file that could not be read aside, before another takes its place: a person may have to look."""
        if name in self._denied:  # it can be read again, and is sound as far as is known
            self._forget_denied(name)
        if why := self._problems.pop(name, None):
            self._set_aside(name, why, damage.LOST)

    def _forget_denied(self, name: str) -> None:
        del self._denied[name]
        self._problems.pop(name, None)

    def _set_aside(self, name: str, why: str, what: str = damage.DAMAGED) -> None:
        path = self._folder / name
        if _is_denied(path):  # nothing shows that it is damaged: only what is held in its place can be
            self._say_denied(name, path)
            self._denied[name] = None
            return
        try:
            damage.report(path, damage.set_aside(path), why, what)
        except StorageError as e:
            logger.error("%s", e)


def _is_tuned(data: bytes, size: int) -> bool:
    """Whether bytes without a digest are tuned weights of an earlier version: of any release, and finite."""
    return len(data) == size and bool(np.isfinite(to_floats(data[DIGEST_BYTES:])).all())


def _is_denied(path: Path) -> bool:
    """Whether there is something that this user has no permission to read."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as e:
        return isinstance(e, PermissionError)
    return False
