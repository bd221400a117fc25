"""HTTP to an endpoint: each exchange as a whole within the timeout, each way to fail by its kind."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from gemtune.documents.teacher.endpoints import Hidden
from gemtune.documents.teacher.failures import (
    MOST_SAID,
    Failure,
    Place,
    TeacherError,
    failure_of,
    scrubbed,
    server_words,
)
from gemtune.recipe.document_sections import Teacher

_CONNECT_SECONDS = 30.0
_MOST_BYTES = 64 << 20  # of a reply


class HttpEndpoint:
    """An address and a key, which is in the headers of the HTTP client and nowhere else."""

    def __init__(self, teacher: Teacher, place: Place, key: str | None):
        from huggingface_hub.utils import httpx

        self._httpx, self._timeout, self._key = httpx, teacher.timeout, Hidden(key)
        self.place = place
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(teacher.timeout, connect=min(_CONNECT_SECONDS, teacher.timeout), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=teacher.concurrency),
        )

    def close(self) -> None:
        self._client.close()

    def text(self, method: str, path: str, **content: Any) -> str:
        """The body of a 200; Failure, or TeacherError where the user has to act, for anything else."""
        ends, data = time.monotonic() + self._timeout, bytearray()
        with self._failures(data), self._client.stream(method, self._address(path), **content) as response:
            for part in response.iter_bytes():
                data += part
                if time.monotonic() > ends:
                    raise Failure("timeout", f"no whole reply in {self._timeout:g} s")
                if len(data) > _MOST_BYTES:
                    raise Failure("no answer", f"a reply of more than {_MOST_BYTES >> 20} MB")
        text = data.decode("utf-8", "replace")
        if response.status_code != 200:
            raise failure_of(response.status_code, response.headers, scrubbed(text, self._key.value), self.place)
        return text

    def json(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        """The object that a 200 holds."""
        text = self.text(method, path, **content)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Failure("no answer", f"no JSON ({server_words(text[:10_000])})") from error
        if not isinstance(value, dict):
            raise Failure("no answer", "no JSON object")
        return value

    def lines(self, path: str) -> Iterator[str]:
        """The lines of a file there, however long it is."""
        with self._failures(b""), self._client.stream("GET", self._address(path)) as response:
            if response.status_code != 200:
                body = scrubbed(response.read().decode("utf-8", "replace"), self._key.value)
                raise failure_of(response.status_code, response.headers, body, self.place)
            left = b""
            for part in response.iter_bytes():  # not iter_lines, which ends a line at U+2028, too
                *whole, left = (left + part).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in whole)
            yield left.decode("utf-8", "replace")

    def _address(self, path: str) -> str:
        return f"{self.place.url.rstrip('/')}/{path}"

    @contextlib.contextmanager
    def _failures(self, read: bytes | bytearray) -> Iterator[None]:
        httpx = self._httpx
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            raise Failure("unreachable", _words(error)) from error
        except httpx.TimeoutException as error:
            raise Failure("timeout", f"no reply in {self._timeout:g} s") from error
        except httpx.InvalidURL as error:
            raise TeacherError(f"teacher.url: {_words(error)}; mend the address") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            where = " in the middle of the reply" if read else ""
            raise Failure("connection lost", f"{_words(error)}{where}") from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:MOST_SAID] or type(error).__name__
