"""A virtual machine, whole: flash, power, console, a page, dump, and what a killed exporter leaves.

Most guests are the one of crates/driver-testkit/pico, which boots in a tenth of a second. The page comes from the tiny
Linux that JUMPSTARTER_GUEST_X86_64 names.
"""

import gzip
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import threading
import urllib.request

import pytest
from conftest import Exporter, Served, arguments_and_environment, connected, line_within, serve, until
from jumpstarter.client.core import DriverError

PICO = pathlib.Path(__file__).parents[2] / "crates/driver-testkit/pico/pico.img"
CONFIG = """
export:
  qemu:
    type: jumpstarter_driver_qemu.driver.Qemu
    config:
      arch: x86_64
      mem: 64M
      hostname: lab
      hostfwd:
        web: {protocol: tcp, hostaddr: 127.0.0.1, hostport: 0, guestport: 80}
"""

pytestmark = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")


@pytest.fixture(params=["unix", "tcp", "tls", "mutual-tls"])
def served(request, tmp_path, authority):
    running = serve(request.param, tmp_path, authority, CONFIG)
    yield running
    running.exporter.stop()


@pytest.fixture
def over_unix(tmp_path, authority):
    """An exporter where the way does not matter."""
    running = serve("unix", tmp_path, authority, CONFIG)
    yield running
    running.exporter.stop()


@pytest.fixture
def qemu(served, authority):
    with connected(served, authority) as client:
        yield client.qemu


def log_in(console):
    console.expect("login: ", timeout=120)
    console.sendline("root")
    console.expect("Password:", timeout=60)
    console.sendline("secret")
    console.expect("pico# ", timeout=60)


def test_flash_boot_log_in_power_off_dump(qemu, tmp_path):
    assert qemu.hostname == "lab"
    qemu.flasher.flash(str(PICO))
    with qemu.console.pexpect() as console:
        qemu.power.on()
        log_in(console)
        console.sendline("echo it works")
        console.expect("\nit works", timeout=60)
    qemu.power.off()
    qemu.flasher.dump(str(tmp_path / "back"))
    assert_same_image(tmp_path / "back")


def assert_same_image(dump):
    back, image = dump.read_bytes(), PICO.read_bytes()
    assert back[: len(image)] == image and not back[len(image) :].strip(b"\0")


@pytest.mark.parametrize("compression", ["gzip", "xz", "bz2", "zstd"])
def test_compressed_images_boot(over_unix, authority, tmp_path, compression):
    from jumpstarter.streams.encoding import Compression
    from test_drivers import compressed

    stored = tmp_path / "image"
    stored.write_bytes(compressed(compression, PICO.read_bytes()))
    with connected(over_unix, authority) as client:
        client.qemu.flasher.flash(str(stored), compression=Compression(compression))
        with client.qemu.console.pexpect() as console:
            client.qemu.power.on()
            log_in(console)
        client.qemu.power.off()


def test_an_url_is_flashed_and_dumped(qemu, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/pico.img.gz").write_bytes(gzip.compress(PICO.read_bytes()))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "web")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        qemu.flasher.flash(f"http://127.0.0.1:{web.server_port}/pico.img.gz")
        web.shutdown()
    qemu.flasher.dump(str(tmp_path / "back"))
    assert_same_image(tmp_path / "back")


def test_an_image_of_a_registry_is_flashed(over_unix, authority, tmp_path):
    layer = gzip.compress(PICO.read_bytes())
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    layers = [{"mediaType": "application/vnd.example.disk", "digest": digest, "size": len(layer)}]
    manifest = json.dumps({"schemaVersion": 2, "layers": layers}).encode()

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers.get("authorization") == "Basic dXNlcjpzZWNyZXQ="
            body = {f"/v2/lab/os/blobs/{digest}": layer, "/v2/lab/os/manifests/1": manifest}[self.path]
            self.send_response(200 if known else 401)
            self.send_header("www-authenticate", "Basic realm=lab")
            self.send_header("content-length", str(len(body) if known else 0))
            self.end_headers()
            if known:
                self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"oci://127.0.0.1:{web.server_port}/lab/os:1"
        with connected(over_unix, authority) as client:
            flasher = client.qemu.flasher
            said = list(flasher.streamingcall("flash_oci", url, "root", "user", "secret"))
            assert said[-1] == ["flashed\n", "", 0]
            flasher.dump(str(tmp_path / "back"))
            with pytest.raises(DriverError, match="401"):
                client.qemu.flash_oci(url)
        web.shutdown()
    assert_same_image(tmp_path / "back")


def test_j(served, tmp_path):
    log = tmp_path / "console.log"
    served.j("qemu", "resize", "memory", "96M")
    served.j("qemu", "resize", "disk", "1G")
    served.j("qemu", "flasher", "flash", PICO)
    with served.j_running("qemu", "console", "pipe", "--no-input", "-o", log):
        served.j("qemu", "power", "on")
        until(lambda: log.exists() and b"login: " in log.read_bytes(), 120)
    # One reading, then the end.
    [reading] = served.j("qemu", "power", "read").splitlines()
    assert reading.startswith("voltage=1.0 V")
    served.j("qemu", "power", "off")
    served.j("qemu", "flasher", "dump", tmp_path / "back")
    assert_same_image(tmp_path / "back")


@pytest.fixture
def two_ways(tmp_path, authority):
    """One exporter with a Linux guest, reached by its socket and by mutual TLS: a guest boots for both."""
    image = os.environ.get("JUMPSTARTER_GUEST_X86_64")
    if image is None:
        pytest.skip("JUMPSTARTER_GUEST_X86_64 is not set: run `cargo xtask interop`")
    ways = [arguments_and_environment(way, tmp_path, authority) for way in ["unix", "mutual-tls"]]
    config = CONFIG.replace("mem: 64M", "mem: 256M").replace("hostname: lab", "hostname: lab\n      password: sesame")
    exporter = Exporter(tmp_path, config, *[argument for arguments, _ in ways for argument in arguments])
    unix = Served("unix", exporter, ways[0][1], authority, exporter.host("unix"))
    mutual = Served("mutual-tls", exporter, ways[1][1], authority, exporter.host("tcp"))
    yield image, unix, mutual
    exporter.stop()


def page(address):
    """The guest's page, which comes once its network does."""
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=20) as answer:
            return answer.read().decode()
    except OSError:
        return None


def test_a_page_of_the_guest_and_a_login(two_ways, authority):
    from jumpstarter_driver_network.adapters import TcpPortforwardAdapter

    image, unix, mutual = two_ways
    with connected(unix, authority) as client:
        qemu = client.qemu
        qemu.flasher.flash(image)
        with qemu.console.pexpect() as console:
            qemu.power.on()
            console.expect("login: ", timeout=240)
            console.sendline(qemu.username)
            console.expect("Password: ", timeout=120)
            console.sendline(qemu.password)
            console.expect(r"\$ ", timeout=120)
            console.sendline("hostname; id -un")
            console.expect(f"lab\r\n{qemu.username}\r\n", timeout=120)
        with TcpPortforwardAdapter(client=qemu.web) as (host, port):
            assert "lab" in until(lambda: page(f"{host}:{port}"), 240)
        address = unix.j("qemu", "web", "address").strip()
        assert address.startswith("127.0.0.1:") and "lab" in until(lambda: page(address))
        with unix.j_running("qemu", "web", "forward-tcp", "--address", "127.0.0.1", "0") as running:
            assert "lab" in until(lambda address=line_within(running.stdout, 60): page(address))
    with connected(mutual, authority) as client:
        with TcpPortforwardAdapter(client=client.qemu.web) as (host, port):
            assert "lab" in until(lambda: page(f"{host}:{port}"))
        client.qemu.power.off()


def test_a_killed_exporter_leaves_no_machine(tmp_path, authority):
    served = serve("unix", tmp_path, authority, CONFIG)
    with connected(served, authority) as client:
        client.qemu.flasher.flash(str(PICO))
        client.qemu.power.on()
    children = descendants(served.exporter.process.pid)
    assert any("qemu-system" in name for name in children.values()), children
    served.exporter.process.send_signal(signal.SIGKILL)
    served.exporter.process.wait()
    served.exporter.process.stdout.close()
    until(lambda: not any(alive(pid) for pid in children))


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def descendants(root):
    """The processes below one, by id, with their command lines."""
    parents = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(folder.name)] = (int(fields[1]), name)
    found, before = {root}, set()
    while found != before:
        before = set(found)
        found |= {pid for pid, (parent, _) in parents.items() if parent in found}
    return {pid: parents[pid][1] for pid in found if pid in parents and pid != root}
