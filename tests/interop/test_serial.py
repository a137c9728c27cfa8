"""A serial port with a device behind it, which here is the test."""

import subprocess

import pexpect
import pytest
from conftest import until


@pytest.fixture
def device(served):
    # What an earlier test did not read is no part of this one.
    served.endpoints.serial.discard()
    return served.endpoints.serial


def test_pexpect(client, device):
    with client.tty.pexpect() as serial:
        serial.sendline("root")
        assert device.read_until(b"root\n").endswith(b"root\n")
        device.write(b"Password: \xff")
        serial.expect("Password: ", timeout=60)


def test_a_console_on_a_terminal(served, device):
    command, variables = served.command("tty", "start-console")
    console = pexpect.spawn(command[0], command[1:], env=variables, timeout=60)
    try:
        console.expect_exact("CTRL+B x 3 times")
        # The terminal is raw only after these words: until then it would turn what is typed here into an echo and a line.
        device.write(b"login: ")
        console.expect_exact("login: ")
        console.send("root\r")
        device.read_until(b"root\r")
        console.send("\x02\x02\x02")
        console.expect(pexpect.EOF)
        console.wait()
        assert console.exitstatus == 0
    finally:
        console.close(force=True)


def test_a_pipe_into_the_port(served, device, tmp_path):
    lines = b"reboot\n" * 1000
    commands = tmp_path / "commands.txt"
    commands.write_bytes(lines)
    with open(commands, "rb") as stdin, served.j_running("tty", "pipe", "--no-output", stdin=stdin) as piping:
        # The client ends its direction twice. With a passphrase gRPC's interceptors stand in between, and the second end
        # may wait for ever behind the first, whichever exporter it is connected to.
        if served.way != "passphrase":
            # It does not wait for the port, which takes only a part before somebody reads.
            assert piping.wait(timeout=120) == 0
        assert device.read_until(lines) == lines


def test_a_pipe_out_of_the_port_into_a_file(served, device, tmp_path):
    log = tmp_path / "serial.log"
    with served.j_running("tty", "pipe", "--no-input", "-o", log):
        until(log.exists, 120)
        device.write(b"booted\n")
        until(lambda: log.read_bytes() == b"booted\n")


def test_a_pipe_both_ways(served, device):
    command, variables = served.command("tty", "pipe")
    piped = subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        # The client sends what it read once it has read it all; the port's output goes on afterwards.
        piped.stdin.write(b"uname\n")
        piped.stdin.close()
        device.read_until(b"uname\n")
        device.write(b"Linux\n")
        assert piped.stdout.readline() == b"Linux\n"
    finally:
        piped.kill()
        piped.wait()
        piped.stdout.close()
