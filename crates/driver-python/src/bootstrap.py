"""Hosts Jumpstarter drivers for an exporter of another language.

`serve FD REPORT FOLDER CLIENTS [MODULE…]` imports Jumpstarter and the modules, writes to
REPORT which files these are, and forks one process for each driver that the exporter asks for on the
socket FD: `fork NUMBER`, with a socket and a pipe. `kill NUMBER` ends one. CLIENTS are the client
classes that the exporter knows, separated by commas. Such a process reads what it hosts from its
socket, serves it with Jumpstarter's own session on a Unix socket, and ends when the exporter closes
its end. Its output and its log go to the pipe.

`look FOLDER CLASS…` says which of the classes there are, and which fields they take.

All messages are JSON, one a line. The exporter runs this as SOURCE of a program of one line.
"""

import importlib
import itertools
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
        self.last = None
        self.begin()

    def begin(self):
        # The kernel's times of files are those of its last tick.
        self.began = time.time_ns() - 10_000_000

    def new(self):
        """Those since the last time, and since when they may have been read."""
        names = newest(self.last)
        if names:
            self.last = names[0]
        files = (getattr(sys.modules.get(name), "__file__", None) for name in names)
        return {"began": self.began, "modules": [file for file in files if file]}


def newest(last):
    """The names of the modules that were loaded after `last`, and no more: each one that is touched
    costs a process a page that it shared."""
    while True:
        try:
            return list(itertools.takewhile(lambda name: name != last, reversed(sys.modules)))
        except RuntimeError:  # a thread imports meanwhile
            pass


loaded = Loaded()


# --- the process that forks ---------------------------------------------------------------------


def serve(number, report, folder, clients, *modules):
    use_folder(folder)
    known_clients.update(clients.split(","))
    server = socket.socket(fileno=int(number))
    unfit = warm(modules)
    if unfit:
        fit = [module for module in modules if module not in unfit]
        os.set_inheritable(server.fileno(), True)
        os.execv(sys.executable, [sys.executable, "-c", SOURCE, "serve", number, report, folder, clients, *fit])
    with open(int(report), "w") as report:
        files = loaded.new()
        files["modules"].append(sys.executable)
        print(json.dumps(files), file=report)
    keep_standard_streams()
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    children = {}  # the process id and the control socket of each, by number
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
        for command in message.splitlines():
            verb, number = command.split()
            if verb == b"fork":
                control = socket.socket(fileno=descriptors.pop(0))
                output = descriptors.pop(0)
                child = os.fork()
                if child == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, before)
                    os.setpgid(0, 0)
                    for other in (server, woken, waker, *(other for _, other in children.values())):
                        other.close()
                    leave(host(control, output))
                os.close(output)
                children[number] = child, control
            elif number in children:
                end_group(children[number][0])


def warm(modules):
    """What every process needs is imported, and shared, before it is forked.

    A fork has no threads: returns the modules that start some, which each process imports itself.
    """
    import gc

    # Collecting garbage meanwhile finds none, and takes a tenth of the time.
    gc.disable()
    unfit = []
    for module in BASE + list(modules):
        threads = count_threads()
        try:
            warm_clients(importlib.import_module(module))
        except BaseException:  # the process that needs it says so
            pass
        if module in modules and count_threads() > threads:
            unfit.append(module)
    gc.freeze()
    gc.enable()
    return unfit


def count_threads():
    return len(os.listdir("/proc/self/task"))


BASE = [
    "jumpstarter.exporter",
    "jumpstarter.config.exporter",
    "jumpstarter_driver_composite.driver",
    "anyio._backends._asyncio",
    "grpc.aio",
]


def keep_standard_streams():
    """A module may have closed them: what is opened next must not have their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def reap(children):
    for number, (child, control) in list(children.items()):
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            continue
        del children[number]
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
        except (AttributeError, OSError, ValueError):  # a driver may do what it likes with them
            pass
    os._exit(code)


def host(control, output):
    """Serves until the exporter closes its end of `control`; the exit code."""
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(output, stream)
        text = open(stream, "w", buffering=1, errors="backslashreplace", closefd=False)
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    loaded.begin()
    wanted = receive(control)
    if wanted is None:
        return 0
    write_log(output, wanted["log_level"])
    try:
        import jumpstarter.driver

        import anyio

        anyio.run(serve_drivers, control, wanted)
        return 0
    except BaseException as error:
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        import traceback

        traceback.print_tb(error.__traceback__)
        print("%s: %s" % (type(error).__name__, describe(error)), file=sys.stderr)
        try:
            send(control, **failure(error))
        except OSError:
            pass
        return 1


# What begins a line that is a record of the log: its level and its message follow, as JSON.
RECORD = "\x1e"


def write_log(output, level):
    import logging

    class Records(logging.Handler):
        def emit(self, record):
            try:
                message = record.getMessage()[:8000]
                text = json.dumps([record.levelname, message], ensure_ascii=False)
                os.write(output, f"{RECORD}{text}\n".encode(errors="replace"))
            except Exception:
                self.handleError(record)

    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(Records())


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


def failure(error):
    """A driver that is not made, and why: the module that is missing, if that is the reason."""
    missing = error
    while missing is not None and type(missing).__name__ != "MissingDriverError":
        missing = missing.__cause__ or missing.__context__
    if missing is None or missing.__cause__ is None:
        found = {"failed": describe(error), "kind": kind(error)}
    else:
        # Jumpstarter names the driver only.
        error, name = missing.__cause__, getattr(missing, "class_path", "the driver")
        found = {"failed": f"`{name}` cannot be imported: {describe(error)}", "kind": "not_found"}
    return {**found, "missing": missing_module(error)}


def missing_module(error):
    return error.name if isinstance(error, ModuleNotFoundError) else None


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
        session.update_status(ExporterStatus.LEASE_READY)
        async with session.serve_port_async("unix:" + wanted["socket"]):
            ready = {"ready": True, **loaded.new()}
            await loop.sock_sendall(control, json.dumps(ready).encode() + b"\n")
            pending = b""
            while piece := await loop.sock_recv(control, 65536):
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    asked = json.loads(line)
                    answer = {**reset(root, asked["reset"]), "number": asked["number"]}
                    await loop.sock_sendall(control, json.dumps(answer).encode() + b"\n")


def reset(root, path):
    try:
        if path is not None:
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
    with open(answers, "w") as answers:
        json.dump(answer, answers)
    leave(0)


def look_at(name):
    module, _, attribute = name.rpartition(".")
    if sys.version_info < (3, 11):
        return {"fault": "python"}
    try:
        import jumpstarter.driver
    except ImportError as error:
        return {"fault": "jumpstarter", "text": str(error)}
    try:
        loaded = importlib.import_module(module)
    except BaseException as error:
        missing = missing_module(error)
        own = missing and (module == missing or module.startswith(f"{missing}."))
        return {"fault": "package" if own else "import", "text": describe(error), "missing": missing}
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
