"""Images that the exporter fetches and stores itself."""

import gzip
import http.server
import os
import ssl
import threading

import pytest
from conftest import connected, serve
from jumpstarter.client.core import DriverError

IMAGE = os.urandom(3_000_000)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []
    stored = {}

    def do_GET(self):
        self.seen.append((self.path, dict(self.headers)))
        path = self.path.split("?")[0]
        if path == "/to-other":
            return self.redirect(f"http://127.0.0.1:{self.server.server_port}/image%2F.bin?sig=a%2fb%2B")
        if path == "/relative":
            return self.redirect("image%2F.bin?sig=x")
        if path == "/loop":
            return self.redirect("/loop")
        if path == "/nowhere":
            return self.redirect(None)
        if path == "/missing":
            return self.answer(404, b"no")
        if path == "/short":
            self.send_response(200)
            self.send_header("content-length", str(len(IMAGE)))
            self.end_headers()
            self.wfile.write(IMAGE[:1000])
            self.close_connection = True
            return None
        return self.answer(200, gzip.compress(IMAGE, 1) if path.endswith(".gz") else IMAGE)

    def do_PUT(self):
        self.seen.append((self.path, dict(self.headers)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.stored[self.path] = body
        self.answer(403 if "forbidden" in self.path else 200, b"")

    def redirect(self, location):
        self.send_response(302)
        if location:
            self.send_header("location", location)
        self.send_header("content-length", "0")
        self.end_headers()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    Handler.seen, Handler.stored = [], {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def running(tmp_path_factory, authority):
    os.environ["SSL_CERT_FILE"] = str(authority / "ca.pem")
    running = serve("unix", tmp_path_factory.mktemp("presigned"), authority)
    del os.environ["SSL_CERT_FILE"]
    yield running
    running.exporter.stop()


@pytest.fixture
def flasher(running, authority):
    with connected(running, authority) as client:
        yield client.flasher


def request(url, method="GET", **headers):
    return {"kind": "presigned_request", "headers": headers, "url": url, "method": method}


def dumped(flasher, tmp_path):
    flasher.dump(str(tmp_path / "back"))
    return (tmp_path / "back").read_bytes()


@pytest.mark.parametrize("name", ["image.bin", "image.gz"])
def test_the_client_passes_urls_on(flasher, web, tmp_path, name):
    flasher.flash(f"http://127.0.0.1:{web.server_port}/{name}?sig=a%2Fb")
    # The mock keeps what it gets, as the one in Python does.
    assert dumped(flasher, tmp_path) == (gzip.compress(IMAGE, 1) if name.endswith(".gz") else IMAGE)
    assert Handler.seen[0][0] == f"/{name}?sig=a%2Fb"


def test_redirects_keep_the_encoding_and_drop_secrets(flasher, web, tmp_path):
    url = f"http://localhost:{web.server_port}/to-other?token=s3cret"
    secrets = {"Authorization": "Bearer s3cret", "X-Amz-Date": "now", "x-ms-version": "1", "X-Plain": "kept"}
    flasher.call("flash", request(url, **secrets), None)
    assert dumped(flasher, tmp_path) == IMAGE
    (_, first), (path, second) = Handler.seen
    assert path == "/image%2F.bin?sig=a%2fb%2B"
    assert {name.lower() for name in secrets} <= {name.lower() for name in first}
    assert {name.lower() for name in second} & {name.lower() for name in secrets} == set()


def test_relative_redirects_stay_in_the_origin(flasher, web):
    url = f"http://127.0.0.1:{web.server_port}/relative"
    flasher.call("flash", request(url, Authorization="Bearer s3cret"), None)
    assert Handler.seen[1][0] == "/image%2F.bin?sig=x" and Handler.seen[1][1]["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/loop?s3cret", "more than 10 times"),
        ("/nowhere?s3cret", "without a location"),
        ("/missing?s3cret", "404"),
        ("/short?s3cret", "DATA_LOSS"),
    ],
)
def test_what_goes_wrong_is_said_without_secrets(flasher, web, running, path, words):
    with pytest.raises(DriverError, match=words) as failed:
        flasher.call("flash", request(f"http://127.0.0.1:{web.server_port}{path}"), None)
    assert "s3cret" not in str(failed.value)
    assert "s3cret" not in running.exporter.log_path.read_text()


def test_nobody_listens(flasher):
    with pytest.raises(DriverError, match="UNAVAILABLE"):
        flasher.call("flash", request("http://127.0.0.1:1/image"), None)


def test_a_dump_is_put(flasher, web):
    base = f"http://127.0.0.1:{web.server_port}"
    flasher.call("flash", request(f"{base}/image.bin"), None)
    flasher.call("dump", request(f"{base}/back?sig=1", "PUT"), None)
    assert Handler.stored["/back?sig=1"] == IMAGE
    with pytest.raises(DriverError, match="PERMISSION_DENIED"):
        flasher.call("dump", request(f"{base}/forbidden", "PUT"), None)
    with pytest.raises(DriverError, match="INVALID_ARGUMENT|is a GET"):
        flasher.call("dump", request(f"{base}/back"), None)


def test_https_with_the_right_and_the_wrong_authority(flasher, web, authority, tmp_path):
    import trustme

    for trusted in [True, False]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if trusted:
            context.load_cert_chain(authority / "localhost.pem", authority / "localhost.key")
        else:
            trustme.CA().issue_cert("localhost").configure_cert(context)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}/image.bin"
        if trusted:
            flasher.call("flash", request(url), None)
            assert dumped(flasher, tmp_path) == IMAGE
        else:
            with pytest.raises(DriverError, match="certificate"):
                flasher.call("flash", request(url), None)
        server.shutdown()
        server.server_close()
