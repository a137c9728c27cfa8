"""A driver of the tests: whatever a driver may do."""

import asyncio
import os
import pathlib
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import field

import anyio
from anyio.abc import AnyByteStream
from pydantic.dataclasses import dataclass

from jumpstarter.driver import Driver, export, exportstream


@dataclass(kw_only=True)
class Lab(Driver):
    greeting: str = "hello"
    marks: str | None = None
    pin: int = 0
    image: bytes = field(default=b"", init=False)
    resets: int = field(default=0, init=False)

    def __post_init__(self):
        if hasattr(super(), "__post_init__"):
            super().__post_init__()
        if self.greeting == "broken":
            raise ValueError("no lab greets so")

    @classmethod
    def client(cls) -> str:
        return "lab_driver.LabClient"

    def extra_labels(self):
        return {"lab/greeting": self.greeting}

    def reset(self):
        self.resets += 1
        super().reset()

    def close(self):
        if self.marks:
            pathlib.Path(self.marks).write_text(f"{self.greeting} closed")
        super().close()

    @export
    def greet(self, name: str, *others) -> str:
        self.logger.info("greeting %s", name)
        return " ".join([self.greeting, name, *others])

    @export
    def same(self, value):
        return value

    @export
    def how_often_reset(self) -> int:
        return self.resets

    @export
    def pid(self) -> int:
        return os.getpid()

    @export
    def fail(self, how: str):
        raise {
            "value": ValueError("a wrong value"),
            "missing": NotImplementedError("not here"),
            "late": TimeoutError("too late"),
            "other": RuntimeError("whatever"),
        }[how]

    @export
    def die(self):
        print("the smoke is out", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    @export
    def sleep(self, seconds: float):
        time.sleep(seconds)

    @export
    async def hang(self):
        # Nothing else of this process goes on.
        time.sleep(1000)

    @export
    async def count(self, to: int):
        for number in range(int(to)):
            yield {"number": number}

    @exportstream
    @asynccontextmanager
    async def connect(self):
        near, far = anyio.create_memory_object_stream[bytes](32), anyio.create_memory_object_stream[bytes](32)
        async with anyio.create_task_group() as tasks:

            async def echo():
                async with near[1], far[0]:
                    async for piece in near[1]:
                        await far[0].send(piece)

            tasks.start_soon(echo)
            async with anyio.streams.stapled.StapledObjectStream(near[0], far[1]) as stream:
                yield stream

    @export
    async def flash(self, source, target: str | None = None):
        pieces = []
        async with self.resource(source) as stream:
            async for piece in stream:
                pieces.append(piece)
        self.image = b"".join(pieces)

    @export
    async def dump(self, target, partition: str | None = None):
        async with self.resource(target) as stream:
            for start in range(0, len(self.image), 65536):
                await stream.send(self.image[start : start + 65536])


@dataclass(kw_only=True)
class Pair(Driver):
    """Uses two children, wherever they are."""

    @classmethod
    def client(cls) -> str:
        return "jumpstarter_driver_composite.client.CompositeClient"

    @export
    async def switch(self):
        await self.children["power"].on()
        return sorted(self.children)
