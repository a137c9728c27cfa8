"""`jmp shell` with the real `j` in it, hooks, logs and the exporter's end."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest
from conftest import CONFIG, JMP, connected, serve, until

BIN = pathlib.Path(sys.executable).parent

HOOKS = CONFIG + """
hooks:
  beforeLease: {script: "echo before $LEASE_NAME; j power on && echo switched on"}
  afterLease: {script: "j power off && echo switched off"}
"""


def shell(folder, config, *command, **keywords):
    file = folder / "exporter.yaml"
    file.write_text(config)
    variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    arguments = [JMP, "shell", "--exporter-config", file, "--", *command]
    return subprocess.run(arguments, capture_output=True, text=True, env=variables, timeout=120, **keywords)


def test_j_in_a_shell_and_its_exit_code(tmp_path):
    done = shell(tmp_path, CONFIG, "sh", "-c", "j power on && echo $JUMPSTARTER_HOST && exit 7")
    assert done.returncode == 7, done.stderr
    assert not pathlib.Path(done.stdout.strip().splitlines()[-1]).exists()


def test_python_in_a_shell(tmp_path):
    script = "from jumpstarter.utils.env import env\nwith env() as client: client.power.on(); print('on')"
    done = shell(tmp_path, CONFIG, "python", "-c", script)
    assert (done.returncode, done.stdout.strip()) == (0, "on"), done.stderr


def test_hooks_around_a_shell(tmp_path):
    done = shell(tmp_path, HOOKS, "echo", "between")
    assert (done.returncode, done.stdout.strip()) == (0, "between"), done.stderr
    lines = [line for line in done.stderr.splitlines() if "switched" in line or "before" in line]
    # After the time and the severity.
    assert [line.split(maxsplit=2)[2] for line in lines] == ["before standalone", "switched on", "switched off"]


@pytest.mark.parametrize("failure", ["warn", "endLease", "exit"])
def test_failing_hooks(tmp_path, failure):
    config = CONFIG + f"\nhooks:\n  beforeLease: {{script: 'echo no; exit 3', onFailure: {failure}}}\n"
    done = shell(tmp_path, config, "echo", "ran")
    assert ("ran" in done.stdout) == (failure == "warn"), done.stderr
    assert (done.returncode == 0) == (failure == "warn"), done.stderr
    assert "the beforeLease hook failed" in done.stderr


def test_a_hook_that_takes_too_long_is_ended(tmp_path):
    config = CONFIG + "\nhooks:\n  beforeLease: {script: 'sleep 1000', timeout: 1, onFailure: exit}\n"
    done = shell(tmp_path, config, "echo", "ran")
    assert done.returncode == 1 and "did not end within 1 s" in done.stderr


@pytest.fixture
def hooked(tmp_path, authority, monkeypatch):
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    running = serve("tcp", tmp_path, authority, HOOKS)
    yield running
    if running.exporter.process.poll() is None:
        running.exporter.stop()


def test_states_and_logs_with_hooks(hooked, authority):
    import grpc
    from google.protobuf import empty_pb2
    from jumpstarter_protocol import jumpstarter_pb2, jumpstarter_pb2_grpc

    with grpc.insecure_channel(hooked.host) as channel:
        stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
        status = lambda: stub.GetStatus(jumpstarter_pb2.GetStatusRequest()).status  # noqa: E731
        until(lambda: status() == 4)  # LEASE_READY
        stream = stub.LogStream(empty_pb2.Empty())
        # What the hook said before anybody listened is kept.
        record = next(record for record in stream if record.message == "switched on")
        assert record.source == 2 and record.severity == "INFO"
        # The end of a session runs no hook, as in the exporter in Python; here the next one can begin.
        assert stub.EndSession(jumpstarter_pb2.EndSessionRequest()).success
        assert status() == 2  # AVAILABLE
        until(lambda: status() == 4)
        hooked.exporter.process.send_signal(signal.SIGTERM)
        record = next(record for record in stream if record.message == "switched off")
        assert record.source == 3 and record.severity == "INFO"
    assert hooked.exporter.process.wait(60) == 0


def test_the_python_shell_connects(hooked):
    jmp = BIN / "jmp"
    command = [jmp, "shell", "--tls-grpc", hooked.host, "--tls-grpc-insecure", "--", "j", "power", "on"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_our_remote_shell(hooked):
    variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = [JMP, "shell", "--tls-grpc", hooked.host, "--tls-grpc-insecure", "--", "j", "power", "on"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr


def test_shutdown_ends_calls_clearly(tmp_path, authority):
    from anyio import BrokenResourceError

    running = serve("unix", tmp_path, authority)
    with connected(running, authority) as client, client.echo.stream() as stream:
        stream.send(b"hello")
        assert stream.receive() == b"hello"
        running.exporter.stop()
        with pytest.raises(BrokenResourceError):
            stream.receive()
    assert not (tmp_path / "exporter.sock").exists()


def test_a_killed_exporter_leaves_a_socket_that_the_next_replaces(tmp_path, authority):
    running = serve("unix", tmp_path, authority)
    running.exporter.process.send_signal(signal.SIGKILL)
    running.exporter.process.wait()
    running.exporter.process.stdout.close()
    again = serve("unix", tmp_path, authority)
    with connected(again, authority) as client:
        client.power.on()
    again.exporter.stop()
