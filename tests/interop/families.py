"""Writes crates/driver-core/src/families.rs: the client classes of upstream's drivers by interface.

    pip install jumpstarter-all==0.9.0   # and the drivers that it leaves out, such as jumpstarter-driver-snmp
    python tests/interop/families.py > crates/driver-core/src/families.rs

A class belongs to an interface if it derives from the interface's client class, and if every driver that names it
exports the methods of the interface. (Some clients do the work themselves: their driver exports nothing to flash.)
"""

import importlib
import pkgutil
import sys

from jumpstarter.driver import Driver
from jumpstarter.driver.decorators import MARKER_DRIVERCALL, MARKER_STREAMCALL, MARKER_STREAMING_DRIVERCALL

FAMILIES = {
    "flasher": (["jumpstarter.client.flasher.FlasherClient", "jumpstarter_driver_opendal.client.FlasherClient"], {"flash", "dump"}),
    "network": (["jumpstarter_driver_network.client.NetworkClient"], {"connect"}),
    "power": (["jumpstarter_driver_power.client.PowerClient"], {"on", "off"}),
    "serial": (["jumpstarter_driver_pyserial.client.PySerialClient"], {"connect"}),
    "storage": (["jumpstarter_driver_opendal.client.OpendalClient"], {"open", "file_read", "file_write", "list"}),
    "storage_mux": (["jumpstarter_driver_opendal.client.StorageMuxClient"], {"host", "dut", "off", "write", "read"}),
    "video": (["jumpstarter_driver_ustreamer.client.UStreamerClient"], {"snapshot", "state", "connect"}),
}
MARKERS = (MARKER_DRIVERCALL, MARKER_STREAMCALL, MARKER_STREAMING_DRIVERCALL)


def modules():
    for package in pkgutil.iter_modules():
        if not package.name.startswith("jumpstarter_driver_"):
            continue
        for module in pkgutil.iter_modules(importlib.import_module(package.name).__path__):
            if not module.name.endswith("_test") and module.name != "conftest":
                try:
                    importlib.import_module(f"{package.name}.{module.name}")
                except ImportError as error:
                    print(f"{package.name}.{module.name}: {error}", file=sys.stderr)


def subclasses(kind):
    for subclass in kind.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def families():
    """Pairs of an interface and a client class."""
    modules()
    exported, failed = set(), set()
    for driver in set(subclasses(Driver)):
        try:
            client = driver.client()
            module, name = client.rsplit(".", 1)
            bases = {f"{base.__module__}.{base.__name__}" for base in getattr(importlib.import_module(module), name).__mro__}
        except (AttributeError, NotImplementedError, TypeError, ImportError):
            continue  # a base class of drivers
        methods = {name for name in dir(driver) if any(hasattr(getattr(driver, name, None), marker) for marker in MARKERS)}
        for interface, (clients, wanted) in FAMILIES.items():
            if bases & set(clients):
                (exported if wanted <= methods else failed).add((interface, client))
    return sorted(exported - failed)


if __name__ == "__main__":
    print("//! The client classes of upstream's drivers by interface. Written by `tests/interop/families.py`.\n")
    print("/// An interface's name and a client class.")
    print("pub(crate) const FAMILIES: &[(&str, &str)] = &[")
    for interface, client in families():
        print(f'    ("{interface}", "{client}"),')
    print("];")
