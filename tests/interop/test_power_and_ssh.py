"""Switches with a web interface, switches that programs operate, and a login, under their Python clients: with our
drivers, and with those of the packages that we host."""

import contextlib
import getpass
import http.server
import os
import random
import shutil
import socket
import subprocess
import sys
import threading

import pytest
from conftest import connected, serve, until

SSHD = "/usr/sbin/sshd"
SNMPD = "/usr/sbin/snmpd"
# The column of outlets, that of the driver's default, and the script of one outlet.
OUTLETS = "1.3.6.1.4.1.13742.6.4.1.2.1.2.1"
OUTLET = """#!/bin/sh
while read -r request; do
    case "$request" in '') continue ;; PING) echo PONG; continue ;; esac
    read -r object
    case "$request" in
    set) read -r _ value; echo "$value" > {folder}/outlet; echo DONE ;;
    *) printf '%s\\ninteger\\n%s\\n' "$object" "$(cat {folder}/outlet)" ;;
    esac
done
"""


class Plug(http.server.BaseHTTPRequestHandler):
    """A plug, and a strip whose page says what is on."""

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.asked.append((self.command, self.path, body))
        status, text = 200, "OK"
        if self.path == "/read":
            text = '{"voltage": 12.0, "meters": [{"i": 2.5}]}'
        elif self.path == "/fail":
            status, text = 503, "relay stuck"
        elif body.startswith("cte"):
            text = "var sockstates = [%s,0,0,0];" % body[-1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def plug():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Plug)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def free_port(kind):
    """A port below those that the kernel gives to sockets that ask for any."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket(type=kind) as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    if not os.path.exists(SSHD) or shutil.which("ssh") is None:
        pytest.skip("sshd or ssh is not installed")
    folder = tmp_path_factory.mktemp("sshd")
    for key in ["host", "user"]:
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", folder / key], check=True)
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    port = free_port(socket.SOCK_STREAM)
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
    )
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL)
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    yield port, folder / "user"
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def snmpd(tmp_path_factory):
    if not os.path.exists(SNMPD):
        pytest.skip("snmpd is not installed")
    folder = tmp_path_factory.mktemp("snmpd")
    (folder / "outlet").write_text("0")
    (folder / "script").write_text(OUTLET.format(folder=folder))
    (folder / "script").chmod(0o755)
    port = free_port(socket.SOCK_DGRAM)
    (folder / "snmpd.conf").write_text(
        f"agentAddress udp:127.0.0.1:{port}\n"
        'createUser lab SHA "authentic lab" AES "private lab"\nrwuser lab priv\n'
        f"pass_persist .{OUTLETS} {folder}/script\n"
    )
    variables = {**os.environ, "SNMP_PERSISTENT_DIR": str(folder / "persistent"), "MIBS": ""}
    command = [SNMPD, "-f", "-Lo", "-C", "-c", folder / "snmpd.conf", "-I", "-smux"]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # It says so once it listens.
    for line in process.stdout:
        if b"NET-SNMP version" in line:
            break
    yield port, folder / "outlet"
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module", params=["native", "hosted"])
def served(request, tmp_path_factory, authority, plug, sshd, snmpd):
    folder = tmp_path_factory.mktemp("power")
    web = f"http://127.0.0.1:{plug.server_port}"
    is_hosted = request.param == "hosted"
    python = f"python: {str(is_hosted).lower()}"
    config = f"""
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: interop}}
python: {sys.executable}
export:
  plug:
    type: jumpstarter_driver_http_power.driver.HttpPower
    {python}
    config:
      name: plug
      power_on: {{url: "{web}/on", method: POST, data: power=on}}
      power_off: {{url: "{web}/off"}}
      power_read: {{url: "{web}/read", voltage_path: voltage, current_path: meters.0.i}}
      auth: {{basic: {{user: me, password: hush}}}}
  stuck:
    type: jumpstarter_driver_http_power.driver.HttpPower
    {python}
    config: {{power_on: {{url: "{web}/fail"}}, power_off: {{url: "{web}/off"}}}}
  strip:
    type: jumpstarter_driver_energenie.driver.EnerGenie
    {python}
    config: {{host: "127.0.0.1:{plug.server_port}", password: "1", slot: 1}}
  outlet:
    type: jumpstarter_driver_snmp.driver.SNMPServer
    {python}
    config:
      host: 127.0.0.1
      port: {snmpd[0]}
      plug: 1
      user: lab
      auth_protocol: SHA
      auth_key: authentic lab
      priv_protocol: AES
      priv_key: private lab
      timeout: 30
  program:
    type: command-power
    config: {{on: [touch, "{folder}/on"], off: [rm, "{folder}/on"], read: [echo, '{{"voltage": 5, "current": 2}}']}}
  ssh:
    type: jumpstarter_driver_ssh.driver.SSHWrapper
    {python}
    config: {{default_username: "{getpass.getuser()}", ssh_identity_file: "{sshd[1]}"}}
    children:
      tcp: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {sshd[0]}}}}}
"""
    running = serve("unix", folder, authority, config)
    running.folder = folder
    yield running
    running.exporter.stop()


@pytest.fixture
def client(served, authority):
    with connected(served, authority) as client:
        yield client


def test_http_power(client, plug):
    from jumpstarter.client.core import DriverError

    plug.asked.clear()
    client.plug.on()
    client.plug.off()
    reading = next(iter(client.plug.read()))
    assert (reading.voltage, reading.current, reading.apparent_power) == (12.0, 2.5, 30.0)
    assert plug.asked == [("POST", "/on", "power=on"), ("GET", "/off", ""), ("GET", "/read", "")]
    with pytest.raises(DriverError, match="503"):
        client.stuck.on()


def test_energenie(client, plug):
    plug.asked.clear()
    client.strip.on()
    client.strip.off()
    bodies = [body for _, _, body in plug.asked]
    assert bodies == ["pw=1", "cte1=1", "pw=1", "cte1=0"]


def test_snmp(client, snmpd):
    client.outlet.on()
    assert snmpd[1].read_text() == "1\n"
    client.outlet.off()
    assert snmpd[1].read_text() == "0\n"


def test_command_power(client, served):
    from jumpstarter.client.core import DriverError

    client.program.on()
    assert (served.folder / "on").exists()
    assert next(iter(client.program.read())).voltage == 5.0
    client.program.off()
    with pytest.raises(DriverError, match="No such file"):
        client.program.off()


def test_ssh(client, served):
    from jumpstarter_driver_ssh.client import SSHCommandRunOptions

    for direct in [False, True]:
        done = client.ssh.run(SSHCommandRunOptions(direct=direct), ["echo it runs; exit 3"])
        assert (done.return_code, done.stdout) == (3, "it runs\n"), done.stderr
    command, variables = served.command("ssh", "exit", "5")
    assert subprocess.run(command, env=variables, timeout=120).returncode == 5
