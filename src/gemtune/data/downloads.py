"""Files behind URLs, downloaded once and kept in the user's cache by their address."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from gemtune.data.images import MOST_BYTES
from gemtune.errors import RowError
from gemtune.files import cache_folder, sha256_of_text, write_bytes

SECONDS = 30


def download(url: str) -> bytes:
    """The bytes behind an http(s) URL, at most an image's; from the cache the second time. RowError when they fail."""
    kept = cache_folder() / "downloads" / sha256_of_text(url)
    if kept.is_file():
        return kept.read_bytes()
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 (`Places` passes http and https only; urllib follows to no file)
            data: bytes = answer.read(MOST_BYTES + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise RowError("image not here", f"{url[:100]}: {error}") from error
    if len(data) > MOST_BYTES:
        raise RowError("image too large", f"{url[:100]}: over {MOST_BYTES / 1e6:.0f} MB")
    write_bytes(kept, data)
    return data
