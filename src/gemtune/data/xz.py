"""Reading .xz with a bound on memory: a file of 200 KB may ask for 1.5 GB of it."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import IO

MOST_MEMORY = 128 << 20  # bytes for a decoder; what `xz -9` packs needs 65 MB
_PIECE = 64 << 10


def open_xz(path: Path) -> IO[bytes]:
    """Opens an .xz or .lzma file, of one or several streams, which is unpacked while it is read."""
    return io.BufferedReader(_Unpacked(path))


class _Unpacked(io.RawIOBase):
    def __init__(self, path: Path):
        self._file = path.open("rb")
        self._begin()

    def _begin(self) -> None:
        self._file.seek(0)
        self._at, self._decoder = 0, lzma.LZMADecompressor(memlimit=MOST_MEMORY)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader hands over
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, most: int) -> bytes:
        """The next bytes, at most so many; none at the end."""
        data = b""
        while not data:
            packed = self._file.read(_PIECE) if self._decoder.needs_input or self._decoder.eof else b""
            if self._decoder.eof:
                rest = (self._decoder.unused_data + packed).lstrip(b"\0")  # what streams may be padded with
                if not rest and not packed:
                    return b""
                if rest:
                    self._decoder, packed = lzma.LZMADecompressor(memlimit=MOST_MEMORY), rest
                else:
                    continue
            elif self._decoder.needs_input and not packed:
                raise EOFError("it ends too early")
            data = self._decoder.decompress(packed, most)
        return data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Back to the beginning, and nowhere else."""
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation("an .xz file is read from its beginning")
        self._begin()
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()
