"""Every driver that has a Python client, over every way to connect."""

import os
import pathlib

import pytest


def test_report(client):
    own = {"power", "echo", "serial", "flasher", "mux", "mux_flasher", "rack", "alias"}
    assert set(client.children) == own | {"tcp", "hidden", "udp", "unix", "vsock", "websocket", "bus", "nobody", "tty", "card"}
    assert client.children["alias"].uuid == client.children["rack"].children["power"].uuid
    assert client.power.description == "the switch"


def test_power(client):
    client.power.on()
    readings = client.power.read()
    reading = next(iter(readings))
    assert isinstance(reading.voltage, float) and isinstance(reading.current, float)
    client.power.off()
    client.rack.power.on()
    client.alias.off()


def test_unknown_method_and_wrong_arguments(client):
    from jumpstarter.client.core import DriverError, DriverInvalidArgument

    with pytest.raises(DriverError, match="there is no method `explode`"):
        client.power.call("explode")
    with pytest.raises(DriverInvalidArgument):
        client.power.call("on", 1, 2, 3)


def test_echo(client):
    with client.echo.stream() as stream:
        for size in [1, 1000, 65536, 300000]:
            sent = os.urandom(size)
            stream.send(sent)
            received = b""
            while len(received) < size:
                received += stream.receive()
            assert received == sent


def test_serial(client):
    with client.serial.pexpect() as serial:
        serial.sendline("hello")
        serial.expect("hello", timeout=30)


@pytest.mark.parametrize("size", [1, 70_000, 6_000_000])
@pytest.mark.parametrize("compression", [None, "gzip", "xz", "bz2", "zstd"])
def test_flash_and_dump(client, tmp_path, size, compression):
    from jumpstarter.streams.encoding import Compression

    encoding = compression and Compression(compression)
    image = (os.urandom(1000) * (size // 1000 + 1))[:size]
    stored = tmp_path / "image"
    stored.write_bytes(compressed(compression, image))
    client.flasher.flash(str(stored), compression=encoding)
    back = tmp_path / "back"
    client.flasher.dump(str(back), compression=encoding)
    assert decompressed(compression, back.read_bytes()) == image


def compressed(name, data):
    return codec(name, "compress")(data)


def decompressed(name, data):
    return codec(name, "decompress")(data)


def codec(name, function):
    import bz2
    import gzip
    import lzma

    from backports import zstd

    module = {"gzip": gzip, "xz": lzma, "bz2": bz2, "zstd": zstd}.get(name)
    return getattr(module, function) if module else bytes


def test_files_are_flashed_and_dumped(client, served, tmp_path):
    from jumpstarter.client.core import DriverInvalidArgument
    from jumpstarter.streams.encoding import Compression

    image = os.urandom(3_000_000)
    stored, back = tmp_path / "image.xz", tmp_path / "back"
    stored.write_bytes(compressed("xz", image))
    client.card.flash(str(stored), compression=Compression.XZ)
    assert (served.endpoints.folder / "card.img").read_bytes() == image
    # A compressed file is written decompressed without being told, too.
    client.card.flash(str(stored), target="boot")
    assert (served.endpoints.folder / "boot.img").read_bytes() == image
    client.card.dump(str(back), target="boot")
    assert back.read_bytes() == image
    with pytest.raises(BaseException) as failed:
        client.card.flash(str(stored), target="bot")
    errors = getattr(failed.value, "exceptions", [failed.value])
    assert any(isinstance(error, DriverInvalidArgument) and "`boot`" in str(error) for error in errors), failed.value


def test_a_storage_multiplexer_is_written_and_read(client, served, tmp_path):
    image = os.urandom(3_000_000)
    stored, back = tmp_path / "image", tmp_path / "back"
    stored.write_bytes(image)
    client.mux.host()
    client.mux.write_local_file(str(stored))
    back.touch()
    client.mux.read_local_file(str(back))
    assert back.read_bytes() == image
    client.mux.dut()
    client.mux.off()
    client.mux_flasher.flash(str(stored))
    client.mux_flasher.dump(str(back))
    assert back.read_bytes() == image
    served.j("mux", "host")
    served.j("mux_flasher", "flash", stored)


def test_flashing_a_damaged_image_fails(client, tmp_path):
    from jumpstarter.client.core import DriverError
    from jumpstarter.streams.encoding import Compression

    stored = tmp_path / "image.gz"
    stored.write_bytes(compressed("gzip", os.urandom(500_000))[:-1000])
    with pytest.raises(BaseException) as failed:
        client.flasher.flash(str(stored), compression=Compression.GZIP)
    # What broke off the client's own sending comes along with it, as a group.
    errors = getattr(failed.value, "exceptions", [failed.value])
    assert any(isinstance(error, DriverError) and "ends early" in str(error) for error in errors), failed.value


def test_small_dumps_arrive_whole(client, tmp_path):
    """The client forgets what it received last when its own end mark meets a call that is over."""
    from jumpstarter.streams.encoding import Compression

    stored, back = tmp_path / "image", tmp_path / "back"
    stored.write_bytes(b"x")
    client.flasher.flash(str(stored))
    for _ in range(40):
        client.flasher.dump(str(back), compression=Compression.GZIP)
        assert decompressed("gzip", back.read_bytes()) == b"x"


def test_the_client_classes_are_of_the_families_that_the_table_says():
    import families

    root = pathlib.Path(__file__).parents[2]
    table = (root / "crates/driver-core/src/families.rs").read_text()
    missing = [pair for pair in families.families() if '("%s", "%s")' % pair not in table]
    assert not missing, "run tests/interop/families.py"
