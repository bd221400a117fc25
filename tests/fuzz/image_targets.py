"""Archives and images."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from fuzz import seeds
from fuzz.attempts import equal, refusals
from fuzz.harness import Target
from fuzz.inputs import File, spoiled_files
from gemtune.data.image_sources import ImageSources
from gemtune.data.images import check_image, open_rgb, size_of, thumbnail
from gemtune.errors import RowError


def try_archive(value: File, folder: Path) -> None:
    """An archive of images, every one of which is read."""
    (folder / value.name).write_bytes(value.data)
    sources = ImageSources(folder, [value.name])
    for member in ["a/PNG-RGB.png", "a/JPEG-RGB.jpg", *islice(sources._members, 50)]:
        with refusals():
            sources.read(member)


def try_image(value: File, folder: Path) -> None:
    """A picture is checked; what is accepted can be opened, as it is at training, and has the size that was found."""
    suffix, size = check_image(value.data)
    path = folder / f"image{suffix}"
    path.write_bytes(value.data)
    try:
        equal(size_of(path), size, "the size of a picture")
        equal(open_rgb(path).size, size, "the size of a picture that was opened")
        thumbnail(path)
    except RowError as error:
        raise AssertionError(f"what is accepted cannot be opened: {error}") from error


TARGETS: dict[str, Target] = {
    "archives": Target(spoiled_files(seeds.archives), try_archive, 250),
    "images": Target(spoiled_files(seeds.images), try_image, 400),
}
