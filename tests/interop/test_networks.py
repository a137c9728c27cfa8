"""Networks, forwarded by the Python client to where a test connects."""

import contextlib
import os
import socket
import subprocess
import threading

import pytest
from conftest import line_within
from jumpstarter.client.core import DriverError
from jumpstarter_driver_network.adapters import TcpPortforwardAdapter, UnixPortforwardAdapter


def everything(stream):
    said = b""
    while data := stream.recv(65536):
        said += data
    return said


def talk(stream, data=b"hello"):
    """Says it, says that this was all, and answers everything that came back."""
    stream.settimeout(60)
    sender = threading.Thread(target=lambda: (stream.sendall(data), stream.shutdown(socket.SHUT_WR)))
    sender.start()
    said = everything(stream)
    sender.join(60)
    return said


@contextlib.contextmanager
def unix_connection(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(60)
        stream.connect(str(path))
        yield stream


@pytest.mark.parametrize("name", ["tcp", "hidden", "unix"])
def test_a_local_port_leads_to_the_endpoint(client, name):
    data = os.urandom(400_000)
    with TcpPortforwardAdapter(client=getattr(client, name)) as address:
        for sent in [b"hello", data]:
            with socket.create_connection(address, timeout=60) as stream:
                assert talk(stream, sent) == sent.upper() + b"bye"


@pytest.mark.parametrize("name", ["tcp", "unix"])
def test_a_local_socket_leads_to_the_endpoint(client, name):
    with UnixPortforwardAdapter(client=getattr(client, name)) as path, unix_connection(path) as stream:
        assert talk(stream) == b"HELLObye"


def test_the_echo_comes_through_a_forward(client):
    with TcpPortforwardAdapter(client=client.echo) as address:
        with socket.create_connection(address, timeout=60) as stream:
            assert talk(stream, b"x" * 200_000) == b"x" * 200_000


def test_addresses(client, served):
    assert client.tcp.address() == f"tcp://127.0.0.1:{served.endpoints.tcp.server_address[1]}"
    with pytest.raises((DriverError, ValueError), match="address"):
        client.hidden.address()
    with pytest.raises(DriverError):
        client.unix.address()


def test_nobody_listens(client):
    from anyio import BrokenResourceError, EndOfStream

    with pytest.raises((DriverError, BrokenResourceError, EndOfStream)):
        with client.nobody.stream() as stream:
            stream.receive()
    client.power.on()


def test_j_forwards_and_tells_addresses(served):
    port = served.endpoints.tcp.server_address[1]
    assert served.j("tcp", "address").strip() == f"127.0.0.1:{port}"
    with served.j_running("tcp", "forward-tcp", "--address", "127.0.0.1", "0") as running:
        host, port = line_within(running.stdout, 60).rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=60) as stream:
            assert talk(stream) == b"HELLObye"


@pytest.mark.parametrize("name", ["unix", "echo"])
def test_j_forwards_to_a_socket(served, tmp_path, name):
    path = tmp_path / "here.sock"
    with served.j_running(name, "forward-unix", path) as running:
        assert line_within(running.stdout, 60) == str(path)
        with unix_connection(path) as stream:
            assert talk(stream) == (b"HELLObye" if name == "unix" else b"hello")


def test_datagrams_stay_whole(client, served):
    assert client.udp.address() == f"udp://127.0.0.1:{served.endpoints.udp}"
    with client.udp.stream() as stream:
        for datagram in [b"hello", b"x" * 9000, b"y"]:
            stream.send(datagram)
            assert stream.receive() == datagram.upper()


def test_messages_of_a_websocket_stay_whole(client, served):
    assert client.websocket.address() == f"ws://127.0.0.1:{served.endpoints.websocket}/"
    with client.websocket.stream() as stream:
        for message in [b"hello", b"x" * 300_000, b"y"]:
            stream.send(message)
            assert stream.receive() == message.upper()


def test_a_websocket_comes_through_a_forward(client):
    with TcpPortforwardAdapter(client=client.websocket) as address:
        with socket.create_connection(address, timeout=60) as stream:
            stream.sendall(b"hello")
            assert stream.recv(5) == b"HELLO"


def test_a_websocket_that_fails_is_an_error(client):
    from anyio import BrokenResourceError, EndOfStream

    with pytest.raises((DriverError, BrokenResourceError, EndOfStream)):
        with client.websocket.stream() as stream:
            stream.send(b"fail")
            stream.receive()
    client.power.on()


def test_calls_to_a_message_bus(client):
    assert client.bus.kind == "session"
    call = ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"]
    with client.bus:
        assert os.environ["DBUS_SESSION_BUS_ADDRESS"].startswith("tcp:host=")
        names = subprocess.run([*call, "org.freedesktop.DBus.ListNames"], capture_output=True, text=True, timeout=60)
    assert "org.freedesktop.DBus" in names.stdout, names.stderr


def test_vsock_without_a_peer(client):
    from anyio import BrokenResourceError, EndOfStream

    assert client.vsock.address() == "vsock://1:2147483632"
    with pytest.raises((DriverError, BrokenResourceError, EndOfStream)):
        with client.vsock.stream() as stream:
            stream.receive()
