"""What a photo or a scan says of itself: author, comments, place; of that nothing is in its page image."""

from __future__ import annotations

import contextlib
import re
import struct

from PIL import IptcImagePlugin
from PIL.ImageFile import ImageFile

LOCATION = "Location"
_TAGS = {  # of EXIF, in the file's first directory and in that of the camera
    0x010E: "Title",
    0x013B: "Author",
    0x8298: "Copyright",
    0x9286: "Comment",
    0x9C9B: "Title",
    0x9C9C: "Comment",
    0x9C9D: "Author",
    0x9C9F: "Subject",
    0xA430: "Author",
}
_CAMERA, _PLACE = 0x8769, 0x8825  # directories of EXIF
_IPTC = {(2, 5): "Title", (2, 80): "Author", (2, 90): "City", (2, 116): "Copyright", (2, 120): "Comment"}
_XML = re.compile(r"<[^<>]*>")
_CODES = (b"ASCII\0\0\0", b"UNICODE\0", b"JIS\0\0\0\0\0", b"\0" * 8)  # in front of a comment
# What Pillow raises on damaged metadata, of which nothing can be said then.
_DAMAGED = (OSError, ValueError, TypeError, SyntaxError, LookupError, ArithmeticError, struct.error)


def scan_metadata(image: ImageFile) -> dict[str, str]:
    """By what it is: `Author`, `Title`, `Comment`, `Location` ...; EXIF, IPTC, XMP, PNG's texts and JPEG's comment."""
    told: dict[str, list[str]] = {}

    def tell(key: str, value: object) -> None:
        text = _text(value)
        if text and text not in told.setdefault(key, []):
            told[key].append(text)

    with contextlib.suppress(*_DAMAGED):
        exif = image.getexif()
        for tag, value in [*exif.items(), *exif.get_ifd(_CAMERA).items()]:
            if tag in _TAGS:
                tell(_TAGS[tag], value)
        place = exif.get_ifd(_PLACE)
        if 2 in place and 4 in place:  # its latitude and longitude
            tell(LOCATION, " ".join(f"{float(part):g}" for side in (2, 4) for part in place[side]))
    with contextlib.suppress(*_DAMAGED):
        for number, said in (IptcImagePlugin.getiptcinfo(image) or {}).items():
            for one in said if isinstance(said, list) else [said]:
                tell(_IPTC.get(number, "IPTC"), one)
    for key, value in image.info.items():
        if key == "comment":
            tell("Comment", value)
        elif key in ("xmp", "XML:com.adobe.xmp"):
            tell("XMP", _XML.sub(" ", _text(value)))
        elif isinstance(value, str) and isinstance(key, str):  # a text of PNG
            tell(key, value)
    return {key: "; ".join(texts) for key, texts in told.items() if texts}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value[8:] if value[:8] in _CODES else value
        encoding = "utf-16-le" if value[1:2] == b"\0" else "utf-8"
        value = value.decode(encoding, "replace")
    return " ".join(str(value).replace("\0", " ").split())
