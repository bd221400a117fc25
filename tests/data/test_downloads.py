"""Pictures at addresses: what is opened, for how long, and what is kept; against a server on this machine."""

from __future__ import annotations

import http.server
import io
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import command
from gemtune.data.downloads import OF_ONE_HOST, Downloads, ahead, download, is_public
from gemtune.data.image_sources import ImageSources
from gemtune.data.images import check_image
from gemtune.errors import RowError
from gemtune.preparation.prepare import prepare
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run

AWAY = {  # path -> where it leads to
    "/file": "file:///etc/passwd",
    "/ftp": "ftp://127.0.0.1/cup.png",
    "/gopher": "gopher://127.0.0.1/",
    "/round": "/round",
    "/beside": "cup.png?size=2",
    "/port": "http://127.0.0.1:99999/",
    "/host": "http://[::1/",
}


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(out, "PNG")
    return out.getvalue()


class Asked(list[str]):
    """The paths that a server was asked for, and how many of those that it holds were waiting at most."""

    most = 0
    waiting = 0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Asked]]:
    """The address of a server, and the paths that it was asked for."""
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    asked, change = Asked(), threading.Condition()
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/held/"):
                with change:
                    asked.waiting += 1
                    asked.most = max(asked.most, asked.waiting)
                    change.notify_all()
                    change.wait_for(lambda: asked.most >= 2 * OF_ONE_HOST, 30)
                    asked.waiting -= 1
            if self.path.startswith("/late/"):
                time.sleep(0.02 * (int(self.path[6:]) % 3))
            data = {"/html": b"<html>not found</html>", "/empty": b""}.get(self.path, picture())
            if self.path == "/slow":
                self.send_response(200)
                self.end_headers()
                while not over.wait(0.05):
                    self.wfile.write(b"x")
                return
            if self.path == "/mute":
                over.wait()
                return
            self.send_response(302 if self.path in AWAY else 404 if self.path == "/gone" else 200)
            if self.path in AWAY:
                self.send_header("Location", AWAY[self.path])
            elif self.path != "/unsized":
                length = {"/short": len(data) + 10, "/huge": 10**12}.get(self.path, len(data))
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(data)

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                return  # the client has gone

        def log_message(self, *_: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    over.set()
    running.shutdown()


def refused(url: str, **options: Any) -> str:
    with pytest.raises(RowError) as error:
        download(url, **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


def test_a_picture_is_downloaded_once_and_only_when_asked(tmp_path: Path, server: tuple[str, Asked]) -> None:
    address, asked = server
    sources = ImageSources(tmp_path, [], partial(download, private=True))
    for _ in range(3):
        assert check_image(sources.read(f"{address}/cup.png"))[1] == (32, 24)
    assert asked == ["/cup.png"]
    assert download(f"{address}/unsized", private=True) == download(f"{address}/a b/ü?q=ä b", private=True) == picture()
    assert asked[1:] == ["/unsized", "/a%20b/%C3%BC?q=%C3%A4%20b"]
    with pytest.raises(RowError, match=r"set data\.download_images: true"):
        ImageSources(tmp_path, []).read(f"{address}/cup.png")


def test_redirects_are_followed_to_http_alone(server: tuple[str, Asked]) -> None:
    address, asked = server
    assert download(f"{address}/beside", private=True) == picture()
    assert asked == ["/beside", "/cup.png?size=2"]
    for path in ("/file", "/ftp", "/gopher"):
        assert "only http and https are opened" in refused(f"{address}{path}", private=True)
    assert "more than 5 redirects" in refused(f"{address}/round", private=True)
    assert [refused(f"{address}{path}", private=True) for path in ("/port", "/host")]


def test_addresses_of_this_machine_are_not_opened(server: tuple[str, Asked]) -> None:
    port = server[0].rpartition(":")[2]
    for host in ("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]"):
        assert "set data.download_private: true" in refused(f"http://{host}:{port}/cup.png"), host
    for host in ("[::ffff:127.0.0.1]", "10.1.2.3", "192.168.0.1", "169.254.169.254", "[fe80::1]", "[64:ff9b::7f00:1]"):
        assert "set data.download_private: true" in refused(f"http://{host}:{port}/cup.png"), host
    assert server[1] == []


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "ff02::1", "fe80::1%eth0"),
    ],
)
def test_an_address_that_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_are_known() -> None:
    assert all(map(is_public, ("8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")))


def test_what_is_no_whole_picture_is_not_kept(tmp_path: Path, server: tuple[str, Asked]) -> None:
    address, asked = server
    said = {path: refused(f"{address}{path}", private=True) for path in ("/short", "/html", "/empty", "/gone", "/huge")}
    assert "ended after" in said["/short"] and "not an image" in said["/html"] and "not an image" in said["/empty"]
    assert "the server says 404" in said["/gone"] and "1000000 MB" in said["/huge"]
    assert not list((tmp_path / "cache").rglob("*")) or not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    refused(f"{address}/short", private=True)
    assert asked.count("/short") == 2


@pytest.mark.parametrize("path", ["/slow", "/mute"])
def test_a_download_ends_however_slow_its_server_is(server: tuple[str, Asked], path: str) -> None:
    assert "took longer than 0.5 s" in refused(f"{server[0]}{path}", private=True, seconds=0.5)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://a b/",
        "http://[::1",
        "http://x:99999/",
        "http://" + "a" * 300,
        "http://ü" + "ü" * 80,
        "http://\0",
    ],
)
def test_an_address_that_is_none_is_one_row(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path))
    assert refused(url)


def test_several_are_fetched_at_once_in_the_order_of_the_rows_and_few_of_one_host(server: tuple[str, Asked]) -> None:
    """The server answers only when as many are waiting as may be."""
    address, asked = server
    other = address.replace("127.0.0.1", "localhost")
    urls = [f"{host}/held/{number}" for number in range(12) for host in (address, other)]
    downloads = Downloads(private=True)
    answers = [downloads(url) for url in ahead(urls, lambda url: [url], downloads)]
    assert answers == [picture()] * len(urls)
    assert asked.most == 2 * OF_ONE_HOST
    assert sorted(asked) == sorted(f"/held/{number}" for number in range(12) for _ in range(2))


def test_an_address_that_fails_is_asked_once_and_refused_for_every_row(server: tuple[str, Asked]) -> None:
    address, asked = server
    downloads = Downloads(private=True)
    rows = ahead([f"{address}/gone"] * 5, lambda url: [url, b"bytes", "a/path.png"], downloads)
    for url in rows:
        with pytest.raises(RowError, match="the server says 404"):
            downloads(url)
    assert asked == ["/gone"]


def test_rows_with_addresses_are_prepared_in_their_order(server: tuple[str, Asked], tmp_path: Path) -> None:
    """The same data directory as with the pictures in a folder: what arrives first changes nothing."""
    address, _ = server
    Image.open(io.BytesIO(picture())).save(tmp_path / "cup.png")
    prepared = []
    for name, place in (("web", f"{address}/late"), ("folder", "")):
        rows = "".join(f"Cup {n},Kitchen,{place}{f'/{n}' if place else 'cup.png'},A cup of {n}.\n" for n in range(20))
        (tmp_path / "rows.csv").write_text(f"name,category,image,description\n{rows}", encoding="utf-8")
        data = {"source": str(tmp_path / "rows.csv"), "download_images": True, "download_private": True}
        split = {"by": "name", "test": 0.2}
        recipe = Recipe(name=name, task="product", runs_dir=str(tmp_path), data=[data], split=split)
        prepare(recipe, Run.of(recipe))
        files = command.tree(tmp_path / name / "data")
        prepared.append({path: digest for path, digest in files.items() if path != "manifest.json"})
    assert prepared[0] == prepared[1]


def test_nothing_listens(server: tuple[str, Asked]) -> None:
    assert "refused" in refused("http://127.0.0.1:1/cup.png", private=True)
