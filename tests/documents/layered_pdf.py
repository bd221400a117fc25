"""A PDF with a text layer as other programs write it: each character placed where it is printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pikepdf

_WIDTH, _LINE = 12, 30


def printed(line: str, groups_turned: bool) -> str:
    """A right-to-left line from left to right as printed; Latin runs, or only their groups, keep their direction."""
    run = "[!-~٠-٩]+" if groups_turned else "[!-~٠-٩]+(?: [!-~٠-٩]+)*"
    return re.sub(run, lambda match: match[0][::-1], line)[::-1]


def write_pdf(path: Path, lines: Sequence[str], *, groups_turned: bool = False, **metadata: str) -> None:
    """Right-to-left lines of a page, below each other."""
    pdf = pikepdf.new()
    text = [printed(line, groups_turned) for line in lines]
    codes = {character: code for code, character in enumerate(sorted(set("".join(text))), 1)}
    to_unicode = "".join(f"<{code:02x}> <{ord(character):04x}>\n" for character, code in codes.items())
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def "
        f"1 begincodespacerange <00> <ff> endcodespacerange {len(codes)} beginbfchar\n{to_unicode}endbfchar "
        "endcmap end end"
    )
    glyph = pdf.make_stream(b"1000 0 0 0 900 700 d1 0 0 900 700 re f")
    names = [pikepdf.Name(f"/c{code}") for code in codes.values()]
    font = pikepdf.Dictionary(
        Type=pikepdf.Name.Font,
        Subtype=pikepdf.Name.Type3,
        FontBBox=[0, 0, 1000, 1000],
        FontMatrix=[0.001, 0, 0, 0.001, 0, 0],
        CharProcs=pikepdf.Dictionary({str(name): glyph for name in names}),
        Encoding=pikepdf.Dictionary(Type=pikepdf.Name.Encoding, Differences=[1, *names]),
        FirstChar=1,
        LastChar=len(codes),
        Widths=[1000] * len(codes),
        ToUnicode=pdf.make_stream(cmap.encode()),
    )
    page = pdf.add_blank_page(page_size=(842, 595))
    page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F=pdf.make_indirect(font)))
    shown = [
        f"1 0 0 1 {800 - _WIDTH * (len(line) - place)} {540 - _LINE * number} Tm <{codes[character]:02x}> Tj"
        for number, line in enumerate(text)
        for place, character in enumerate(line)
    ]
    page.Contents = pdf.make_stream(f"BT /F {_WIDTH} Tf {' '.join(shown)} ET".encode())
    for name, value in metadata.items():
        pdf.docinfo[f"/{name}"] = value
    pdf.save(path)
