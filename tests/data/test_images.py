"""Images and archives: every way to name one, every mode to RGB, and what happens to hostile files."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.pictures import encoded, picture
from gemtune.data.conversation import Conversation, Message, Part
from gemtune.data.image_sources import ImageSources
from gemtune.data.images import ImageStore, check_image, open_rgb, reference_of, size_of, to_rgb
from gemtune.errors import RowError


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def webp_bomb(width: int, height: int) -> bytes:
    """A lossless WebP of 34 bytes whose header promises many pixels."""
    payload = b"\x2f" + ((width - 1) | (height - 1) << 14 | 1 << 28).to_bytes(4, "little") + bytes(9)
    return b"RIFF" + struct.pack("<I", 12 + len(payload)) + b"WEBPVP8L" + struct.pack("<I", len(payload)) + payload


TURNED = Image.Exif()
TURNED[0x0112] = 6  # stored lying on its side
JPEG = encoded(picture((300, 200)), "JPEG")
FRAMES = encoded(picture(), "GIF", save_all=True, append_images=[Image.new("RGB", (32, 24), "blue")] * 3)

# What becomes of a file: (bytes, suffix and size), or (bytes, reason and a part of the detail).
OUTCOMES: dict[str, tuple[bytes, tuple[Any, Any]]] = {
    "PNG": (encoded(picture()), (".png", (32, 24))),
    "animated GIF": (FRAMES, (".gif", (32, 24))),
    "CMYK JPEG": (encoded(picture().convert("CMYK"), "JPEG"), (".jpg", (32, 24))),
    "turned by EXIF": (encoded(picture(), "JPEG", exif=TURNED), (".jpg", (24, 32))),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], ("bad image", "cannot be decoded: image file is truncated")),
    "truncated PNG": (encoded(picture((300, 300)))[:200], ("bad image", "cannot be decoded")),
    "decompression bomb": (bomb(60_000, 60_000), ("image too large", "million pixels")),
    "a smaller bomb": (bomb(12_000, 10_000), ("image too large", "12000 x 10000 pixels")),
    "a WebP bomb": (
        webp_bomb(7000, 6000),
        ("image too large", "wanted at most 40 million"),
    ),
    "1 x 1": (encoded(picture((1, 1))), ("image too small", "1 x 1 pixels; wanted at least 8")),
    "20,000 x 20": (encoded(Image.new("RGB", (20_000, 20))), ("image too long", "20000 x 20 pixels")),
    "text": (b"<html>not found</html>", ("bad image", "not an image in PNG, JPEG")),
    "nothing": (b"", ("bad image", "not an image")),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ("bad image", "not an image")),
}


@pytest.mark.parametrize("what", OUTCOMES)
def test_what_becomes_of_a_file(what: str) -> None:
    data, (first, second) = OUTCOMES[what]
    if first.startswith("."):
        assert check_image(data) == (first, second)
        return
    with pytest.raises(RowError, match=second) as error:
        check_image(data)
    assert error.value.reason == first


def test_a_wrong_extension_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "cup.jpg").write_bytes(encoded(picture()))
    part = ImageStore(tmp_path / "data", ImageSources(tmp_path, []).read).put("cup.jpg")
    assert str(part.image).endswith(".png") and part.size == (32, 24)


GREY16 = Image.fromarray(np.array([[0, 32768, 65535]], np.uint16))
MODES: dict[str, tuple[Image.Image, list[tuple[int, int, int]]]] = {
    "16-bit grey": (GREY16, [(0, 0, 0), (128, 128, 128), (255, 255, 255)]),
    "32-bit grey of 16 bits": (GREY16.convert("I"), [(0, 0, 0), (128, 128, 128), (255, 255, 255)]),
    "alpha": (Image.frombytes("RGBA", (2, 1), bytes([255, 0, 0, 255, 255, 0, 0, 0])), [(255, 0, 0), (255, 255, 255)]),
    "grey and alpha": (Image.frombytes("LA", (2, 1), bytes([9, 255, 9, 0])), [(9, 9, 9), (255, 255, 255)]),
    "black and white": (Image.frombytes("1", (2, 1), bytes([0b01000000])), [(0, 0, 0), (255, 255, 255)]),
    "CMYK": (Image.frombytes("CMYK", (2, 1), bytes([0, 0, 0, 0, 0, 255, 255, 0])), [(255, 255, 255), (255, 0, 0)]),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    image, wanted = MODES[mode]
    found = [tuple(int(v) for v in pixel) for pixel in np.asarray(to_rgb(image)).reshape(-1, 3)]
    assert found == wanted


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    image = Image.frombytes("P", (2, 1), bytes([0, 1]))
    image.putpalette([255, 0, 0, 0, 0, 255])
    opened = Image.open(io.BytesIO(encoded(image, transparency=1)))
    assert [to_rgb(opened).getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]


def test_the_first_frame_of_an_animation_turned_upright(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(FRAMES)
    red, green, _ = open_rgb(tmp_path / "a.gif").getpixel((30, 20))  # type: ignore[misc]
    assert red > 150 > green
    turned, _ = OUTCOMES["turned by EXIF"]
    (tmp_path / "b.jpg").write_bytes(turned)
    image = open_rgb(tmp_path / "b.jpg")
    assert image.size == (24, 32) and image.getpixel((20, 3))[1] > 120  # type: ignore[index] (the corner is top right)


LARGE = (7000, 5000)  # 35 million pixels, of which 25 are opened


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "I;16"])
def test_a_large_picture_is_halved_as_a_whole_one_would_be(tmp_path: Path, mode: str) -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70), np.uint8))
    image = small.resize(LARGE, Image.Resampling.NEAREST)
    image = Image.fromarray(np.asarray(image, np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.png", compress_level=1, exif=TURNED)
    assert check_image((tmp_path / "a.png").read_bytes())[1] == size_of(tmp_path / "a.png") == (2500, 3500)
    whole = small.convert("1").convert("L") if mode == "1" else small
    expected = image.convert("L") if mode == "1" else whole.resize(LARGE, Image.Resampling.NEAREST)
    reference = expected.convert("RGB").reduce(2).transpose(Image.Transpose.ROTATE_270)
    found = open_rgb(tmp_path / "a.png")
    assert found.size == (2500, 3500)
    assert np.abs(np.asarray(found, np.int16) - np.asarray(reference, np.int16)).max() <= 1


def test_a_large_jpeg_is_decoded_at_half_its_size(tmp_path: Path) -> None:
    for mode, size in (("RGB", (9999, 9999)), ("L", (9998, 9998)), ("CMYK", (7001, 5001))):
        Image.new(mode, size, 0).save(tmp_path / "a.jpg")
        half = (-(-size[0] // 2), -(-size[1] // 2))
        assert check_image((tmp_path / "a.jpg").read_bytes())[1] == size_of(tmp_path / "a.jpg") == half
        assert open_rgb(tmp_path / "a.jpg").size == half
    Image.new("L", (9999, 9999)).save(tmp_path / "b.jpg", progressive=True)  # its coefficients are held whole
    with pytest.raises(RowError, match="wanted at most 50 million"):
        check_image((tmp_path / "b.jpg").read_bytes())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the most memory a process had")
def test_opening_a_large_picture_holds_it_once(tmp_path: Path) -> None:
    Image.new("RGBA", (7000, 7000)).save(tmp_path / "a.png", compress_level=1)
    code = (
        "import sys; from pathlib import Path; from gemtune.data.images import open_rgb; open_rgb(Path(sys.argv[1]))\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 450_000  # KB, of which the picture is 196,000; it was 784,000


@pytest.mark.parametrize("orientation", range(10))
def test_a_picture_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    found = open_rgb(tmp_path / "a.png")
    assert found.size == size_of(tmp_path / "a.png") == expected.size
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once_and_has_the_size_that_was_found(tmp_path: Path, mode: str, orientation: int) -> None:
    """Pillow turns a TIFF itself, and scrambles an uncompressed one that it opens by its path."""
    grey = Image.fromarray(np.arange(16 * 12, dtype=np.uint8).reshape(12, 16))
    picture = grey.convert("I").convert(mode) if mode == "I;16" else grey.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "scan.tif"
    picture.save(path, exif=exif)
    grey.info["exif"] = exif.tobytes()
    upright = ImageOps.exif_transpose(grey)
    _, size = check_image(path.read_bytes())
    opened = open_rgb(path)
    assert size == size_of(path) == opened.size == upright.size
    if mode != "I;16":  # whose white is another one
        np.testing.assert_allclose(np.asarray(opened)[..., 0], np.asarray(upright), atol=2)


def test_a_digest_as_a_name_is_looked_for_before_it_is_taken_for_base64(tmp_path: Path) -> None:
    name = "0123456789abcdef" * 4
    (tmp_path / name).write_bytes(encoded(picture()))
    store = ImageStore(tmp_path / "data", ImageSources(tmp_path, []).read)
    assert store.put(name).size == (32, 24)
    with pytest.raises(RowError, match="not an image in PNG"):
        store.put(name[::-1])


def test_a_conversation_names_its_images_by_content(tmp_path: Path) -> None:
    data = encoded(picture())
    message = Message("user", (Part(image=data), Part(text="What?")))
    masked = Message("assistant", (Part(text="A."),), trained=False)
    turns = (message, masked, Message.of("user", "And?"), Message.of("assistant", "B."))
    asked = Conversation(turns, "messages", "What?", "g", "x:1")
    kept = ImageStore(tmp_path, ImageSources(tmp_path, []).read).resolve(asked)
    assert (tmp_path / str(kept.images[0].image)).read_bytes() == data
    assert [m.trained for m in kept.messages] == [True, False, True, True]
    assert Conversation.from_json(kept.to_json()) == kept


# ------------------------------------------------------------------------------------- pictures of a Hub data set

OPENED: dict[str, Callable[[Image.Image], Image.Image]] = {  # what a Hub data set hands over, from an RGB picture
    **{mode: lambda image, mode=mode: image.convert(mode) for mode in ("RGB", "CMYK", "YCbCr", "HSV", "RGBA", "RGBX")},
    "LAB": lambda image: image.convert("LAB"),
    "RGBa": lambda image: image.convert("RGBA").convert("RGBa"),
    "floats up to 1": lambda image: Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255),
    "floats up to 255": lambda image: image.convert("F"),
    "floats up to 65,535": lambda image: Image.fromarray(np.asarray(image.convert("L"), np.float32) * 257),
    "16 bits": lambda image: Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257),
    "8 bits in 32": lambda image: image.convert("I"),
    "16 bits in 32": lambda image: Image.fromarray(np.asarray(image.convert("L"), np.int32) * 257),
    "grey and alpha": lambda image: image.convert("LA"),
    "grey and its alpha multiplied": lambda image: image.convert("LA").convert("La"),
    "a palette and alpha": lambda image: image.quantize(16).convert("PA"),
    "an open CMYK JPEG": lambda image: Image.open(io.BytesIO(encoded(image.convert("CMYK"), "JPEG", quality=95))),
    "an animation": lambda image: Image.open(io.BytesIO(animation(image, "GIF"))),
    "an animated WebP": lambda image: Image.open(io.BytesIO(animation(image, "WEBP"))),
    "lying on its side": lambda image: Image.open(
        io.BytesIO(encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=TURNED))
    ),
}


def animation(image: Image.Image, kind: str) -> bytes:
    return encoded(image, kind, save_all=True, append_images=[Image.new("RGB", image.size, "blue")], quality=95)


@pytest.mark.parametrize("what", OPENED)
def test_a_picture_that_a_hub_data_set_has_opened_is_stored_as_it_looks(tmp_path: Path, what: str) -> None:
    opened = OPENED[what](picture())
    part = ImageStore(tmp_path, ImageSources(tmp_path, []).read).put(reference_of(opened, "image"))
    assert part.size == picture().size
    shown = np.asarray(open_rgb(tmp_path / str(part.image)), np.int16)
    is_grey = opened.mode in ("F", "I", "I;16", "LA", "La")
    looks = np.asarray(picture().convert("L").convert("RGB") if is_grey else picture(), np.int16)
    assert np.abs(shown - looks).mean() < 8


def unusable(value: object) -> str:
    with pytest.raises(RowError) as error:
        reference = reference_of(value, "column 'image'")
        assert isinstance(reference, bytes)
        check_image(reference)
    return f"{error.value.reason}: {error.value}"


def test_a_picture_of_a_hub_data_set_that_cannot_be_used_costs_its_row() -> None:
    cut = Image.open(io.BytesIO(JPEG[: len(JPEG) // 2]))
    broken = picture()
    broken.info["transparency"] = "x"
    assert unusable(cut).startswith("bad image: cannot be decoded: ")
    assert unusable(broken).startswith("bad image: cannot be decoded: ")
    assert unusable(Image.new("RGB", (0, 5))).startswith("image too small: 0 x 5 pixels")
    assert unusable({"bytes": JPEG[: len(JPEG) // 2], "path": "a.jpg"}).startswith("bad image: ")
    assert unusable(np.zeros((9, 9))) == (
        "missing image: column 'image' is a ndarray; wanted a path, a URL, base64 text or bytes"
    )
    for empty in (None, "", b"", [], {"bytes": b"", "path": None}):
        assert unusable(empty).startswith("missing image: column 'image' is empty")


def test_the_bytes_of_a_picture_come_in_many_wrappings() -> None:
    for value in (bytearray(JPEG), memoryview(JPEG), [JPEG], [{"bytes": JPEG, "path": None}]):
        assert reference_of(value, "image") == JPEG


# ----------------------------------------------------------------------------------------- how paths are written
