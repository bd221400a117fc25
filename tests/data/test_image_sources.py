"""Where a row's images come from: folders, archives and data sets, every spelling, and nothing outside them."""

from __future__ import annotations

import base64
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.pictures import archive_tar, archive_zip, encoded, picture
from gemtune.data.image_sources import ImageSources, hub_images
from gemtune.data.images import ImageStore, open_rgb, reference_of
from gemtune.errors import DataError, RowError


def test_every_way_to_name_an_image_gives_one_file(tmp_path: Path) -> None:
    data = encoded(picture())
    (tmp_path / "cup.png").write_bytes(data)
    archive_zip(tmp_path / "a.zip", {"in/zip.png": data})
    archive_tar(tmp_path / "b.tar", {"./in/tar.png": data})
    store = ImageStore(tmp_path / "data", ImageSources(tmp_path, [".", "a.zip", "b.tar"]).read)
    text = base64.b64encode(data).decode()
    ways = ["cup.png", "./cup.png", "in/zip.png", "in/tar.png", data, text, f"data:image/png;base64,{text}"]
    ways += [{"bytes": data, "path": "x.png"}, {"bytes": None, "path": "cup.png"}, Image.open(tmp_path / "cup.png")]
    parts = [store.put(reference_of(way, "image")) for way in ways[:-1]]
    assert len({part.image for part in parts}) == 1 and len(list((tmp_path / "data").rglob("*.png"))) == 1
    again = store.put(reference_of(ways[-1], "image"))  # a decoded image is encoded anew
    assert np.array_equal(open_rgb(tmp_path / "data" / str(again.image)), open_rgb(tmp_path / "cup.png"))


def refused(find: Callable[[str], bytes], name: str) -> str:
    with pytest.raises(RowError) as error:
        find(name)
    return f"{error.value.reason}: {error.value}"


def test_paths_do_not_escape(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encoded(picture()))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    find = ImageSources(tmp_path, ["set"]).read
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "a/../../secret.png"):
        assert refused(find, name).startswith("image outside")
    assert refused(find, "cup.png") == "missing image: 'cup.png' is in none of data.images"


def test_hostile_archives(tmp_path: Path) -> None:
    slip = archive_zip(tmp_path / "slip.zip", {"../../evil.png": encoded(picture()), "zeros.png": bytes(50_000_000)})
    with zipfile.ZipFile(slip, "a") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    find = ImageSources(tmp_path, ["slip.zip"]).read
    assert "zip bomb" in refused(find, "zeros.png") and "is a link" in refused(find, "link.png")
    ImageStore(tmp_path / "data", find).put("../../evil.png")  # read where it lies and named by its content
    assert not (tmp_path.parent / "evil.png").exists() and not list(tmp_path.rglob("evil*"))
    with tarfile.open(tmp_path / "l.tar", "w") as archive:
        member = tarfile.TarInfo("link.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    assert "is a link" in refused(ImageSources(tmp_path, ["l.tar"]).read, "link.png")


def test_a_header_that_lies_about_its_size(tmp_path: Path) -> None:
    path = archive_zip(tmp_path / "lie.zip", {"a.png": bytes(1_000_000)})
    raw = path.read_bytes().replace(struct.pack("<I", 1_000_000), struct.pack("<I", 2_000))
    path.write_bytes(raw)
    assert refused(ImageSources(tmp_path, ["lie.zip"]).read, "a.png").startswith("bad archive member")


def test_a_damaged_member_names_itself(tmp_path: Path) -> None:
    data = encoded(Image.frombytes("RGB", (64, 64), bytes(range(256)) * 48))
    path = archive_zip(tmp_path / "hurt.zip", {"a.png": data})
    raw = bytearray(path.read_bytes())
    raw[60:90] = bytes(30)
    path.write_bytes(raw)
    assert refused(ImageSources(tmp_path, ["hurt.zip"]).read, "a.png").startswith("bad archive member: a.png: ")


def test_what_is_no_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK but no zip")
    with pytest.raises(DataError, match=r"a\.zip: neither a folder nor a zip or tar"):
        ImageSources(tmp_path, ["a.zip"])
    with pytest.raises(DataError, match="no such folder or archive"):
        ImageSources(tmp_path, ["b.zip"])
    with tarfile.open(tmp_path / "c.tgz", "w:gz"):
        pass
    with pytest.raises(DataError, match="compressed tar"):
        ImageSources(tmp_path, ["c.tgz"])


SPELLINGS = {  # what the row says -> what the disk or the archive calls it
    "in/cup.png": "in/cup.png",
    ".\\in\\cup.png": "in/cup.png",
    "in\\my cup (1).png": "in/my cup (1).png",
    "caf\u00e9/tass\u00e9.png": "cafe\u0301/tasse\u0301.png",
    "cafe\u0301\\tasse\u0301.png": "caf\u00e9/tass\u00e9.png",
}


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("place", ["a folder", "a zip", "a tar"])
def test_a_path_is_found_however_it_is_spelt(tmp_path: Path, name: str, place: str) -> None:
    data, path = encoded(picture()), SPELLINGS[name]
    if place == "a folder":
        (tmp_path / "p [1]" / path).parent.mkdir(parents=True)
        (tmp_path / "p [1]" / path).write_bytes(data)
        assert ImageSources(tmp_path, ["p [1]"]).read(name) == data
    else:
        archive = (archive_zip if place == "a zip" else archive_tar)(tmp_path / "a", {path: data})
        assert ImageSources(tmp_path, [archive.name]).read(name) == data


def test_a_name_that_no_file_can_have_costs_its_row(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    find = ImageSources(tmp_path, []).read
    for name in ("a\0.png", "x" * 5000, "loop.png", "."):
        assert refused(find, name).startswith("missing image: "), name
    assert refused(find, "..\\secret.png").startswith("image outside")


def test_pictures_that_a_hub_data_set_names_by_path_are_its_own() -> None:
    fsspec = pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    class Hub(MemoryFileSystem):  # type: ignore[misc]
        protocol = "hf"

    fsspec.register_implementation("hf", Hub, clobber=True)
    data, path = encoded(picture()), "hf://datasets/user/name@0123abc/train/cup.png"
    with fsspec.open(path, "wb") as stream:
        stream.write(data)
    find = ImageSources(Path(), [], hub=hub_images("user/name")).read
    assert find(path) == data
    assert refused(find, path.replace("cup", "tea")).startswith("image not here: hf://datasets/user/name@")
    for other in ("hf://datasets/user/name2@0123abc/cup.png", "file:///etc/passwd", f"zip://a.png::{path[5:]}"):
        assert refused(find, other).startswith("image outside"), other
    assert refused(ImageSources(Path(), []).read, path).startswith("missing image")
