"""The coloured datum: what the model sees, and in green what it is trained on; for a terminal and as an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.data.conversation import Conversation
from gemtune.data.images import stored_image, thumbnail
from gemtune.errors import visible
from gemtune.files import write_text
from gemtune.rendering.renderer import Example, Renderer
from gemtune.reporting.text import printable

if TYPE_CHECKING:
    from rich.text import Text


def tokens(renderer: Renderer, example: Example) -> list[tuple[str, bool]]:
    """(printable text, is it trained) of every token; the tokens of an image are one."""
    trained = {position for start, end in example.spans for position in range(start, end)}
    lengths = {start: end - start for start, end in example.image_spans}
    inside = {position for start, end in example.image_spans for position in range(start + 1, end)}
    pieces = [printable(piece) for piece in renderer.pieces(example.input_ids)]
    return [
        (f"[{lengths[position]} image tokens]" if position in lengths else piece, position in trained)
        for position, piece in enumerate(pieces)
        if position not in inside
    ]


def terminal_text(renderer: Renderer, example: Example) -> Text:
    """A rich Text: green is trained, grey is context."""
    from rich.text import Text

    text = Text()
    for piece, trained in tokens(renderer, example):
        text.append(piece, style="bold green" if trained else "grey62")
    return text


def write_page(path: Path, data: Path, renderer: Renderer, pairs: Sequence[tuple[Conversation, Example]]) -> None:
    """Writes the page of conversations and their examples; everything in it is escaped, images lie in `data`."""
    from jinja2 import Environment, FileSystemLoader

    folder = package_files("gemtune.rendering") / "templates"
    environment = Environment(loader=FileSystemLoader(str(folder)), autoescape=True)
    rows = [
        {
            "images": [
                {"at": at, "thumbnail": thumbnail(image) if (image := stored_image(data, path)) else ""}
                for at, path in zip(renderer.image_tokenizer.sizes(c.images), c.image_paths, strict=True)
            ]
            if renderer.image_tokenizer
            else [],
            "where": visible(c.where),
            "length": len(e.input_ids),
            "trained": sum(b - a for a, b in e.spans),
            "tokens": tokens(renderer, e),
        }
        for c, e in pairs
    ]
    write_text(path, environment.get_template("preview.html.jinja").render(data=rows))
