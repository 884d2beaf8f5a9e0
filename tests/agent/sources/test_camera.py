# SPDX-License-Identifier: Apache-2.0
"""A camera through OpenCV, played by a video file: colours, pace, what it reports when it is absent."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.sources.camera import CameraConfig, CameraSource
from fedge_agent.sources.host import HostedSource, Queue
from fedge_models.errors import ConfigError, UnreachableError
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S

FRAMES = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Motion-JPEG file: the picture turns from black to red."""
    if not os.environ.get("FEDGE_CI"):
        pytest.importorskip("cv2", reason="OpenCV is not here")
    import cv2

    path = tmp_path_factory.mktemp("video") / "camera.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    assert writer.isOpened()
    for i in range(FRAMES):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[:, :, 2] = 20 * i  # blue, green, red
        writer.write(frame)
    writer.release()
    return path


def test_frames_come_in_red_green_blue_and_the_end_is_reported(video: Path, tmp_path: Path) -> None:
    source, host = CameraSource("cam", CameraConfig(str(video), fps=0)), RecordingHost(tmp_path)
    for _ in range(2):  # each run opens it again
        host.batches.clear()
        with pytest.raises(UnreachableError, match="gives no more pictures; is it unplugged"):
            source.run(["*", "again"], host)
        assert [len(readings) for readings, _ in host.batches] == FRAMES * [2]
    pictures = [r.value for r in host.readings if r.tag == "*" and isinstance(r.value, np.ndarray)]
    assert {p.shape for p in pictures} == {(48, 64, 3)}
    red = [int(np.median(p[:, :, 0])) for p in pictures]
    assert np.abs(np.array(red) - 20 * np.arange(FRAMES)).max() <= 4
    assert max(int(p[:, :, 1:].max()) for p in pictures) < 30
    times = [r.time_ns for r in host.readings]
    assert times == sorted(times)


def test_no_more_than_asked_for_and_none_while_the_agent_is_behind(video: Path, tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    with pytest.raises(UnreachableError):
        CameraSource("cam", CameraConfig(str(video), fps=0.01)).run(["*"], host)
    assert len(host.batches) == 1
    host = RecordingHost(tmp_path, lag=2)
    with pytest.raises(UnreachableError):
        CameraSource("cam", CameraConfig(str(video), fps=0)).run(["*"], host)
    assert not host.batches and host.counts == {"pictures left out because the agent was behind": FRAMES}


def test_it_comes_back_by_itself_and_stops_on_request(video: Path) -> None:
    queue = Queue(1000)
    hosted = HostedSource("cam", CameraSource("cam", CameraConfig(str(video), fps=0)), ["*"], queue)
    hosted.start()
    fresh = 0
    while fresh < 2:
        batch = queue.get(LONGEST_S)
        assert batch is not None
        fresh += batch.fresh
    hosted.join(LONGEST_S)
    assert "source-cam" not in {thread.name for thread in threading.enumerate()}
    assert hosted.status()["reconnects"] >= 1


def test_check_takes_one_picture(video: Path, tmp_path: Path) -> None:
    assert CameraSource("cam", CameraConfig(str(video))).check(["*"]) == []
    assert "cannot be opened through any" in CameraSource("cam", CameraConfig(str(tmp_path / "no.avi"))).check(["*"])[0]


def test_damaged_video_is_trouble_and_no_crash(video: Path, tmp_path: Path) -> None:
    data, broken = video.read_bytes(), tmp_path / "broken.avi"
    for length in (0, 100, 3000, len(data) - 1000):
        broken.write_bytes(data[:length])
        with pytest.raises(UnreachableError):
            CameraSource("cam", CameraConfig(str(broken), fps=0)).run(["*"], RecordingHost(tmp_path))


def test_device_that_is_not_there(video: Path) -> None:
    with pytest.raises(UnreachableError, match="/dev/video99: is not there; is the camera plugged in"):
        CameraSource("cam", CameraConfig("/dev/video99")).run(["*"], RecordingHost(Path()))


def test_without_opencv_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedge\[camera\]'"):
        CameraSource("cam", CameraConfig("/dev/video0")).run(["*"], RecordingHost(Path()))
