# SPDX-License-Identifier: Apache-2.0
"""Read a camera through OpenCV: V4L2, a GStreamer pipeline, or anything else that OpenCV opens (RTSP, a video file).

OpenCV is an optional extra, imported when the source runs. Frames are fetched as fast as the camera delivers them, so
that each one handed over is new; at most `fps` are handed over, stamped with this gateway's clock. While the agent is
behind, frames are skipped and counted. Any failure ends the run, and the host opens the camera again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.system.addresses import shown_device

from ..types import Pixels, Reading, Source, SourceHost
from ..windows.decoding import BUDGET

AHEAD = 2  # batches that wait for the agent
MAX_AHEAD_BYTES = 64 * 2**20  # of pictures that wait for the agent, of all sources


class CameraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "camera"``; every tag is the picture."""

    device: str  # "/dev/video0", a GStreamer pipeline ("v4l2src ! … ! appsink"), an RTSP address or a video file
    backend: Literal["auto", "v4l2", "gstreamer", "any"] = "auto"
    fps: Annotated[float, msgspec.Meta(ge=0)] = 1.0  # at most so many pictures per second; 0: all
    width: Annotated[int, msgspec.Meta(ge=0)] = 0  # requested from the camera; 0: its default
    height: Annotated[int, msgspec.Meta(ge=0)] = 0


class CameraSource(Source):
    """Reads one camera."""

    Config = CameraConfig

    def __init__(self, name: str, config: CameraConfig) -> None:
        self._name, self._config = name, config

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Read until stopped. Raises UnreachableError when the camera is missing or delivers no more pictures."""
        camera = _open(self._config)
        try:
            self._watch(camera, tags, host)
        finally:
            camera.release()

    def check(self, tags: Sequence[str]) -> list[str]:
        """Open the camera and take one picture."""
        try:
            camera = _open(self._config)
        except (ConfigError, UnreachableError) as e:
            return [str(e)]
        seen, frame = camera.read()
        camera.release()
        return (
            []
            if seen and _pixels(frame) is not None
            else [f"{shown_device(self._config.device)}: opens but gives no picture"]
        )

    def _watch(self, camera: Any, tags: Sequence[str], host: SourceHost) -> None:
        due = time.monotonic()
        while not host.stop.is_set():
            if not camera.grab():
                raise UnreachableError(
                    f"{shown_device(self._config.device)}: gives no more pictures; is it unplugged, or does something "
                    "else use it?"
                )
            host.problem("connection", None)
            time_ns, now = time.time_ns(), time.monotonic()
            if now < due:
                continue
            if self._config.fps:
                due = max(due + 1 / self._config.fps, now)
            if host.waiting() >= AHEAD or BUDGET.taken > MAX_AHEAD_BYTES:
                host.count("pictures left out because the agent was behind")
                continue
            seen, frame = camera.retrieve()
            pixels = _pixels(frame) if seen else None
            if pixels is None:
                host.count("frames that are no picture of bytes")
            else:
                host.emit([Reading(tag, time_ns, pixels) for tag in tags])


def _open(config: CameraConfig) -> Any:
    """Open a VideoCapture. Raises ConfigError or UnreachableError in the operator's words."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # what matters is in our own messages
    try:
        import cv2
    except ImportError as e:
        raise ConfigError("a camera needs OpenCV, which is not installed: pip install 'fedge[camera]'") from e
    device, backend = config.device, _backend(config)
    if backend == "gstreamer" and cv2.CAP_GSTREAMER not in cv2.videoio_registry.getCameraBackends():
        raise ConfigError(
            f"{shown_device(device)}: this OpenCV was built without GStreamer; use the system's python3-opencv"
        )
    if device.startswith("/dev/"):
        _check_device(Path(device))
    kinds = {"v4l2": cv2.CAP_V4L2, "gstreamer": cv2.CAP_GSTREAMER, "any": cv2.CAP_ANY}
    camera = cv2.VideoCapture(device, kinds[backend])
    if not camera.isOpened():
        camera.release()
        raise UnreachableError(
            f"{shown_device(device)}: cannot be opened through {backend}; expected a camera that nothing else uses, a "
            "pipeline that ends in appsink, or an address that answers"
        )
    for asked, value in ((cv2.CAP_PROP_FRAME_WIDTH, config.width), (cv2.CAP_PROP_FRAME_HEIGHT, config.height)):
        if value:
            camera.set(asked, value)
    return camera


def _backend(config: CameraConfig) -> str:
    if config.backend != "auto":
        return config.backend
    if " ! " in config.device:
        return "gstreamer"
    return "v4l2" if config.device.startswith("/dev/video") else "any"


def _check_device(path: Path) -> None:
    if not path.exists():
        raise UnreachableError(f"{path}: is not there; is the camera plugged in?")
    if not os.access(path, os.R_OK | os.W_OK):
        raise UnreachableError(f"{path}: may not be opened by this user; add it to the group 'video'")


def _pixels(frame: Any) -> Pixels | None:
    """Convert OpenCV's blue, green, red to red, green, blue; grey stays. None for anything but bytes."""
    if frame is None or frame.dtype != np.uint8 or frame.ndim not in (2, 3):
        return None
    if frame.ndim == 3 and frame.shape[2] == 1:
        return BUDGET.held(frame[:, :, 0].copy())
    return BUDGET.held(np.ascontiguousarray(frame[:, :, 2::-1]) if frame.ndim == 3 else frame.copy())
