"""Ports over RFC 2217: pySerial's server under our driver, and our server under pySerial's client."""

import contextlib
import os
import pathlib
import select
import socket
import subprocess
import threading

import pytest
import serial
import serial.rfc2217
from conftest import JMP, connected, line_within, serve, until

EVERY_BYTE = bytes(range(256)) + b"\xff\xff\r\0"


class TerminalServer:
    """One client after the other shares a loop port, as in pySerial's own example."""

    def __init__(self):
        self.port = serial.serial_for_url("loop://", timeout=0.05)
        self.breaks = []
        setter = type(self.port)._update_break_state
        self.port._update_break_state = lambda: (self.breaks.append(self.port._break_state), setter(self.port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "rfc2217://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    self.converse(connection)

    def converse(self, connection):
        lock = threading.Lock()

        class Network:
            def write(self, data):
                with lock:
                    connection.sendall(data)

        manager = serial.rfc2217.PortManager(self.port, Network())
        while True:
            ready, _, _ = select.select([connection], [], [], 0.01)
            if ready:
                data = connection.recv(1024)
                if not data:
                    return
                self.port.write(b"".join(manager.filter(data)))
            if waiting := self.port.in_waiting:
                Network().write(b"".join(manager.escape(self.port.read(waiting))))

    def close(self):
        self.listener.close()


def config(port):
    return f"""
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: interop}}
export:
  loop: {{type: jumpstarter_driver_pyserial.driver.PySerial, config: {{url: "loop://"}}}}
  remote:
    type: jumpstarter_driver_pyserial.driver.PySerial
    config: {{url: "{port.url}", baudrate: 57600, check_present: false}}
"""


@pytest.fixture(scope="module")
def port():
    with contextlib.closing(TerminalServer()) as port:
        yield port


@pytest.fixture(scope="module")
def served(tmp_path_factory, authority, port):
    running = serve("passphrase", tmp_path_factory.mktemp("rfc2217"), authority, config(port))
    yield running
    running.exporter.stop()


@pytest.fixture
def client(served, authority):
    with connected(served, authority) as client:
        yield client


def test_every_byte_passes_a_terminal_server(client, port):
    with client.remote.pexpect() as remote:
        remote.send(EVERY_BYTE)
        remote.expect_exact(EVERY_BYTE, timeout=60)
        assert port.port.baudrate == 57600


def test_lines_settings_and_breaks_reach_a_terminal_server(client, port):
    with client.remote.pexpect():
        for level in [False, True, False]:
            client.remote.call("set_dtr", level)
            client.remote.call("set_rts", not level)
            assert (port.port.dtr, port.port.rts) == (level, not level)
        port.breaks.clear()
        client.remote.call("send_break", 0.05)
        assert port.breaks == [True, False]
        client.remote.call("configure", {"baudrate": 1200, "parity": "even", "stop_bits": 2})
        assert (port.port.baudrate, port.port.parity, port.port.stopbits) == (1200, "E", 2)


@contextlib.contextmanager
def our_server(served, tmp_path, device):
    """`j DEVICE serve-rfc2217` over a lease with a passphrase."""
    j = tmp_path / "j"
    if not j.exists():
        j.symlink_to(pathlib.Path(JMP).resolve())
    variables = os.environ | {name: str(value) for name, value in served.variables.items() if value is not None}
    process = subprocess.Popen([j, device, "serve-rfc2217"], env=variables, stdout=subprocess.PIPE)
    try:
        yield line_within(process.stdout, 60)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def read(port, count):
    got = b""
    while len(got) < count:
        more = port.read(count - len(got))
        assert more, f"only {len(got)} of {count} bytes came"
        got += more
    return got


def test_pyserial_uses_a_port_of_a_lease(served, tmp_path):
    with our_server(served, tmp_path, "loop") as url, serial.serial_for_url(url, 9600, timeout=60) as ours:
        ours.write(EVERY_BYTE * 40)
        assert read(ours, len(EVERY_BYTE) * 40) == EVERY_BYTE * 40
        ours.baudrate = 115200
        ours.rtscts = True
        ours.dtr = False
        ours.send_break(0.01)
        assert ours.cts and ours.dsr
        ours.reset_input_buffer()


def test_settings_pass_through_both(served, tmp_path, port):
    with our_server(served, tmp_path, "remote") as url, serial.serial_for_url(url, 38400, timeout=60) as ours:
        assert port.port.baudrate == 38400
        ours.parity = serial.PARITY_ODD
        assert port.port.parity == serial.PARITY_ODD
        ours.rts = False
        until(lambda: port.port.rts is False)
        ours.write(EVERY_BYTE)
        assert read(ours, len(EVERY_BYTE)) == EVERY_BYTE
