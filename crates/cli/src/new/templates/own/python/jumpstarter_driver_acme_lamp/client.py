"""What a Python test gets for a driver of the type acme-lamp."""

from jumpstarter.client import DriverClient


class AcmeLampClient(DriverClient):
    """Dims a lamp."""

    def set_brightness(self, percent: int) -> int:
        """Sets the brightness in percent, and returns the previous one."""
        return int(self.call("set_brightness", percent))

    def brightness(self) -> int:
        """Returns the brightness in percent."""
        return int(self.call("brightness"))
