"""What an artifact's own runtime must answer, so that it can be compared with the merged model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self


@dataclass(frozen=True)
class Choice:
    """One greedy step: the token, and how far the second best was behind it, in nats; nan where that is not said."""

    token: int
    margin: float


class Runtime(Protocol):
    """A loaded artifact, on the CPU; a context manager, since it holds a model or a child process."""

    name: str  # with its version: "llama.cpp (xllamacpp 2026.10.11549)"

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text as the runtime cuts it, special tokens in it taken as such, nothing added."""
        ...

    def decode(self, prompt: Sequence[int], limit: int, images: Sequence[Path] = ()) -> list[Choice]:
        """At most `limit` greedy choices after a prompt's ids; the last is a stop token where the model stopped."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
