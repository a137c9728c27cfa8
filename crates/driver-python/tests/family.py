"""Drivers of the tests whose client classes derive from those of the packages."""

from jumpstarter.driver import Driver
from jumpstarter_driver_network.client import NetworkClient
from jumpstarter_driver_network.driver import EchoNetwork
from jumpstarter_driver_opendal.client import FlasherClient, StorageMuxFlasherClient
from jumpstarter_driver_opendal.driver import MockFlasher, MockStorageMuxFlasher
from jumpstarter_driver_power.client import PowerClient
from jumpstarter_driver_power.driver import MockPower
from jumpstarter_driver_pyserial.client import PySerialClient
from jumpstarter_driver_pyserial.driver import PySerial


class OwnBase(PowerClient):
    pass


class OwnPowerClient(OwnBase):
    pass


class OwnNetworkClient(NetworkClient):
    pass


class OwnFlasherClient(FlasherClient):
    pass


class OwnSerialClient(PySerialClient):
    pass


class OwnMuxClient(StorageMuxFlasherClient):
    pass


class OwnPower(MockPower):
    @classmethod
    def client(cls):
        return "family.OwnPowerClient"


class OwnNetwork(EchoNetwork):
    @classmethod
    def client(cls):
        return "family.OwnNetworkClient"


class OwnFlasher(MockFlasher):
    @classmethod
    def client(cls):
        return "family.OwnFlasherClient"


class OwnSerial(PySerial):
    @classmethod
    def client(cls):
        return "family.OwnSerialClient"


class OwnMux(MockStorageMuxFlasher):
    @classmethod
    def client(cls):
        return "family.OwnMuxClient"


class WithoutMethods(Driver):
    """Its client does the work itself."""

    @classmethod
    def client(cls):
        return "family.OwnPowerClient"
