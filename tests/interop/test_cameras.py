"""The Python client of ustreamer drives our driver, and the package's that we host, over the real ustreamer."""

import shutil
import sys

import pytest
from conftest import Exporter, Served, connected

# Without a device it shows a picture of its own.
ARGUMENTS = '{{device: /dev/{0}, buffers: "2", fake-resolution: 320x240}}'


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    if shutil.which("ustreamer") is None:
        pytest.skip("ustreamer is not installed")
    folder = tmp_path_factory.mktemp("cameras")
    text = f"""
python: {sys.executable}
metadata: {{namespace: default, name: cameras}}
export:
  native: {{type: jumpstarter_driver_ustreamer.driver.UStreamer, config: {{args: {ARGUMENTS.format('none')}}}}}
  hosted: {{type: jumpstarter_driver_ustreamer.driver.UStreamer, python: true, config: {{args: {ARGUMENTS.format('nothing')}}}}}
"""
    exporter = Exporter(folder, text, "--listen-unix", folder / "exporter.sock")
    yield Served("unix", exporter, {}, None)
    exporter.stop()


@pytest.mark.parametrize("name", ["native", "hosted"])
def test_ustreamer(served, name):
    with connected(served, None) as client:
        camera = client.children[name]
        state = camera.state()
        assert state.ok and state.result.encoder.type == "CPU" and not state.result.source.online
        assert state.result.source.resolution.width == 320
        picture = camera.snapshot()
        assert (picture.format, picture.size) == ("JPEG", (640, 480))
        with camera.stream() as stream:
            stream.send(b"GET /stream HTTP/1.0\r\n\r\n")
            received = b""
            while b"multipart/x-mixed-replace" not in received:
                received += stream.receive()
