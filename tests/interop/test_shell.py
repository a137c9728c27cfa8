"""The `shell` driver under its Python client: methods of the exporter file."""

import subprocess

import pytest
from conftest import connected, serve

CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: interop}
export:
  sh:
    type: jumpstarter_driver_shell.driver.Shell
    config:
      methods:
        greet: {command: 'echo "hello $1 $MOOD"', description: Greets somebody}
        multi_line: "echo $1\\necho $2\\necho $3"
        fail: {command: 'echo oh >&2; exit 42'}
        default: {description: Says hello}
        slow: {command: sleep 1000, timeout: 1}
      cwd: /
      timeout: 60
      shell: [bash, -c]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory, authority):
    running = serve("unix", tmp_path_factory.mktemp("shell"), authority, CONFIG)
    yield running
    running.exporter.stop()


@pytest.fixture
def sh(served, authority):
    with connected(served, authority) as client:
        yield client.sh


def test_methods_are_those_of_the_file(sh):
    assert sh.call("get_methods") == ["default", "fail", "greet", "multi_line", "slow"]
    assert sh.methods_description == {"greet": "Greets somebody", "default": "Says hello"}
    with pytest.raises(AttributeError, match="method unknown not found in"):
        sh.unknown()


def test_output_is_streamed_and_the_exit_code_is_the_clients(sh, capfd):
    assert sh.greet("world", MOOD="gladly") == 0
    assert sh.multi_line("a", "b", "c") == 0
    assert sh.fail() == 42
    assert sh.default() == 0
    output = capfd.readouterr()
    assert output.out == "hello world gladly\na\nb\nc\nHello\n"
    assert output.err == "oh\n"


def test_a_method_that_takes_too_long(sh, capfd):
    assert sh.slow() == 199
    assert "Timeout expired while running slow" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "HOME", "BASH_ENV", "BASH_FUNC_x", "KUBECONFIG", "PYTHONPATH"])
def test_variables_that_choose_programs_are_refused(sh, name):
    from jumpstarter.client.core import DriverInvalidArgument

    with pytest.raises(DriverInvalidArgument, match="blocked for security reasons"):
        sh.greet("world", **{name: "x"})


def test_methods_are_commands(served):
    assert "Greets somebody" in served.j("sh", "--help")
    assert served.j("sh", "greet", "-e", "MOOD=too", "you") == "hello you too\n"
    command, variables = served.command("sh", "fail")
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120)
    # Its exit code is not looked at: this command line ends with 0, whichever exporter it is connected to.
    assert (done.stdout, done.stderr) == ("", "oh\n")
