"""What the book and the templates print for Python: as a reader types it."""

import importlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import types

import pytest
from click.testing import CliRunner
from conftest import BIN, JMP, Exporter

ROOT = pathlib.Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs/author/tutorial.md").read_text().split("## 7. From Python")[1]
DEVICE = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: lab}
export:
  device: {type: mock-power}
"""


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", TUTORIAL, re.DOTALL)


def commands():
    lines = "".join(blocks("console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def test_the_packages_of_the_tutorial_are_those_that_are_tested():
    installs = [line for line in commands() if line.startswith("pip install ")]
    wanted = set(installs[0].split()[2:])
    lines = pathlib.Path(__file__).with_name("requirements.txt").read_text().splitlines()
    tested = {re.split("[=>]", line)[0] for line in lines}
    assert len(installs) == 1 and wanted <= tested
    # What the clients of the tutorial's device are made of.
    assert {"jumpstarter-driver-composite", "jumpstarter-driver-power", "jumpstarter-testing", "pytest"} <= wanted


def test_the_python_lines_of_the_tutorial(tmp_path):
    (block,) = blocks("python")
    (tmp_path / "test_relay.py").write_text(block)
    exporter = Exporter(tmp_path, DEVICE, "--tls-grpc-listener", "127.0.0.1:0", "--tls-grpc-insecure")
    try:
        lines = [line for line in commands() if line.startswith("jmp ")]
        assert len(lines) == 2, lines
        for line in lines:
            words = shlex.split(line.replace("127.0.0.1:1234", exporter.host("tcp://")))
            variables = {**os.environ, "PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)}
            done = subprocess.run(
                [BIN / words[0], *words[1:]], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        assert "1 passed" in done.stdout, done.stdout
    finally:
        exporter.stop()


@pytest.mark.parametrize(
    "words, printed", [(["set-brightness", "80"], "50\n"), (["brightness"], "80\n"), (["--help"], "Dims a lamp.")]
)
def test_the_python_client_of_a_new_interface(tmp_path, monkeypatch, words, printed):
    new = [JMP, "new", "driver", "acme-lamp", "--interface", "own"]
    subprocess.run(new, cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.syspath_prepend(tmp_path / "acme-lamp/python")
    module = importlib.import_module("jumpstarter_driver_acme_lamp.client")
    calls = {"set_brightness": 50, "brightness": 80}
    client = types.SimpleNamespace(description=None, methods_description={}, call=lambda name, *_: calls[name])
    for name in calls:
        method = getattr(module.AcmeLampClient, name)
        setattr(client, name, types.MethodType(method, client))
    outcome = CliRunner().invoke(module.AcmeLampClient.cli(client), words)
    assert outcome.exit_code == 0 and printed in outcome.output, outcome.output
    sys.modules.pop("jumpstarter_driver_acme_lamp.client")
