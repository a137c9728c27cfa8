"""Hosts Jumpstarter drivers for an exporter of another language.

`python - serve FD FOLDER CLIENTS [MODULE…]` imports Jumpstarter and the modules, and forks one
process for each driver that the exporter asks for on the socket FD. CLIENTS are the client classes
that the exporter knows, separated by commas. Such a process reads what it hosts from a
socket of its own, serves it with Jumpstarter's own session on a Unix socket, and ends when the
exporter closes its end.

`python - look FOLDER CLASS…` says which of the classes there are, and which fields they take.

All messages are JSON, one a line.
"""

import importlib
import json
import os
import signal
import socket
import sys
import time


def send(control, **message):
    control.sendall(json.dumps(message).encode() + b"\n")


def receive(control):
    """One message, waiting for it; None at the end."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = control.recv(65536)
        if not piece:
            return None
        line += piece
    return json.loads(line)


def use_folder(folder):
    """Finds modules beside the exporter file, after all others."""
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    if folder and folder not in sys.path:
        sys.path.append(folder)


class Loaded:
    """The files of the modules that a process has loaded."""

    def __init__(self):
        self.files = {}  # with what marks a change
        self.began = time.time_ns()

    def note(self):
        """Adds those that are new. One that was written meanwhile counts as changed."""
        modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        for path in (sys.executable, *modules):
            if path and path not in self.files:
                mark = mark_of(path)
                self.files[path] = mark if mark is None or mark[0] < self.began else ()

    def have_changed(self):
        return any(mark_of(path) != mark for path, mark in self.files.items())


def mark_of(path):
    try:
        data = os.stat(path)
        return data.st_mtime_ns, data.st_size, data.st_ino
    except OSError:
        return None


loaded = Loaded()


# --- the process that forks ---------------------------------------------------------------------


def serve(number, folder, clients, *modules):
    use_folder(folder)
    known_clients.update(clients.split(","))
    server = socket.socket(fileno=int(number))
    warm(modules)
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children = {}  # the control socket of each, by process id
    import select

    while True:
        readable, _, _ = select.select([server, woken], [], [])
        if woken in readable:
            try:
                woken.recv(4096)
            except BlockingIOError:
                pass
            reap(children)
        if server not in readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(server, 4096, 2)
        if not message:
            return
        for command in message.split():
            if command == b"fork":
                control = socket.socket(fileno=descriptors.pop(0))
                output = descriptors.pop(0)
                if loaded.have_changed():
                    send(control, changed=True)
                    control.close()
                    os.close(output)
                    continue
                child = os.fork()
                if child == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.setpgid(0, 0)
                    for other in (server, woken, waker, *children.values()):
                        other.close()
                    leave(host(control, output))
                os.close(output)
                children[child] = control
                try:
                    send(control, pid=child)
                except OSError:
                    pass
            elif command.isdigit() and int(command) in children:
                end_group(int(command))


def warm(modules):
    """What every process needs is imported, and shared, before it is forked."""
    for module in BASE + list(modules):
        try:
            warm_clients(importlib.import_module(module))
        except Exception:  # who needs it says so
            pass
    loaded.note()
    import gc

    gc.collect()
    gc.freeze()


BASE = [
    "jumpstarter.exporter",
    "jumpstarter.config.exporter",
    "jumpstarter_driver_composite.driver",
    "anyio._backends._asyncio",
    "grpc.aio",
]


def reap(children):
    while children:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            return
        control = children.pop(child, None)
        if control is None:
            continue
        end_group(child)
        try:
            send(control, exit=os.waitstatus_to_exitcode(status))
        except OSError:
            pass
        control.close()


def end_group(child):
    try:
        os.killpg(child, signal.SIGKILL)
    except OSError:
        pass


# --- a process that hosts -----------------------------------------------------------------------


def leave(code):
    """Ends without waiting for threads, which may hang in a driver, and without taking the heap apart."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass
    os._exit(code)


def host(control, output):
    """Serves until the exporter closes its end of `control`; the exit code."""
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    sys.stdout.reconfigure(line_buffering=True)
    loaded.began = time.time_ns()
    wanted = receive(control)
    if wanted is None:
        return 0
    try:
        import anyio

        import logging

        logging.getLogger().setLevel(wanted["log_level"])
        anyio.run(serve_drivers, control, wanted)
        return 0
    except BaseException as error:
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        import traceback

        traceback.print_tb(error.__traceback__)
        print("%s: %s" % (type(error).__name__, describe(error)), file=sys.stderr)
        try:
            send(control, failed=describe(error), kind=kind(error))
        except OSError:
            pass
        return 1


def text_of(error):
    """The error's text; of a validation without the values, which may be secrets."""
    if hasattr(error, "errors") and hasattr(error, "error_count"):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join("%s: %s" % (".".join(map(str, one["loc"])), one["msg"]) for one in found)
    return str(error) or type(error).__name__


def describe(error):
    texts = []
    while error is not None:
        text = text_of(error)
        if text not in texts:
            texts.append(text)
        error = error.__cause__
    return ": ".join(texts)


def kind(error):
    name = type(error).__name__
    if isinstance(error, ModuleNotFoundError) or name in ("MissingDriverError", "ConfigurationError"):
        return "not_found"
    if isinstance(error, NotImplementedError):
        return "unimplemented"
    if isinstance(error, (ValueError, TypeError)):
        return "invalid_argument"
    if isinstance(error, TimeoutError):
        return "deadline_exceeded"
    if isinstance(error, PermissionError):
        return "permission_denied"
    if isinstance(error, (ConnectionError, FileNotFoundError)):
        return "unavailable"
    return "internal"


async def serve_drivers(control, wanted):
    import asyncio

    from jumpstarter.common import ExporterStatus
    from jumpstarter.config.exporter import ExporterConfigV1Alpha1DriverInstance as Instance
    from jumpstarter.exporter import Session

    root = Instance.model_validate({"children": wanted["tree"]}).instantiate()
    control.setblocking(False)
    loop = asyncio.get_running_loop()
    with Session(root_device=root) as session:
        for driver in session.mapping.values():
            add_client_bases(driver)
        loaded.note()
        session.update_status(ExporterStatus.LEASE_READY)
        async with session.serve_port_async("unix:" + wanted["socket"]):
            await loop.sock_sendall(
                control, json.dumps({"ready": True}).encode() + b"\n"
            )
            pending = b""
            while piece := await loop.sock_recv(control, 65536):
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    asked = json.loads(line)
                    answer = {**reset(root, asked["reset"]), "number": asked["number"]}
                    await loop.sock_sendall(control, json.dumps(answer).encode() + b"\n")


def reset(root, path):
    if loaded.have_changed():
        return {"changed": True}
    if path is None:
        return {"done": True}
    try:
        driver = root
        for name in path.split("."):
            driver = driver.children[name]
        driver.reset()
        return {"done": True}
    except Exception as error:
        return {"failed": describe(error), "kind": kind(error)}


# --- clients ------------------------------------------------------------------------------------

# A label with the base classes of a client class, which clients in Python pass over.
CLIENT_BASES = "jumpstarter.dev/client-bases"

# The methods that drivers have for clients of these classes. A client class that does the work
# itself may have a driver without them.
NEEDED = {
    "jumpstarter.client.flasher.FlasherClient": {"flash", "dump"},
    "jumpstarter_driver_network.client.NetworkClient": {"connect"},
    "jumpstarter_driver_opendal.client.FlasherClient": {"flash", "dump"},
    "jumpstarter_driver_opendal.client.StorageMuxClient": {"host", "dut", "off", "write", "read"},
    "jumpstarter_driver_opendal.client.StorageMuxFlasherClient": {"host", "dut", "off", "write", "read"},
    "jumpstarter_driver_power.client.PowerClient": {"on", "off"},
    "jumpstarter_driver_pyserial.client.PySerialClient": {"connect"},
}


known_clients = set()


def warm_clients(module):
    """Imports the client classes of the module's drivers that the exporter does not know."""
    from jumpstarter.driver import Driver

    for found in list(vars(module).values()):
        if isinstance(found, type) and issubclass(found, Driver) and found.__module__ == module.__name__:
            bases_of(found.client())


def bases_of(client):
    """The base classes of a client class; none if the exporter knows it, or it is not here."""
    if not client or client in known_clients:
        return ()
    try:
        import jumpstarter.client

        module, _, name = client.rpartition(".")
        return getattr(importlib.import_module(module), name).__mro__[1:]
    except Exception:  # its own packages may be elsewhere
        return ()


def add_client_bases(driver):
    """Labels a driver with the bases of its client class, unless the exporter knows the class."""
    bases = bases_of(driver.client())
    if not bases:
        return
    from jumpstarter.client import DriverClient

    names = [
        f"{base.__module__}.{base.__qualname__}"
        for base in bases
        if issubclass(base, DriverClient) and base is not DriverClient
    ]
    fit = [name for name in names if all(exports(driver, one) for one in NEEDED.get(name, ()))]
    if fit:
        driver.labels = {**driver.labels, CLIENT_BASES: ",".join(fit)}


def exports(driver, method):
    from jumpstarter.driver import decorators

    kinds = ("MARKER_DRIVERCALL", "MARKER_STREAMCALL", "MARKER_STREAMING_DRIVERCALL")
    found = getattr(driver, method, None)
    return any(hasattr(found, getattr(decorators, kind)) for kind in kinds)


# --- what there is ------------------------------------------------------------------------------


def look(folder, *names):
    use_folder(folder)
    # What modules print goes elsewhere.
    answers = os.dup(1)
    os.dup2(2, 1)
    classes = [look_at(name) for name in names]
    loaded = [getattr(sys.modules.get(name.rpartition(".")[0]), "__file__", None) for name in names]
    places = [path for path in (sys.executable, *sys.path, *loaded) if path]
    answer = {"version": "%d.%d" % sys.version_info[:2], "classes": classes, "places": places}
    os.write(answers, json.dumps(answer).encode())


def look_at(name):
    module, _, attribute = name.rpartition(".")
    if sys.version_info < (3, 11):
        return {"fault": "python"}
    try:
        import jumpstarter.driver
    except ImportError as error:
        return {"fault": "package", "text": str(error)}
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        own = module == error.name or module.startswith(f"{error.name}.")
        return {"fault": "package" if own else "import", "text": str(error)}
    except Exception as error:
        return {"fault": "import", "text": describe(error)}
    found = getattr(loaded, attribute, None)
    classes = [
        key
        for key, value in vars(loaded).items()
        if isinstance(value, type) and issubclass(value, jumpstarter.driver.Driver)
        and value.__module__ == loaded.__name__
    ]
    if found is None:
        return {"fault": "class", "classes": classes}
    if not (isinstance(found, type) and issubclass(found, jumpstarter.driver.Driver)):
        return {"fault": "driver", "classes": classes}
    import dataclasses

    fields = {}
    if dataclasses.is_dataclass(found):
        missing = dataclasses.MISSING
        for field in dataclasses.fields(found):
            if field.init:
                given = field.default is missing and field.default_factory is missing
                fields[field.name] = given
    return {"fields": fields}


if __name__ == "__main__":
    # The name of what is asked for, then its arguments.
    {"serve": serve, "look": look}[sys.argv[1]](*sys.argv[2:])
