"""Archives and pictures."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from benchmarks.hostile.place import DROPPED, REFUSED, USUAL, Command, Kind, Place, prepare

ZEROS = 600_000_000
BLOCK = bytes(4_000_000)
NONE = {"val": 0, "test": 0}  # of the rows, which share a picture


def picture() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(out, "PNG")
    return out.getvalue()


def lying_zip(path: Path, method: int, size: int = ZEROS) -> None:
    """A member of zeros that is said to have 1,000 bytes."""
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("a.png", "w") as member:
        for _ in range(size // len(BLOCK)):
            member.write(BLOCK)
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", 1000)))


def many_members(path: Path, count: int) -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, *([0] * 4), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entry) * count, 0, 0)
    path.write_bytes(entry * count + end)


def tar_header(name: str, size: int, kind: bytes = b"0") -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def backward_tar(path: Path) -> None:
    """A member of -512 bytes: the next is the one before it."""
    header = bytearray(tar_header("b.png", 0))
    header[124:136] = b"\xff" * 8 + (-512).to_bytes(4, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(tar_header("a.png", 512) + bytes(512) + header + tar_header("c.png", 0) + bytes(1024))


def broken_zips(path: Path) -> list[bytes]:
    """A zip that asks for another version, has a name that is no text, none at all, and one that is cut."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", picture())
    data, entry = path.read_bytes(), path.read_bytes().index(b"PK\1\2")
    version = data[: entry + 6] + b"\xff" + data[entry + 7 :]
    name = data[: entry + 9] + b"\x08" + data[entry + 10 :]
    name = name.replace(b"a.png", b"\xff.png")
    nameless = data[: entry + 28] + b"\0\0" + data[entry + 30 :]
    return [version, name, nameless, data[: entry + 20]]


def gzipped_tar(path: Path) -> None:
    with gzip.open(path, "wb", 6) as out:
        out.write(tar_header("a.png", 650_000_000))
        for _ in range(650_000_000 // len(BLOCK)):
            out.write(BLOCK)


def with_archive(name: str, make: Callable[[Path], object]) -> Callable[[Place], Iterator[Command]]:
    """A picture of a row lies in an archive, or in each of several."""

    def commands(place: Place) -> Iterator[Command]:
        rows(place, "a.png")
        made = make(place / name)
        for data in made if isinstance(made, list) else [(place / name).read_bytes()]:
            (place / name).write_bytes(data)
            place.recipe("product", "rows.jsonl", split=NONE, data={"images": [".", name]})
            yield prepare()

    return commands


def rows(place: Place, *images: str) -> None:
    """Rows with a good picture, and one for each of the images."""
    place.write("good.png", picture())
    names = ["good.png"] * 20 + list(images)
    lines = [
        {"name": f"Cup {n}", "category": f"Kitchen {n}", "image": name, "description": f"A cup of {n}."}
        for n, name in enumerate(names)
    ]
    place.jsonl(lines)
    place.recipe("product", "rows.jsonl", split=NONE)


def with_pictures(*made: tuple[str, Callable[[Path], object]]) -> Callable[[Place], Iterator[Command]]:
    def commands(place: Place) -> Iterator[Command]:
        rows(place, *(name for name, _ in made))
        for name, make in made:
            make(place / name)
        yield prepare()

    return commands


def with_names(place: Place) -> Iterator[Command]:
    """Names of pictures that no file has, or no file can have."""
    (place / "loop.png").symlink_to(place / "loop.png")
    names = [
        "x" * 300 + ".png",
        "a\0b.png",
        "\ud83d.png",
        "loop.png",
        "~nobodyx/a.png",
        "0123456789abcdef" * 4,
        "/dev/zero",
    ]
    rows(place, *names)
    yield prepare()


def webp(width: int, height: int) -> bytes:
    """A lossless WebP of 34 bytes: one colour for all pixels."""
    payload = b"\x2f" + ((width - 1) | (height - 1) << 14 | 1 << 28).to_bytes(4, "little") + bytes(9)
    return b"RIFF" + struct.pack("<I", 12 + len(payload)) + b"WEBPVP8L" + struct.pack("<I", len(payload)) + payload


def saved(mode: str, size: tuple[int, int], **options: object) -> Callable[[Path], object]:
    return lambda path: Image.new(mode, size).save(path, **options)  # type: ignore[arg-type]  # as Pillow takes them


def kinds() -> Iterator[Kind]:
    either = f"{REFUSED} or {DROPPED}"
    for what, name, make, then in (
        (
            "zip: bzip2, 600 MB of zeros that are said to be 1,000 bytes",
            "a.zip",
            lambda path: lying_zip(path, 12),
            "1,250 MB",
        ),
        ("zip: the same by LZMA", "a.zip", lambda path: lying_zip(path, 14), "840 MB"),
        ("zip: the same by deflate", "a.zip", lambda path: lying_zip(path, 8), "172 MB"),
        ("zip: 500,000 members", "a.zip", lambda path: many_members(path, 500_000), "433 MB"),
        ("zip: another version, names that are none, cut", "a.zip", broken_zips, "tracebacks of seven kinds"),
        ("tar: a member of -512 bytes", "a.tar", backward_tar, "no end"),
        (
            "tar: 40 KB of digits in a PAX record",
            "a.tar",
            lambda path: path.write_bytes(tar_header("p", 40_960, b"x") + b"9" * 40_960 + bytes(1024)),
            "6.6 s",
        ),
        ("tar.gz: 650 MB of zeros in 0.6 MB", "a.tar.gz", gzipped_tar, "4 to 20 s, 650 MB"),
    ):
        yield Kind(what, with_archive(name, make), either, then)
    yield Kind(
        "picture: PNG of 100 megapixels, RGB",
        with_pictures(("b.png", saved("RGB", (10_000, 10_000)))),
        DROPPED,
        "1,200 MB",
    )
    yield Kind(
        "picture: PNG of 100 megapixels, RGBA",
        with_pictures(("b.png", saved("RGBA", (10_000, 10_000)))),
        DROPPED,
        "2,800 MB",
    )
    yield Kind(
        "picture: WebP of 100 megapixels in 34 bytes",
        with_pictures(("b.webp", lambda path: path.write_bytes(webp(10_000, 10_000)))),
        DROPPED,
        "2,700 MB",
    )
    yield Kind("picture: the largest that are taken: PNG of 49, JPEG of 100, WebP of 39", with_pictures(
        ("b.png", saved("RGBA", (7000, 7000), compress_level=1)),
        ("c.jpg", saved("RGB", (9999, 9999))),
        ("d.webp", lambda path: path.write_bytes(webp(6500, 6000))),
    ), f"{USUAL} or {DROPPED}", "to 2,800 MB", megabytes=900)  # fmt: skip
    yield Kind(
        "picture: names with NUL, half a character, 300 bytes, a link to itself, ~nobody, a digest, /dev/zero",
        with_names,
        DROPPED,
        "tracebacks",
    )
