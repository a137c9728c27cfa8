"""What drivers reach: servers of TCP, UDP, Unix and WebSockets, a message bus, and the far end of a serial port."""

import contextlib
import os
import pty
import select
import socketserver
import subprocess
import termios
import threading
import tty

from websockets.sync.server import serve as websocket_server


class Shouting(socketserver.StreamRequestHandler):
    """Answers in capitals, and `bye` once the client has said everything."""

    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data.upper())
        self.request.sendall(b"bye")


class ShoutingDatagrams(socketserver.BaseRequestHandler):
    """Answers each datagram in capitals."""

    def handle(self):
        data, server = self.request
        server.sendto(data.upper(), self.client_address)


@contextlib.contextmanager
def shouting_datagrams():
    kind = type("Server", (socketserver.ThreadingUDPServer,), {"max_packet_size": 65536})
    with kind(("127.0.0.1", 0), ShoutingDatagrams) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def shout_messages(connection):
    """Answers each message in capitals, as the kind that it came; `fail` is closed with a code."""
    for message in connection:
        if message in ("fail", b"fail"):
            connection.close(1011, "on fire")
            return
        connection.send(message.upper())


@contextlib.contextmanager
def shouting_websocket():
    with websocket_server(shout_messages, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()


@contextlib.contextmanager
def message_bus(folder):
    """A message bus of D-Bus, and its address."""
    command = ["dbus-daemon", "--session", "--nofork", "--print-address", f"--address=unix:path={folder}/a%20bus"]
    bus = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield bus.stdout.readline().decode().strip()
    finally:
        bus.terminate()
        bus.wait()
        bus.stdout.close()


@contextlib.contextmanager
def serving(kind, address):
    kind = type("Server", (socketserver.ThreadingMixIn, kind), {"daemon_threads": True})
    with kind(address, Shouting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class SerialPort:
    """A pseudo terminal: `path` is the port, the test is the device behind it."""

    def __init__(self):
        self.device, self.port = pty.openpty()
        tty.setraw(self.port, termios.TCSANOW)
        self.path = os.ttyname(self.port)

    def write(self, data):
        os.write(self.device, data)

    def read_until(self, end, seconds=60):
        """What the port's user wrote, up to `end`."""
        said = b""
        while end not in said:
            ready, _, _ = select.select([self.device], [], [], seconds)
            assert ready, f"no {end!r} came, only {said!r}"
            said += os.read(self.device, 4096)
        return said

    def discard(self):
        """Drops what the port's user wrote so far."""
        while select.select([self.device], [], [], 0)[0]:
            os.read(self.device, 4096)

    def close(self):
        os.close(self.device)
        os.close(self.port)


class Endpoints:
    """All of them, and the part of an exporter file that names them."""

    def __init__(self, stack, folder):
        self.folder = folder
        self.socket = folder / "shouting.sock"
        self.tcp = stack.enter_context(serving(socketserver.TCPServer, ("127.0.0.1", 0)))
        stack.enter_context(serving(socketserver.UnixStreamServer, str(self.socket)))
        self.udp = stack.enter_context(shouting_datagrams())
        self.websocket = stack.enter_context(shouting_websocket())
        self.bus = stack.enter_context(message_bus(folder))
        self.serial = stack.enter_context(contextlib.closing(SerialPort()))

    def config(self):
        return f"""
  tcp:
    type: jumpstarter_driver_network.driver.TcpNetwork
    config: {{host: 127.0.0.1, port: {self.tcp.server_address[1]}}}
  hidden:
    type: jumpstarter_driver_network.driver.TcpNetwork
    config: {{host: 127.0.0.1, port: {self.tcp.server_address[1]}, enable_address: false}}
  unix:
    type: jumpstarter_driver_network.driver.UnixNetwork
    config: {{path: {self.socket}}}
  nobody:
    type: jumpstarter_driver_network.driver.UnixNetwork
    config: {{path: {self.folder}/nobody.sock}}
  udp:
    type: jumpstarter_driver_network.driver.UdpNetwork
    config: {{host: 127.0.0.1, port: {self.udp}}}
  websocket:
    type: jumpstarter_driver_network.driver.WebsocketNetwork
    config: {{url: "ws://127.0.0.1:{self.websocket}/"}}
  bus:
    type: jumpstarter_driver_network.driver.DbusNetwork
    config: {{kind: session}}
  vsock:
    type: jumpstarter_driver_network.driver.VsockNetwork
    config: {{cid: 1, port: 2147483632}}
  tty:
    type: jumpstarter_driver_pyserial.driver.PySerial
    config: {{url: {self.serial.path}}}
  card:
    type: file-flasher
    config: {{path: {self.folder}/card.img, targets: {{boot: {self.folder}/boot.img}}}}
"""
