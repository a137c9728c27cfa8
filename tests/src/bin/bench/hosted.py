"""Serves the device of an exporter file on a Unix socket, with nothing around it: what starting Python takes."""

import pathlib
import sys

import anyio
from jumpstarter.config.exporter import ExporterConfigV1Alpha1


async def serve(file):
    async with ExporterConfigV1Alpha1.load_path(pathlib.Path(file)).serve_unix_async():
        print("ready", flush=True)
        await anyio.sleep_forever()


anyio.run(serve, sys.argv[1])
