"""The per-device command line, in processes of their own: every driver but those with a file of tests of their own."""


def test_j(served):
    assert "power" in served.j("--help")
    served.j("power", "on")
    served.j("alias", "cycle", "--wait", "0")
    served.j("rack", "power", "off")
    readings = served.j("power", "read", "--count", "2", "--interval", "0").splitlines()
    assert len(readings) == 4 and readings[1] == readings[3] and "voltage=5.0 V" in readings[1], readings


def test_j_flashes_and_dumps(served, tmp_path):
    image, back = tmp_path / "image.bin", tmp_path / "back.bin"
    image.write_bytes(b"firmware" * 10_000)
    served.j("flasher", "flash", image)
    served.j("flasher", "dump", back)
    assert back.read_bytes() == image.read_bytes()


def test_j_flashes_files_by_target(served, tmp_path):
    image, back = tmp_path / "image.bin", tmp_path / "back.bin.gz"
    image.write_bytes(b"firmware" * 20_000)
    served.j("card", "flash", "--target", f"boot:{image}")
    assert (served.endpoints.folder / "boot.img").read_bytes() == image.read_bytes()
    served.j("card", "dump", "--target", "boot", "--compression", "gzip", back)
    from test_drivers import decompressed

    assert decompressed("gzip", back.read_bytes()) == image.read_bytes()
