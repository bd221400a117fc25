"""What a page looks like in 256 bits: pages that two documents share are found by how few of them differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from gemtune.documents.folder import Page

SIDE = 16  # of the dHash: SIDE x SIDE comparisons of a cell with the one to its right
NEAR = 10  # bits of 256 in which two pictures of one page differ at most, ...
_SHARE = 0.15  # ... of the bits that either has: forms that are filled in differently differ in 0.24 of them, ...
_TELLING = 10  # ... which are at least so many: a line and a page number look alike everywhere
_SAME = 1  # grey levels: on empty paper, noise would decide
_BLOCK = 1_024  # pages compared with all others at a time


def fingerprint(image: Image.Image) -> str:
    """A dHash of 16x16 in 64 hex digits: whether each cell is lighter than its neighbour.

    >>> fingerprint(Image.new("L", (800, 1000), 255)) == "0" * 64
    True
    """
    cells = np.asarray(image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX), np.int16)
    return np.packbits(cells[:, 1:] > cells[:, :-1] + _SAME).tobytes().hex()


def distance(one: str, other: str) -> int:
    """In how many bits two fingerprints differ.

    >>> distance("0f", "0e")
    1
    """
    return (int(one, 16) ^ int(other, 16)).bit_count()


def shared_pages(pages: Sequence[Page], most: int = NEAR) -> list[tuple[Page, Page, int]]:
    """Pairs of pages of different documents that are one page, with their distance; nearly empty ones are no pair.

    A page that was copied, resized or stored again is found; one that was scanned twice is not.
    """
    marked = [page for page in pages if not page.blank]
    if not marked:
        return []
    bits = np.frombuffer(bytes.fromhex("".join(page.fingerprint for page in marked)), ">u8").reshape(len(marked), -1)
    documents = np.unique([page.document for page in marked], return_inverse=True)[1]
    pairs = []
    for start in range(0, len(marked), _BLOCK):
        block = slice(start, start + _BLOCK)
        differing = np.zeros((len(bits[block]), len(bits) - start), np.uint16)  # (block, pages from its first on)
        for word in range(bits.shape[1]):
            differing += np.bitwise_count(bits[block, None, word] ^ bits[None, start:, word])
        is_pair = (differing <= most) & (documents[block, None] != documents[None, start:])
        for first, second in np.argwhere(np.triu(is_pair, 1)):
            either = int(np.bitwise_count(bits[start + first] | bits[start + second]).sum())
            if either >= _TELLING and differing[first, second] <= _SHARE * either:
                pairs.append((marked[start + first], marked[start + second], int(differing[first, second])))
    return pairs
