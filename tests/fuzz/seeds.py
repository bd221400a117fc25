"""The small, whole files that mutants are made of, written by the harness itself."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import yaml
from PIL import Image

IMAGE_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "TIFF": ".tif", "BMP": ".bmp"}
ROWS = [
    {"text": "go to the beach", "emoji": "🏖️", "n": 1, "list": ["a", "b"]},
    {"text": 'say "hi", then\nleave', "emoji": "👋", "n": 2.5, "list": []},
    {"text": "", "emoji": None, "n": None, "list": [None]},
]


@cache
def images() -> dict[str, bytes]:
    """File name -> a picture, in each format and in modes that are read in ways of their own."""
    modes = {"PNG": ["RGB", "RGBA", "P", "I;16", "1", "LA"], "JPEG": ["RGB", "L", "CMYK"], "TIFF": ["RGB", "F", "CMYK"]}
    made = {}
    for kind, suffix in IMAGE_FORMATS.items():
        for mode in modes.get(kind, ["RGB"]):
            exif = Image.Exif()
            exif[0x0112], exif[0x010E] = 6, "turned by 90 degrees"
            out = io.BytesIO()
            options = {} if kind in ("GIF", "BMP") else {"exif": exif}
            _picture(mode).save(out, kind, **options)
            made[f"{kind}-{mode}{suffix}"] = out.getvalue()
    for name, kind, options in (
        ("animated.gif", "GIF", {"save_all": True, "append_images": [_picture("L")]}),
        ("progressive.jpg", "JPEG", {"progressive": True, "exif": exif}),
        ("packed.tif", "TIFF", {"compression": "tiff_lzw", "exif": exif}),
        ("transparent.png", "PNG", {"transparency": 3}),
    ):
        out = io.BytesIO()
        _picture("P" if name == "transparent.png" else "RGB").save(out, kind, **options)
        made[name] = out.getvalue()
    return made


def _picture(mode: str) -> Image.Image:
    grey = Image.linear_gradient("L").resize((16, 12))
    return grey.convert("I").convert(mode) if mode == "I;16" else grey.convert("RGB").convert(mode)


@cache
def archives() -> dict[str, bytes]:
    """File name -> an archive of pictures: stored and packed, by each method, and the tar formats."""
    pictures = {name: images()[name] for name in ("PNG-RGB.png", "JPEG-RGB.jpg")}
    made = {}
    for name, method in {"stored": 0, "deflated": 8, "bzip2": 12, "lzma": 14}.items():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for member, data in pictures.items():
                archive.writestr(f"a/{member}", data)
        made[f"{name}.zip"] = out.getvalue()
    for name, style in {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}.items():
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=style) as archive:
            for member, data in {**pictures, ("é" if style else "e") * 120: b"x"}.items():
                with contextlib.suppress(ValueError):  # ustar holds no such name
                    archive.addfile(_member(member, len(data)), io.BytesIO(data))
        made[f"{name}.tar"] = out.getvalue()
    return {**made, "packed.tar.gz": gzip.compress(made["gnu.tar"], mtime=0)}


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"a/{name}")
    info.size = size
    return info


@cache
def tables() -> dict[str, bytes]:
    """File name -> the same few rows, in every format that rows come in."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    csv = 'text,emoji,n\ngo to the beach,🏖️,1\n"say ""hi"", then\nleave",👋,2.5\n,,\n'.encode()
    out = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(ROWS), out)
    stream, feather = io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, (table := pa.Table.from_pylist(ROWS)).schema) as writer:
        writer.write_table(table)
    pa.feather.write_feather(table, feather)
    dated = io.BytesIO()
    when = pa.array([0, 1, None], pa.timestamp("us", "UTC"))
    pa.parquet.write_table(pa.table({"text": ["a", "b", "c"], "when": when, "day": when.cast(pa.date32())}), dated)
    return {
        "rows.csv": csv,
        "rows.tsv": csv.replace(b",", b"\t"),
        "rows.json": json.dumps(ROWS).encode(),
        "wrapped.json": json.dumps({"version": 1, "data": ROWS}).encode(),
        "columns.json": json.dumps({key: {str(n): row[key] for n, row in enumerate(ROWS)} for key in ROWS[0]}).encode(),
        "rows.jsonl": lines,
        "pretty.jsonl": json.dumps(ROWS[0], indent=1).encode() * 4,
        "rows.csv.gz": gzip.compress(csv, mtime=0),
        "rows.jsonl.gz": gzip.compress(lines, mtime=0),
        "rows.csv.bz2": bz2.compress(csv),
        "rows.csv.xz": lzma.compress(csv),
        "rows.parquet": out.getvalue(),
        "rows.arrow": stream.getvalue(),
        "rows.feather": feather.getvalue(),
        "dated.parquet": dated.getvalue(),
        "utf-16.csv": csv.decode().encode("utf-16"),
    }


@cache
def home() -> Path:
    """A folder of the harness's own, for what is made once."""
    folder = tempfile.TemporaryDirectory(prefix="gemtune-fuzz-")
    _kept.append(folder)  # removed when Python ends
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@cache
def models() -> dict[str, Path]:
    """Name -> a tiny model's folder: one that reads text, one that reads images."""
    from gemtune.models.families import write_tiny

    return {name: write_tiny(name, home() / name) for name in ("gemma3", "gemma3-vision")}


@cache
def run_folder() -> Path:
    """A run directory that went through every stage, of two steps on the tiny model."""
    from gemtune.pipeline.job import Job
    from gemtune.pipeline.stages import run

    rows = "".join(f"word{i} thing {i * 7} {chr(97 + i % 26) * 5},{'😀🎉🏖'[i % 3]}\n" for i in range(60))
    (home() / "rows.csv").write_text("text,emoji\n" + rows, encoding="utf-8")
    recipe = {
        "name": "t",
        "task": "emoji",
        "model": str(models()["gemma3"]),
        "runs_dir": str(home() / "runs"),
        "data": {"source": "rows.csv"},
        "train": {
            **{"max_steps": 2, "batch_size": 4, "max_length": 64, "save_steps": 1},
            **{"precision": "fp32", "device": "cpu"},
        },
        "evaluate": {"limit": 3, "max_new_tokens": 3},
        "export": ["merged"],
    }
    (home() / "t.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run(Job(home() / "t.yaml", say=lambda line: None))
    return home() / "runs" / "t"


def files_of(folder: Path, *patterns: str, most: int = 100_000) -> dict[str, bytes]:
    """Path in the folder -> bytes of the files that match, the small ones."""
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.stat().st_size <= most}
