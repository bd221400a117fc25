"""Spoiled files: whatever bytes a file has, reading it gives rows or one line, and a picture that passes can be opened.

`GEMTUNE_FUZZ=5000` tries that many of each kind.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from PIL import Image

from gemtune.data.archives import members_of
from gemtune.data.images import check_image, open_rgb, size_of
from gemtune.data.sources import read_rows
from gemtune.errors import DataError, RowError
from gemtune.recipe.schema import DataSource

TRIES = int(os.environ.get("GEMTUNE_FUZZ", "120"))
ROWS = [{"text": f'row "{n}", é', "emoji": "👋", "more": {"n": [n, None]}} for n in range(20)]
TABLE = pa.Table.from_pylist(ROWS)
FLAT = [{"text": str(row["text"]), "emoji": "👋"} for row in ROWS]


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def stream(out: io.BytesIO) -> None:
    with pa.ipc.new_stream(out, TABLE.schema) as writer:
        writer.write_table(TABLE)


def lines(mark: str) -> bytes:
    quoted = (mark.join('"' + text.replace('"', '""') + '"' for text in row.values()) for row in FLAT)
    return "\n".join([mark.join(FLAT[0]), *quoted]).encode()


COLUMNS = {key: {str(n): row[key] for n, row in enumerate(ROWS)} for key in ROWS[0]}
FILES: dict[str, bytes] = {
    "x.csv": lines(","),
    "x.tsv": lines("\t"),
    "x.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "pretty.jsonl": json.dumps(ROWS[0], indent=1).encode() * 4,
    "x.json": json.dumps({"n": 1, "data": ROWS}).encode(),
    "columns.json": json.dumps(COLUMNS).encode(),
    "x.parquet": written(lambda out: pyarrow.parquet.write_table(TABLE, out)),
    "x.arrow": written(stream),
    "x.feather": written(lambda out: pyarrow.feather.write_feather(TABLE, out)),
    "x.csv.gz": gzip.compress(lines(",")),
    "x.csv.bz2": bz2.compress(lines(",")),
    "x.csv.xz": lzma.compress(lines(",")),
    "dataset_info.json": json.dumps(
        {"a": {"file_name": "a.csv", "columns": {"prompt": "q", "response": "r"}}}
    ).encode(),
}
PICTURE = Image.effect_noise((40, 30), 60)
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "a description"


def picture(kind: str, mode: str = "RGB", **options: object) -> bytes:
    return written(lambda out: PICTURE.convert(mode).save(out, kind, **options))


PICTURES: dict[str, bytes] = {
    "jpeg": picture("JPEG", exif=EXIF),
    "progressive": picture("JPEG", progressive=True, exif=EXIF),
    "cmyk": picture("JPEG", "CMYK"),
    "png": picture("PNG", "RGBA", exif=EXIF),
    "palette": picture("PNG", "P", transparency=3),
    "grey": picture("PNG", "I;16"),
    "webp": picture("WEBP", exif=EXIF),
    "gif": picture("GIF", "P", save_all=True, append_images=[PICTURE.convert("P")]),
    "bmp": picture("BMP"),
    "tiff": picture("TIFF", compression="tiff_lzw", exif=EXIF),
    "float": picture("TIFF", "F"),
}


def as_zip(out: io.BytesIO) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "b/ü.png"):
            archive.writestr(name, PICTURES["png"])


def as_tar(out: io.BytesIO, kind: int) -> None:
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name in ("a.png", "ü" * 70 + "/b.png"):
            member = tarfile.TarInfo(name)
            member.size = len(PICTURES["png"])
            archive.addfile(member, io.BytesIO(PICTURES["png"]))


ARCHIVES = {
    "x.zip": written(as_zip),
    "gnu.tar": written(lambda out: as_tar(out, tarfile.GNU_FORMAT)),
    "pax.tar": written(lambda out: as_tar(out, tarfile.PAX_FORMAT)),
}
WORDS = [b'"', b"\0", b"\n", b"\r", b"\t", b",", b"{", b"}", b"[", b"]", b"\xff", b"-1", b"1e999", b"null", b"\\ud83d"]


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few of them changed, cut, doubled, moved or replaced by what formats trip over."""
    content = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at, end = sorted((chance.randrange(len(content) + 1), chance.randrange(len(content) + 1)))
        kind = chance.randrange(6)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            content[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), chance.randbytes(4)))
        elif kind == 2:
            content[at:at] = chance.choice(WORDS)
        elif kind == 3:
            del content[at : min(end, at + 40)]
        elif kind == 4:
            content[at:at] = content[at : min(end, at + 60)]
        elif kind == 5 and chance.random() < 0.2:
            del content[at:]
    return bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_spoiled_file_is_rows_or_one_line(tmp_path: Path, name: str) -> None:
    chance, path = random.Random(name), tmp_path / name
    is_info = name == "dataset_info.json"
    (tmp_path / "a.csv").write_text("q,r\n1,2\n")
    source = f"{path}#a" if is_info else str(path)
    data = [DataSource(source=source, bad_rows=bad_rows) for bad_rows in ("fail", "drop")]
    for number in range(TRIES):
        path.write_bytes(spoiled(FILES[name], chance))
        try:
            for where, row in read_rows(data[number % 2], refuse=lambda where, error: None):
                assert where and isinstance(row, dict)
        except DataError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("what", PICTURES)
def test_a_spoiled_picture_that_passes_can_be_opened(tmp_path: Path, what: str) -> None:
    chance, path = random.Random(what), tmp_path / "x"
    for _ in range(TRIES):
        data = spoiled(PICTURES[what], chance)
        path.write_bytes(data)
        try:
            _, size = check_image(data)
        except RowError:
            continue
        assert size == size_of(path) == open_rgb(path).size


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_spoiled_archive_is_members_or_one_line(tmp_path: Path, name: str) -> None:
    chance, path = random.Random(name), tmp_path / name
    for _ in range(TRIES):
        path.write_bytes(spoiled(ARCHIVES[name], chance))
        try:
            members = members_of(path)
        except DataError as error:
            assert "\n" not in str(error)
            continue
        for read in members.values():
            try:
                assert isinstance(read(), bytes)
            except RowError as error:
                assert "\n" not in str(error)
