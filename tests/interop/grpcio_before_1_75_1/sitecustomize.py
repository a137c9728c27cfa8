"""Lets Python programs end that would not with grpcio before 1.75.1. Python imports this file as it starts.

When such a program has channels that it did not free, the last of them ends gRPC's thread as the interpreter goes: it waits for
that thread, and now and then, for ever, although the thread is gone. With one user more than there are, nobody is the last.
"""

import atexit
import sys


@atexit.register
def leave_the_clean_up_out():
    if "grpc.aio" in sys.modules:
        import asyncio

        # A user is counted, and belongs to a loop.
        asyncio.set_event_loop(asyncio.new_event_loop())
        sys.modules["grpc.aio"].init_grpc_aio()
