"""Runs a Python command line with a client certificate, for which it has no option.

with_certificate.py FOLDER MODULE FUNCTION ARGUMENTS…: FOLDER has `ca.pem`, `client.pem` and `client.key`.
"""

import importlib
import pathlib
import sys

import grpc


def present(folder):
    """Lets every TLS channel of this process present the certificate; answers what there was before."""
    before = grpc.ssl_channel_credentials
    files = [(folder / name).read_bytes() for name in ["ca.pem", "client.key", "client.pem"]]
    grpc.ssl_channel_credentials = lambda *_, **__: before(*files)
    return before


if __name__ == "__main__":
    _, folder, module, function, *arguments = sys.argv
    present(pathlib.Path(folder))
    sys.argv = [function, *arguments]
    sys.exit(getattr(importlib.import_module(module), function)())
