"""Stored files, and servers of them for the device: natively, and hosted in Python. Clients see the same."""

import os
import pathlib
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from conftest import JMP, Exporter, Served, connected

# An address of this process: port numbers cannot collide with those of others.
ADDRESS = f"127.70.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"

FILE = """
python: {python}
metadata: {{namespace: default, name: storage}}
export:
  files:
    type: jumpstarter_driver_opendal.driver.Opendal
    python: {hosted}
    config: {{scheme: fs, kwargs: {{root: {folder}/files}}, remove_created_on_close: true}}
  held:
    type: jumpstarter_driver_opendal.driver.Opendal
    python: {hosted}
    config: {{scheme: memory, kwargs: {{root: /}}}}
  web:
    type: jumpstarter_driver_http.driver.HttpServer
    python: {hosted}
    config: {{root_dir: {folder}/web, host: {address}, port: 8080}}
  boot:
    type: jumpstarter_driver_tftp.driver.Tftp
    python: {hosted}
    config: {{root_dir: {folder}/boot, host: {address}, port: 6969}}
"""


@pytest.fixture(scope="module", params=["native", "hosted"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "files").mkdir()
    hosted = str(request.param == "hosted").lower()
    text = FILE.format(python=sys.executable, hosted=hosted, folder=folder, address=ADDRESS)
    exporter = Exporter(folder, text, "--listen-unix", folder / "exporter.sock")
    yield Served("unix", exporter, {}, None)
    exporter.stop()


@pytest.fixture
def client(served):
    with connected(served, None) as client:
        yield client


def our_j(served, *arguments, stdin=b""):
    command = [pathlib.Path(JMP).with_name("j"), *map(str, arguments)]
    variables = {**os.environ, "JUMPSTARTER_HOST": served.host}
    return subprocess.run(command, input=stdin, env=variables, capture_output=True, timeout=120)


@pytest.mark.parametrize("name", ["files", "held"])
def test_files(client, name, tmp_path):
    files = client.children[name]
    content = os.urandom(3_000_000)
    files.write_bytes("a/one", content)
    assert files.read_bytes("a/one") == content
    (tmp_path / "source").write_bytes(content)
    files.write_from_path("two", tmp_path / "source")
    files.read_into_path("two", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content
    found = files.stat("a/one")
    assert (found.content_length, found.mode.is_file(), found.mode.is_dir()) == (len(content), True, False)
    assert len(files.hash("two")) == 64 and len(files.hash("two", "md5")) == 32
    file = files.open("two", "rb")
    assert (file.seek(-10, 2), file.tell()) == (len(content) - 10, len(content) - 10)
    assert (file.readable(), file.writable(), file.seekable()) == (True, False, True)
    assert file.read_bytes() == content[-10:]
    file.close()
    assert file.closed
    assert files.exists("two") and not files.exists("three")
    assert {"a/", "two"} <= set(files.list("/"))
    assert {"a/one", "two"} <= set(files.scan("/"))
    assert files.capability().read
    files.delete("two")
    files.remove_all("a/")
    assert not files.exists("two") and not files.exists("a/one")


def test_files_of_a_folder(client):
    files = client.files
    files.write_bytes("one", b"content")
    files.copy("one", "two")
    files.rename("two", "folder/three")
    files.create_dir("made/")
    assert {"made/", "folder/", "one"} <= set(files.list("/"))
    assert files.read_bytes("folder/three") == b"content"
    assert {path.strip("/") for path in files.get_created_resources()} >= {"one", "folder/three", "made"}


def test_http(client):
    client.web.storage.write_bytes("folder/page", b"a page")
    client.web.start()
    assert client.web.get_url() == f"http://{ADDRESS}:8080"
    with urllib.request.urlopen(client.web.get_url() + "/folder/page") as page:
        assert page.read() == b"a page"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(client.web.get_url() + "/nothing")
    client.web.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{ADDRESS}:8080/folder/page")


def test_http_put_file(client, tmp_path):
    (tmp_path / "page").write_bytes(b"another page")
    client.web.start()
    url = client.web.put_file("other", tmp_path / "page")
    with urllib.request.urlopen(url) as page:
        assert page.read() == b"another page"
    client.web.stop()


def fetch_over_tftp(name):
    """By RFC 1350, without options."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(60)
        line.sendto(b"\0\1" + name.encode() + b"\0octet\0", (ADDRESS, 6969))
        content, block = b"", b"\0" * 512
        while len(block) == 512:
            packet, server = line.recvfrom(1024)
            assert packet[:2] == b"\0\3", packet
            block = packet[4:]
            content += block
            line.sendto(b"\0\4" + packet[2:4], server)
        return content


def test_tftp(client):
    kernel = os.urandom(5_000)
    client.boot.storage.write_bytes("kernel", kernel)
    client.boot.start()
    assert (client.boot.get_host(), client.boot.get_port()) == (ADDRESS, 6969)
    assert fetch_over_tftp("kernel") == kernel
    client.boot.stop()


def test_our_own_commands(served, tmp_path):
    (tmp_path / "image").write_bytes(b"an image")
    for server, url in [("web", f"http://{ADDRESS}:8080/image"), ("boot", f"tftp://{ADDRESS}:6969/image")]:
        assert our_j(served, server, "start").returncode == 0
        put = our_j(served, server, "put-file", "image", tmp_path / "image")
        assert (put.returncode, put.stdout.decode().strip()) == (0, url), put.stderr
        listed = our_j(served, server, "storage", "list", "/", "--output", "json")
        assert b'"image"' in listed.stdout, listed.stderr
        assert our_j(served, server, "stop").returncode == 0
    assert our_j(served, "held", "write-bytes", "typed", stdin=b"typed").returncode == 0
    assert our_j(served, "held", "read-bytes", "typed").stdout == b"typed"
