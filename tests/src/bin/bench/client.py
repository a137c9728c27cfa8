"""One figure of an exporter as the Python client reaches it: one number, in calls or bytes a second.

client.py calls COUNT | echo BYTES | flash BYTES FILE [COMPRESSION]; JUMPSTARTER_HOST names the exporter.
"""

import sys
import time

import anyio
from jumpstarter.utils.env import env

FRAME = 64 * 1024


def calls(client, count):
    start = time.monotonic()
    for _ in range(count):
        client.power.on()
    return count / (time.monotonic() - start)


def echo(client, size):
    frames = size // FRAME

    async def send(stream):
        frame = b"\xa5" * FRAME
        for _ in range(frames):
            await stream.send(frame)

    async def both():
        async with client.echo.stream_async(method="connect") as stream:
            start = time.monotonic()
            received = 0
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send, stream)
                while received < frames * FRAME:
                    received += len(await stream.receive())
            return received / (time.monotonic() - start)

    return client.portal.call(both)


def flash(client, size, file, compression=None):
    start = time.monotonic()
    if compression:
        from jumpstarter.streams.encoding import Compression

        client.flasher.flash(file, compression=Compression(compression))
    else:
        client.flasher.flash(file)
    return size / (time.monotonic() - start)


with env() as client:
    kind = {"calls": calls, "echo": echo, "flash": flash}[sys.argv[1]]
    print(kind(client, int(sys.argv[2]), *sys.argv[3:]))
