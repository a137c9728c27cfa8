"""Starts the exporter under test, and connects the real Python client to it.

JMP names the binary. Each way to connect is a parameter, so every test that takes `client` runs over all of them.
"""

import contextlib
import os
import pathlib
import select
import signal
import subprocess
import sys
import textwrap
import time

# The suite starts programs on terminals, which forks: gRPC must not start its threads again between fork and exec,
# where their files are being closed.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import grpc
import pytest
import trustme
from endpoints import Endpoints
from with_certificate import present

JMP = os.environ["JMP"]
BIN = pathlib.Path(sys.executable).parent
WAYS = ["unix", "tcp", "passphrase", "tls", "mutual-tls"]
PASSPHRASE = "correct horse battery staple"

CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: interop}
motd: welcome
export:
  power:
    type: jumpstarter_driver_power.driver.MockPower
    description: the switch
  echo:
    type: jumpstarter_driver_network.driver.EchoNetwork
  serial:
    type: jumpstarter_driver_pyserial.driver.PySerial
    config: {url: "loop://"}
  flasher:
    type: jumpstarter_driver_opendal.driver.MockFlasher
  mux:
    type: jumpstarter_driver_opendal.driver.MockStorageMux
  mux_flasher:
    type: jumpstarter_driver_opendal.driver.MockStorageMuxFlasher
  rack:
    children:
      power:
        type: jumpstarter_driver_power.driver.MockPower
  alias: {ref: rack.power}
"""


if tuple(int(number) for number in grpc.__version__.split(".")[:3]) < (1, 75, 1):
    # The programs that this suite starts, and this process, which has already started: see the file there.
    os.environ["PYTHONPATH"] = str(pathlib.Path(__file__).with_name("grpcio_before_1_75_1"))
    grpc.aio.init_grpc_aio()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (outcome := condition()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)
    return outcome


def line_within(stream, seconds):
    """The next line; without one in time, what the test says."""
    ready, _, _ = select.select([stream], [], [], seconds)
    assert ready, "the exporter said nothing in time"
    return stream.readline().decode().strip()


class Exporter:
    """A running `jmp run`."""

    def __init__(self, folder, config, *arguments):
        self.log_path = folder / "exporter.log"
        file = folder / "exporter.yaml"
        file.write_text(textwrap.dedent(config))
        self.log = self.log_path.open("wb")
        command = [JMP, "run", "--exporter-config", file, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        line = line_within(self.process.stdout, 60)
        assert line.startswith("ready "), f"{line!r}: {self.log_path.read_text()}"
        self.addresses = line.split()[1:]

    def host(self, scheme=""):
        """Where it listens; with more than one such address, the first."""
        return next(address for address in self.addresses if address.startswith(scheme)).split("://", 1)[1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.log.close()
        self.process.stdout.close()
        assert code == 0, f"exit code {code}: {self.log_path.read_text()}"


@contextlib.contextmanager
def environment(**variables):
    """Sets variables of this process, and sets them back."""
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, str(value))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate authority with an exporter's and a client's certificate, as files."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for name in ["localhost", "client"]:
        issued = ca.issue_cert(name)
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    return folder


def arguments_and_environment(way, folder, authority):
    listen = ["--tls-grpc-listener", "localhost:0"]
    tls = [*listen, "--tls-cert", authority / "localhost.pem", "--tls-key", authority / "localhost.key"]
    roots = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": authority / "ca.pem", "JMP_GRPC_INSECURE": None}
    plain = {"JMP_GRPC_INSECURE": "1"}
    return {
        "unix": (["--listen-unix", folder / "exporter.sock"], {}),
        "tcp": ([*listen, "--tls-grpc-insecure"], plain),
        "passphrase": (
            [*listen, "--tls-grpc-insecure", "--passphrase", PASSPHRASE],
            plain | {"JMP_GRPC_PASSPHRASE": PASSPHRASE},
        ),
        "tls": (tls, roots),
        "mutual-tls": ([*tls, "--tls-client-ca", authority / "ca.pem"], roots),
    }[way]


class Served:
    """An exporter and what a client needs to reach it."""

    def __init__(self, way, exporter, variables, authority, host=None):
        self.way = way
        self.exporter = exporter
        self.authority = authority
        self.endpoints = None
        host = host or exporter.host()
        if "tls" in way:
            host = "localhost:" + host.rsplit(":", 1)[1]
        self.host = host
        self.variables = {"JUMPSTARTER_HOST": host, "JMP_DRIVERS_ALLOW": "UNSAFE", **variables}

    def command(self, *arguments):
        """The per-device command line and its environment."""
        variables = {name: str(value) for name, value in self.variables.items() if value is not None}
        unset = [name for name, value in self.variables.items() if value is None]
        inherited = {name: value for name, value in os.environ.items() if name not in unset}
        j = [str(BIN / "j")]
        if self.way == "mutual-tls":
            runner = pathlib.Path(__file__).with_name("with_certificate.py")
            j = [sys.executable, str(runner), str(self.authority), "jumpstarter_cli.j", "j"]
        return [*j, *map(str, arguments)], inherited | variables

    def j(self, *arguments):
        """Runs the per-device command line, which has to succeed, and answers its output."""
        command, variables = self.command(*arguments)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=variables, timeout=120)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    @contextlib.contextmanager
    def j_running(self, *arguments, stdin=subprocess.DEVNULL):
        """The per-device command line while it runs: for what ends only when it is ended."""
        command, variables = self.command(*arguments)
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, env=variables)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def serve(way, folder, authority, config=CONFIG):
    arguments, variables = arguments_and_environment(way, folder, authority)
    return Served(way, Exporter(folder, config, *arguments), variables, authority)


@pytest.fixture(scope="session", params=WAYS)
def served(request, tmp_path_factory, authority):
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        endpoints = Endpoints(stack, folder)
        with environment(DBUS_SESSION_BUS_ADDRESS=endpoints.bus):
            running = serve(request.param, folder, authority, CONFIG + endpoints.config())
        running.endpoints = endpoints
        yield running
        running.exporter.stop()


@contextlib.contextmanager
def connected(running, authority):
    """The Python client for an exporter."""
    from jumpstarter.utils.env import env

    before = grpc.ssl_channel_credentials
    if running.way == "mutual-tls":
        before = present(authority)
    try:
        with environment(**running.variables), env() as client:
            yield client
    finally:
        grpc.ssl_channel_credentials = before


@pytest.fixture
def client(served, authority):
    with connected(served, authority) as client:
        yield client


def pytest_sessionfinish(session, exitstatus):
    """Where nothing may be skipped, a skip is a failure: the reasons stand in the summary."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and os.environ.get("INTEROP_NO_SKIPS") and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
