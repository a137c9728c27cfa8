"""Four byte streams at the same time, each a mebibyte there and back, and a stream of values."""

import anyio
from jumpstarter.utils.env import env

SIZE = 1 << 20
FRAME = 64 << 10


async def echo(client, number):
    sent = bytes((index * 7 + number) % 251 for index in range(SIZE))
    async with client.echo.stream_async(method="connect") as stream:

        async def send():
            for start in range(0, SIZE, FRAME):
                await stream.send(sent[start : start + FRAME])

        received = b""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            while len(received) < SIZE:
                received += await stream.receive()
        assert received == sent, f"stream {number} differs"


async def all_of_them(client):
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(echo, client, number)


with env() as client:
    client.portal.call(all_of_them, client)
    readings = [(reading.voltage, reading.current) for reading in client.power.read()]
    assert readings == [(0.0, 0.0), (5.0, 2.0)], readings
    print("same")
