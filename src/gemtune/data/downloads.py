"""Images at addresses that rows name: http(s) alone, public addresses alone, one deadline, kept once they are pictures.

No proxy is asked: it would look up the address itself. Several are fetched at once, few of them of one host; who reads
them gets them in the order of the rows.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from gemtune.data.archives import read_up_to
from gemtune.data.images import MOST_BYTES, check_image
from gemtune.errors import RowError
from gemtune.files import cache_folder, sha256_of_text, write_bytes

AT_ONCE = 16  # downloads
OF_ONE_HOST = 4  # of them, which a browser would ask for, too
AHEAD = 64  # rows whose images are fetched while those before them are read
DOWNLOAD_SECONDS = 60.0  # from the look-up of the name to the last byte, redirects included
MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits of such an address are an IPv4 address
_PLAIN = "/%:@!$&'()*+,;=~?"  # what may stand in a path or query as it is
_HEADERS = {"User-Agent": "gemtune", "Accept": "image/*,*/*;q=0.8"}

Entry = TypeVar("Entry")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def download(
    url: str,
    *,
    private: bool = False,
    seconds: float = DOWNLOAD_SECONDS,
    check: Callable[[bytes], object] = check_image,
) -> bytes:
    """The image at an http(s) URL, kept in the user's cache; RowError when it cannot be had or is no picture.

    `private`: addresses of this machine and its network are opened, too. `check` raises for what is not to be kept.
    """
    cached = cache_folder() / "pictures" / sha256_of_text(url)
    if cached.is_file():
        return cached.read_bytes()
    with _Deadline(seconds) as deadline, _failures(url, deadline):
        data = _fetched(url, private, deadline)
    check(data)
    write_bytes(cached, data)
    return data


class Downloads:
    """The images at addresses, asked for once each; call it with an address, after `start` where there is time."""

    def __init__(self, *, private: bool = False):
        self._private = private
        self._pool = ThreadPoolExecutor(AT_ONCE, "download")
        self._places: defaultdict[str, threading.Semaphore] = defaultdict(partial(threading.Semaphore, OF_ONE_HOST))
        self._running: dict[str, Future[None]] = {}
        self._failed: dict[str, RowError] = {}  # a server that takes a minute to fail is not asked for every row

    def start(self, reference: str | bytes) -> None:
        """Begins to fetch an image in the background, if it is at an http(s) address."""
        url = reference if isinstance(reference, str) else ""
        if url.startswith(("http://", "https://")) and url not in self._running and url not in self._failed:
            self._running[url] = self._pool.submit(self._fetch, url, self._places[_host(url)])

    def __call__(self, url: str) -> bytes:
        """The image; RowError when it cannot be had or is no picture."""
        self.start(url)
        try:
            if running := self._running.pop(url, None):
                running.result()
        except RowError as error:
            self._failed[url] = error
        if url in self._failed:
            raise RowError(self._failed[url].reason, str(self._failed[url]))
        return download(url, private=self._private)  # from the cache

    def _fetch(self, url: str, place: threading.Semaphore) -> None:
        with place:
            download(url, private=self._private)

    def close(self) -> None:
        """Cancels the downloads that have not begun; one that has ends by its own deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def ahead(
    entries: Iterable[Entry], images: Callable[[Entry], Iterable[str | bytes]], downloads: Downloads | None
) -> Generator[Entry]:
    """Yields the entries in their order, while the images of those that follow are fetched."""
    if downloads is None:
        yield from entries
        return
    waiting = deque[Entry]()
    try:
        for entry in entries:
            for reference in images(entry):
                downloads.start(reference)
            waiting.append(entry)
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting
    finally:
        downloads.close()


class _Deadline:
    """Ends the connections of a download when its time is over, whatever they are waiting for."""

    def __init__(self, seconds: float):
        self.seconds, self.is_over = seconds, False
        self._connection: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()

    def ends(self, connection: socket.socket) -> None:
        self._connection = connection
        if self.is_over:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        if self._connection is not None:
            with contextlib.suppress(OSError):  # it is closed, or not yet open: its own time limit ends that
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


@contextlib.contextmanager
def _failures(url: str, deadline: _Deadline) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        is_late = deadline.is_over or isinstance(error, TimeoutError)  # the connection's own limit, the same
        late = f"took longer than {deadline.seconds:g} s" if is_late else ""
        problem = late or " ".join(str(error).split())[:200] or type(error).__name__
        raise RowError("image not here", f"{url[:100]}: {problem}") from error


def _fetched(url: str, private: bool, deadline: _Deadline) -> bytes:
    """The body at an address, after its redirects."""
    address = url
    for _ in range(MOST_REDIRECTS + 1):
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"leads to {address[:100]}; only http and https are opened")
        with _asked(parts, private, deadline) as response:
            target = response.getheader("Location")
            if response.status not in _REDIRECTS or not target:
                return _body(response, url, deadline)
            address = urljoin(address, target)
    raise ValueError(f"more than {MOST_REDIRECTS} redirects")


def _body(response: http.client.HTTPResponse, url: str, deadline: _Deadline) -> bytes:
    if response.status != http.client.OK:
        raise ValueError(f"the server says {response.status} {response.reason[:60]}")
    length = response.length
    if length is not None and length > MOST_BYTES:
        raise RowError("image too large", f"{url[:100]}: {length / 1e6:.0f} MB")
    data = read_up_to(url[:100], response)
    if deadline.is_over or (length is not None and len(data) != length):
        raise ValueError(f"ended after {len(data)} of {length} bytes")
    return data


@contextlib.contextmanager
def _asked(parts: SplitResult, private: bool, deadline: _Deadline) -> Iterator[http.client.HTTPResponse]:
    """What the server of an address answers."""
    host = (parts.hostname or "").encode("idna").decode()
    is_safe = parts.scheme == "https"
    connection = (http.client.HTTPSConnection if is_safe else http.client.HTTPConnection)(host, parts.port)
    connection.auto_open = 0  # it would look the name up again
    with contextlib.closing(connection), _connected(host, connection.port, private, deadline) as plain:
        connection.sock = _encrypted(plain, host, deadline) if is_safe else plain
        path = quote(parts.path or "/", safe=_PLAIN) + (f"?{quote(parts.query, safe=_PLAIN)}" if parts.query else "")
        connection.request("GET", path, headers=_HEADERS)
        yield connection.getresponse()


def _encrypted(plain: socket.socket, host: str, deadline: _Deadline) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    connection = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    deadline.ends(connection)
    connection.do_handshake()
    return connection


@contextlib.contextmanager
def _connected(host: str, port: int, private: bool, deadline: _Deadline) -> Iterator[socket.socket]:
    """A connection to the first address of a host that may be opened: the very one that was checked."""
    problem: Exception = ValueError(f"{host} has no address")
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not private and not is_public(str(place[0])):
            move = "set data.download_private: true to open such addresses"
            problem = ValueError(f"{host} is {place[0]}, in this machine or its network; {move}")
            continue
        with contextlib.closing(socket.socket(family, kind, protocol)) as connection:
            connection.settimeout(deadline.seconds)
            deadline.ends(connection)
            try:
                connection.connect(place)
            except OSError as error:
                problem = error
                continue
            yield connection
            return
    raise problem


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network, and so is every address inside it.

    >>> places = "93.184.215.14", "127.0.0.1", "::ffff:10.0.0.1", "169.254.169.254", "fe80::1%eth0"
    >>> [is_public(place) for place in places]
    [True, False, False, False, False]
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return all(
        inner.is_global and not (inner.is_multicast or inner.is_reserved or getattr(inner, "is_site_local", False))
        for inner in _addresses_in(parsed)
    )


def _addresses_in(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    inner: list[Address] = [address]
    inner += [address.sixtofour] if address.sixtofour else []
    inner += list(address.teredo) if address.teredo else []
    return inner
