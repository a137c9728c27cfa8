"""What a Python test gets for a driver of the type acme-lamp."""

import click
from jumpstarter.client import DriverClient
from jumpstarter.client.decorators import driver_click_group


class AcmeLampClient(DriverClient):
    """Dims a lamp."""

    def set_brightness(self, percent: int) -> int:
        """Sets the brightness in percent, and returns the previous one."""
        return int(self.call("set_brightness", percent))

    def brightness(self) -> int:
        """Returns the brightness in percent."""
        return int(self.call("brightness"))

    def cli(self):
        """The commands of Python's `j`."""

        @driver_click_group(self)
        def base():
            """Dims a lamp."""

        @base.command()
        @click.argument("percent", type=int)
        def set_brightness(percent):
            """Sets the brightness in percent, and prints the previous one."""
            click.echo(self.set_brightness(percent))

        @base.command()
        def brightness():
            """Prints the brightness in percent."""
            click.echo(self.brightness())

        return base
