"""The bearer token that requests must have where others than this machine may ask."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from gemtune.errors import GemtuneError
from gemtune.files import READING, os_errors
from gemtune.serving.hosts import is_loopback

LEAST_TOKEN = 16  # characters


def token_for(host: str, token_file: str | None, say: Callable[[str], None]) -> str | None:
    """The bearer token that requests must have: the file's, a new one that is said once, or none on loopback."""
    if token_file is not None:
        return token_in(Path(token_file))
    if is_loopback(host):
        return None
    token = secrets.token_urlsafe(32)
    say(f"token: {token}")
    say(
        "Requests need it, as `Authorization: Bearer TOKEN`; it is shown this once. It travels in the open without TLS."
    )
    return token


def token_in(path: Path) -> str:
    """The token in a file that only its owner can read; GemtuneError where it is not."""
    with os_errors(path, READING):
        mode, token = path.stat().st_mode, path.read_text(encoding="utf-8", errors="replace").strip()
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise GemtuneError(f"{path}: others than you can read or write this token; chmod 600 {path}")
    if len(token) < LEAST_TOKEN or not token.isascii() or any(character.isspace() for character in token):
        wanted = f"wanted one line of at least {LEAST_TOKEN} ASCII characters without blanks"
        raise GemtuneError(f"{path}: no token in it; {wanted}, such as `openssl rand -hex 32` prints")
    return token
