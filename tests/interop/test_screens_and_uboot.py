"""The Python clients of U-Boot and of screens drive our drivers, and hosted ones, on a real U-Boot and QEMU's VNC."""

import os
import shutil
import socket
import sys
import urllib.parse

import pytest
from conftest import Exporter, Served, connected

FIRMWARE = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
FILE = """
python: {python}
metadata: {{namespace: default, name: boards}}
export:
  vm:
    type: jumpstarter_driver_qemu.driver.Qemu
    config: {{arch: aarch64, mem: 256M, smp: 1, default_partitions: {{bios: {firmware}}}}}
  native:
    type: jumpstarter_driver_uboot.driver.UbootConsole
    children: {{power: {{ref: vm.power}}, serial: {{ref: vm.console}}}}
  board:
    type: jumpstarter_driver_qemu.driver.Qemu
    config: {{arch: aarch64, mem: 256M, smp: 1, default_partitions: {{bios: {firmware}}}}}
  hosted:
    type: jumpstarter_driver_uboot.driver.UbootConsole
    python: true
    children: {{power: {{ref: board.power}}, serial: {{ref: board.console}}}}
  screen:
    type: jumpstarter_driver_vnc.driver.Vnc
    config: {{default_encrypt: true}}
    children: {{tcp: {{ref: vm.vnc}}}}
  hosted_screen:
    type: jumpstarter_driver_vnc.driver.Vnc
    python: true
    children: {{tcp: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {port}}}}}}}
"""


@pytest.fixture(scope="module")
def greeter():
    """A server whose first words are those of VNC."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture(scope="module")
def served(tmp_path_factory, greeter):
    if not os.path.exists(FIRMWARE) or shutil.which("qemu-system-aarch64") is None:
        pytest.skip("u-boot-qemu or qemu-system-arm is not installed")
    folder = tmp_path_factory.mktemp("boards")
    text = FILE.format(python=sys.executable, firmware=FIRMWARE, port=greeter.getsockname()[1])
    exporter = Exporter(folder, text, "--listen-unix", folder / "exporter.sock")
    yield Served("unix", exporter, {}, None)
    exporter.stop()


@pytest.fixture
def client(served):
    with connected(served, None) as client:
        yield client


# The machine of the hosted one is hosted with it.
@pytest.mark.parametrize("name", ["native", "hosted"])
def test_uboot(client, name):
    uboot = client.children[name]
    with uboot.reboot_to_console():
        assert uboot.run_command_checked("version")[0].startswith("U-Boot 20")
        assert uboot.setup_dhcp().ip_address == "10.0.2.15"
        uboot.set_env_dict({"foo": "bar", "baz": "two words"})
        assert (uboot.get_env("foo"), uboot.get_env("baz")) == ("bar", "two words")
        uboot.set_env("foo", None)
        assert uboot.get_env("foo") is None
        with pytest.raises(RuntimeError, match="return value: 1"):
            uboot.run_command_checked("false")
    uboot.power.off()


def test_vnc(client):
    assert client.screen.get_default_encrypt() is True
    client.vm.power.on()
    with client.screen.stream() as stream:
        assert stream.receive().startswith(b"RFB 003.008\n")
    session(client.screen)
    client.vm.power.off()


def test_hosted_vnc(client, greeter):
    assert client.hosted_screen.get_default_encrypt() is False
    with client.hosted_screen.stream() as stream:
        accepted, _ = greeter.accept()
        with accepted:
            accepted.sendall(b"RFB 003.008\n")
            assert stream.receive() == b"RFB 003.008\n"
    session(client.hosted_screen)


def session(screen):
    with screen.session(encrypt=False) as url:
        query = urllib.parse.parse_qs(urllib.parse.urlparse(url).query)
        assert (query["encrypt"], query["host"]) == (["0"], ["127.0.0.1"])
        socket.create_connection(("127.0.0.1", int(query["port"][0]))).close()
