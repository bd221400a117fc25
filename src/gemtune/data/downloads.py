"""Images from the network, downloaded once and kept in the user's cache by their address."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from gemtune.data.images import MOST_BYTES
from gemtune.errors import RowError
from gemtune.files import cache_folder, sha256_of_text, write_bytes

SECONDS = 30


def download(url: str) -> bytes:
    """The image at an http(s) URL, from the cache the second time; RowError when it cannot be had or is too large."""
    cached = cache_folder() / "downloads" / sha256_of_text(url)
    if cached.is_file():
        return cached.read_bytes()
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 (`ImageSources` passes http and https only, and urllib follows no redirect to a file)
            data: bytes = answer.read(MOST_BYTES + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise RowError("image not here", f"{url[:100]}: {error}") from error
    if len(data) > MOST_BYTES:
        raise RowError("image too large", f"{url[:100]}: over {MOST_BYTES / 1e6:.0f} MB")
    write_bytes(cached, data)
    return data
