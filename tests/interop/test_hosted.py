"""Drivers in Python that our exporter hosts: clients see what they see from the exporter in Python."""

import contextlib
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest
from conftest import JMP, Exporter, Served, connected, until

TESTS = pathlib.Path(__file__).parents[2] / "crates/driver-python/tests"

FILE = """
python: {python}
metadata: {{namespace: default, name: hosted}}
export:
  power: {{type: jumpstarter_driver_power.driver.MockPower}}
  sh:
    type: jumpstarter_driver_shell.driver.Shell
    python: true
    description: scripts of the host
    methods_description: {{hi: says hello}}
    config: {{methods: {{hi: "echo hello $1", lines: "for n in 1 2 3; do echo $n; done", bad: "exit 3"}}}}
  relay:
    type: jumpstarter_driver_http_power.driver.HttpPower
    python: true
    config:
      power_on: {{url: "http://127.0.0.1:{port}/on"}}
      power_off: {{url: "http://127.0.0.1:{port}/off"}}
      power_read: {{url: "http://127.0.0.1:{port}/read"}}
  ssh:
    type: jumpstarter_driver_ssh.driver.SSHWrapper
    python: true
    config: {{default_username: me}}
    children: {{tcp: {{ref: tcp}}}}
  tcp: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {port}}}}}
  tmt:
    type: jumpstarter_driver_tmt.driver.TMT
    python: true
    config: {{reboot_cmd: reboot}}
    children: {{ssh: {{ref: ssh}}}}
  plans:
    type: jumpstarter_driver_tmt.driver.TMT
    python: true
    config: {{reboot_cmd: reboot, default_username: root, default_password: hush}}
    children: {{ssh: {{ref: tcp}}}}
  uboot:
    type: jumpstarter_driver_uboot.driver.UbootConsole
    python: true
    children: {{power: {{ref: power}}, serial: {{ref: rack.serial}}}}
  rack:
    children:
      serial: {{type: jumpstarter_driver_pyserial.driver.PySerial, config: {{url: "loop://"}}}}
      quiet: {{type: jumpstarter_driver_power.driver.MockPower}}
  web:
    type: jumpstarter_driver_http.driver.HttpServer
    python: true
    config: {{root_dir: {folder}/web, host: 127.0.0.1, port: 0}}
  boot:
    type: jumpstarter_driver_tftp.driver.Tftp
    python: true
    config: {{root_dir: {folder}/boot, host: 127.0.0.1, port: {udp}}}
  outlet:
    type: jumpstarter_driver_snmp.driver.SNMPServer
    python: true
    config: {{host: 127.0.0.1, user: nobody, plug: 1, port: {udp}, timeout: 0.2}}
  flasher: {{type: jumpstarter_driver_opendal.driver.MockFlasher, python: true}}
  echo: {{type: jumpstarter_driver_network.driver.EchoNetwork, python: true}}
  again: {{ref: uboot.serial}}
"""


class Relay(http.server.BaseHTTPRequestHandler):
    seen = []

    def do_GET(self):
        self.seen.append(self.path)
        body = json.dumps({"voltage": 12.5, "current": 0.5}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def relay():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture(scope="module")
def file(relay, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosted")
    return folder, FILE.format(python=sys.executable, port=relay, folder=folder, udp=20000 + os.getpid() % 10000)


@pytest.fixture(scope="module")
def hosted(file):
    folder, text = file
    exporter = Exporter(folder, text, "--listen-unix", folder / "exporter.sock")
    yield Served("unix", exporter, {}, None)
    exporter.stop()


@pytest.fixture
def client(hosted):
    with connected(hosted, None) as client:
        yield client


# The labels that only our exporter has.
OURS = {"jumpstarter.dev/interfaces", "jumpstarter.dev/client-bases"}


def outline(client, path=""):
    """All that a client knows of a tree."""
    # Our own drivers say more of their methods.
    is_native = "jumpstarter.dev/interfaces" in client.labels
    own = {
        "class": type(client).__module__ + "." + type(client).__qualname__,
        "labels": {key: value for key, value in client.labels.items() if key not in OURS},
        "description": client.description,
        "methods": {} if is_native else client.methods_description,
    }
    below = {}
    for name, child in client.children.items():
        below |= outline(child, f"{path}.{name}")
    return {path: own} | below


def test_clients_see_what_the_exporter_in_python_shows(file, hosted, tmp_path):
    from jumpstarter.config.exporter import ExporterConfigV1Alpha1
    from jumpstarter.utils.env import env

    folder, text = file
    with connected(hosted, None) as client:
        through = outline(client)
    own = tmp_path / "own.yaml"
    # Two servers cannot have one port.
    own.write_text(text.replace("port: 2", "port: 3"))
    from anyio.from_thread import start_blocking_portal

    config = ExporterConfigV1Alpha1.load_path(own)
    with start_blocking_portal() as portal:
        with portal.wrap_async_context_manager(config.serve_unix_async()) as path:
            variables = {"JUMPSTARTER_HOST": str(path), "JMP_DRIVERS_ALLOW": "UNSAFE"}
            with connected(Served("unix", None, variables, None, host=str(path)), None) as client:
                direct = outline(client)
    assert through == direct


def test_shell(client, capsys):
    assert client.sh.hi("you") == 0
    assert client.sh.bad() == 3
    assert capsys.readouterr().out == "hello you\n"


def test_shell_on_the_command_line(hosted):
    assert hosted.j("sh", "hi", "you") == "hello you\n"
    assert hosted.j("sh", "lines") == "1\n2\n3\n"


def test_http_power(client):
    client.relay.on()
    reading = next(iter(client.relay.read()))
    assert (reading.voltage, reading.current) == (12.5, 0.5)
    client.relay.off()
    assert Relay.seen[-3:] == ["/on", "/read", "/off"]


def test_ssh_and_tmt_and_what_they_refer_to(client):
    assert client.ssh.call("get_default_username") == "me"
    assert client.tmt.call("get_reboot_cmd") == "reboot"
    assert client.tmt.ssh.tcp.uuid == client.tcp.uuid == client.ssh.tcp.uuid
    with client.tmt.ssh.tcp.stream() as stream:
        stream.send(b"GET /through HTTP/1.0\r\n\r\n")
        assert stream.receive().startswith(b"HTTP/1.0 200")


def test_tmt_is_run_with_the_address_of_what_it_refers_to(client, tmp_path, capfd):
    program = tmp_path / "tmt"
    program.write_text('#!/bin/sh\necho "$@"\nexit 4\n')
    program.chmod(0o755)
    address = client.tcp.address().removeprefix("tcp://")
    for forward in [False, True]:
        assert client.plans.run_tmt_local(forward, program, None, None, ["run", "provision"]) == 4
        said = capfd.readouterr().out.split()
        host, port = said[said.index("-g") + 1], said[said.index("-P") + 1]
        assert (f"{host}:{port}" == address) is not forward
        assert said[-7:] == ["-u", "root", "-p", "hush", "--feeling-safe", "--hard-reboot", "reboot"]


def test_uboot_with_drivers_that_we_have_ourselves(client):
    assert client.uboot.call("get_prompt") == "\n=>"
    assert client.again.uuid == client.uboot.serial.uuid == client.rack.serial.uuid
    client.uboot.power.on()
    client.power.off()
    client.rack.quiet.on()
    with client.uboot.serial.pexpect() as serial:
        serial.sendline("hello")
        serial.expect("hello", timeout=30)


def test_http_server(client):
    client.web.start()
    client.web.storage.write_bytes("page", b"a page")
    with urllib.request.urlopen(client.web.get_url() + "/page") as page:
        assert page.read() == b"a page"
    client.web.stop()


def test_tftp_server(client):
    client.boot.start()
    client.boot.storage.write_bytes("kernel", b"a kernel")
    assert client.boot.storage.exists("kernel")
    client.boot.stop()


def test_an_outlet_that_does_not_answer_is_an_error(client):
    from jumpstarter.client.core import DriverError

    with pytest.raises(DriverError, match="(?i)timeout|timed out|no snmp response"):
        client.outlet.on()


@pytest.mark.parametrize("compression", [None, "gzip", "xz", "bz2", "zstd"])
def test_images(client, tmp_path, compression):
    from jumpstarter.streams.encoding import Compression

    image = os.urandom(1_000_000) + bytes(2_000_000)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(image)
    client.flasher.flash(str(source), compression=None)
    client.flasher.dump(str(target), compression=compression and Compression(compression))
    if compression is None:
        assert target.read_bytes() == image
    else:
        assert target.stat().st_size < len(image)


def test_bytes(client):
    sent = os.urandom(1_000_000)
    with client.echo.stream() as stream:
        for start in range(0, len(sent), 50_000):
            piece = sent[start : start + 50_000]
            stream.send(piece)
            received = b""
            while len(received) < len(piece):
                received += stream.receive()
            assert received == piece


def test_errors(client):
    from jumpstarter.client.core import DriverMethodNotImplemented

    with pytest.raises(DriverMethodNotImplemented):
        client.sh.call("no_such_method")


def processes(mark):
    """Those whose command line or environment has `mark`."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes() and (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found.append(int(folder.name))
    return found


def test_nothing_is_left_of_an_exporter_that_is_killed(file, tmp_path, monkeypatch):
    folder, text = file
    mark = f"HOSTED_TEST={tmp_path}".encode()
    monkeypatch.setenv("HOSTED_TEST", str(tmp_path))
    exporter = Exporter(tmp_path, text.replace("port: 2", "port: 4"), "--listen-unix", tmp_path / "exporter.sock")
    assert len(processes(mark)) > 5
    exporter.process.send_signal(signal.SIGKILL)
    exporter.process.wait()
    exporter.process.stdout.close()
    until(lambda: not processes(mark))


def check(folder, text, *arguments):
    (folder / "lab.yaml").write_text(text)
    command = [JMP, "check", *arguments, "lab.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_check_asks_python(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho asked >> {tmp_path}/asked\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    text = f"""python: {python}
export:
  a: {{type: jumpstarter_driver_shell.driver.Shel, config: {{methods: {{}}}}}}
  b: {{type: jumpstarter_driver_nothing.driver.Thing}}
  c: {{type: jumpstarter_driver_shell.driver.Shell, python: true, config: {{metods: {{}}}}}}
  d: {{type: jumpstarter_driver_power.driver.MockPowr}}
"""
    done = check(tmp_path, text)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith(
        "lab.yaml:3:13: export.a.type: the module `jumpstarter_driver_shell.driver` has no class `Shel`; did you mean `"
    )
    assert "export.b.type: there is no driver `jumpstarter_driver_nothing.driver.Thing` in this program" in lines[1]
    assert lines[1].endswith(f"{python} -m pip install jumpstarter-driver-nothing")
    assert "lab.yaml:5:" in lines[2] and "export.c.config.methods: missing required field" in lines[2]
    assert "did you mean `jumpstarter_driver_power.driver.MockPower`?" in lines[3]
    assert check(tmp_path, text, "--no-python").returncode == 0
    # What is missing may have been installed meanwhile.
    assert check(tmp_path, text).stderr == done.stderr
    assert (tmp_path / "asked").read_text() == "asked\n" * 2
    sound = f"""python: {python}
export:
  sh: {{type: jumpstarter_driver_shell.driver.Shell, python: true, config: {{methods: {{}}}}}}
"""
    for _ in range(2):
        assert check(tmp_path, sound).returncode == 0
    assert (tmp_path / "asked").read_text() == "asked\n" * 3, "once"


def test_the_next_session_opens_what_has_died(tmp_path):
    (tmp_path / "lab_driver.py").write_text((TESTS / "lab_driver.py").read_text())
    text = f"""python: {sys.executable}
export:
  lab: {{type: lab_driver.Lab}}
"""
    exporter = Exporter(tmp_path, text, "--listen-unix", tmp_path / "exporter.sock")

    def j(*arguments):
        variables = {**os.environ, "JUMPSTARTER_HOST": exporter.host()}
        command = [pathlib.Path(JMP).with_name("j"), *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)

    try:
        assert "the smoke is out" in j("lab", "call", "die").stderr
        assert "the next session" in j("lab", "call", "pid").stderr
        end_session(exporter)
        until(lambda: j("lab", "call", "pid").returncode == 0)
    finally:
        exporter.stop()


def test_a_reload_starts_hosted_processes_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("HOSTED_TEST", str(tmp_path))
    mark = f"HOSTED_TEST={tmp_path}".encode()
    (tmp_path / "lab_driver.py").write_text((TESTS / "lab_driver.py").read_text())
    before = f"""python: {sys.executable}
export:
  lab: {{type: lab_driver.Lab, config: {{marks: {tmp_path}/marks}}}}
  old: {{type: lab_driver.Lab}}
"""
    after = before.replace("config: {", "config: {greeting: moin, ").replace("old:", "new:")
    # Under nohup the signal is ignored, and an exporter leaves it so.
    disposition = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    exporter = Exporter(tmp_path, before, "--listen-unix", tmp_path / "exporter.sock")
    signal.signal(signal.SIGHUP, disposition)

    def j(*arguments):
        variables = {**os.environ, "JUMPSTARTER_HOST": exporter.host()}
        command = [pathlib.Path(JMP).with_name("j"), *arguments]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        assert j("lab", "call", "greet", "you") == "hello you"
        running = set(processes(mark))
        hosted = {int(j(name, "call", "pid")) for name in ["lab", "old"]}
        assert hosted < running
        (tmp_path / "exporter.yaml").write_text(after)
        exporter.process.send_signal(signal.SIGHUP)
        until(lambda: j("new", "call", "pid"))
        assert j("lab", "call", "greet", "you") == "moin you"
        assert (tmp_path / "marks").read_text() == "hello closed"
        anew = {int(j(name, "call", "pid")) for name in ["lab", "new"]}
        assert not anew & hosted
        assert j("old", "call", "pid") is None
        # The others, such as the one that forks, stay.
        until(lambda: set(processes(mark)) == running - hosted | anew)
    finally:
        exporter.stop()
    until(lambda: not processes(mark))


def end_session(exporter):
    import grpc
    from jumpstarter_protocol import jumpstarter_pb2, jumpstarter_pb2_grpc

    with grpc.insecure_channel(f"unix:{exporter.host()}") as channel:
        stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
        assert stub.EndSession(jumpstarter_pb2.EndSessionRequest()).success


def test_check_names_what_is_hosted_and_what_cannot_be(tmp_path):
    text = f"""python: {sys.executable}
export:
  sh: {{type: jumpstarter_driver_shell.driver.Shell, python: true, config: {{methods: {{}}}}}}
  power: {{type: mock-power}}
"""
    done = check(tmp_path, text)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jumpstarter_driver_shell.driver.Shell (Python)" in done.stdout
    report = json.loads(check(tmp_path, text, "--output", "json").stdout)
    assert [report[0]["export"][name]["hosted"] for name in ["sh", "power"]] == [True, False]
    text += """  tmt: {type: jumpstarter_driver_tmt.driver.TMT, python: true, children: {ssh: {ref: file}}}
  file: {type: file-flasher, config: {path: image}}
"""
    done = check(tmp_path, text)
    assert (
        "export.file.type: `tmt` is a driver in Python and needs `file`, but `file-flasher` has no form in Python"
        in done.stderr
    )


def test_a_client_class_of_ones_own_has_the_verbs_of_its_family(tmp_path):
    (tmp_path / "family.py").write_text((TESTS / "family.py").read_text())
    text = f"""python: {sys.executable}
export:
  power: {{type: family.OwnPower}}
  network: {{type: family.OwnNetwork}}
  flasher: {{type: family.OwnFlasher}}
  serial: {{type: family.OwnSerial, config: {{url: "loop://"}}}}
  mux: {{type: family.OwnMux}}
  other: {{type: family.WithoutMethods}}
"""
    exporter = Exporter(tmp_path, text, "--listen-unix", tmp_path / "exporter.sock")
    through = f"""export:
  lab: {{type: remote, config: {{address: {tmp_path}/exporter.sock}}}}
"""
    (tmp_path / "near").mkdir()
    near = Exporter(tmp_path / "near", through, "--listen-unix", tmp_path / "near/exporter.sock")
    try:
        for above, served in [((), exporter), (("lab",), near)]:

            def j(*arguments):
                variables = {**os.environ, "JUMPSTARTER_HOST": served.host()}
                command = [pathlib.Path(JMP).with_name("j"), *above, *arguments]
                return subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120).stdout

            def verbs(name):
                lines = j(name, "--help").split("Commands:")[1].split("Options:")[0].splitlines()
                return {line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "}

            assert {"on", "off", "cycle", "read"} <= verbs("power")
            assert {"forward-tcp", "forward-unix", "address"} <= verbs("network")
            assert {"flash", "dump"} <= verbs("flasher")
            assert {"pipe", "start-console"} <= verbs("serial")
            assert {"host", "dut", "off", "flash", "dump"} <= verbs("mux")
            assert not {"on", "off"} & verbs("other")
            j("power", "on")
            image = tmp_path / "image"
            image.write_bytes(b"an image")
            j("flasher", "flash", image)
            j("mux", "dut")
    finally:
        near.stop()
        exporter.stop()
