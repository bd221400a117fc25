"""The JSON Schemas of the two page tasks that are built in, in the form that every endpoint takes.

Every field is required and may be null, no other is allowed: OpenAI's strict mode wants it so, Gemini's takes it. Keys
are in the order in which they are written.
"""

from __future__ import annotations

from gemtune.files import JsonObject

NULLABLE_TEXT = ["string", "null"]


def _object(description: str, **properties: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(description: str, entry: JsonObject) -> JsonObject:
    return {"type": "array", "description": description, "items": entry}


def _text(description: str) -> JsonObject:
    return {"type": NULLABLE_TEXT, "description": description}


def _choice(description: str, *choices: str) -> JsonObject:
    return {"type": "string", "enum": list(choices), "description": description}


def _whole(description: str) -> JsonObject:
    return {"type": ["integer", "null"], "description": description}


CONTENT = _object(
    "The content of a page.",
    elements=_list(
        "Everything on the page, in reading order: right to left where the text is.",
        _object(
            "A part of the page.",
            type=_choice(
                "what it is",
                "header",
                "title",
                "heading",
                "paragraph",
                "list",
                "table",
                "form",
                "figure",
                "caption",
                "formula",
                "stamp",
                "signature",
                "handwriting",
                "footnote",
                "footer",
                "page_number",
            ),
            markdown={"type": "string", "description": "its text, as Markdown"},
        ),
    ),
)

FIELDS = _object(
    "What a page is.",
    classification=_object(
        "what kind of page it is",
        kind=_choice(
            "the kind of document",
            "letter",
            "memo",
            "invoice",
            "receipt",
            "form",
            "contract",
            "certificate",
            "identity",
            "report",
            "minutes",
            "decree",
            "book",
            "article",
            "slide",
            "statement",
            "blank",
            "other",
        ),
        title=_text("its title or subject, as printed"),
        languages=_list("the languages in it, the main one first", {"type": "string", "description": "such as ar, en"}),
    ),
    source=_object(
        "who made it",
        issuer=_text("the organisation or person, as printed"),
        department=_text("its part that wrote this, as printed"),
        country=_text("as printed"),
        author=_text("the person who wrote it, as printed"),
    ),
    dates=_list(
        "every date on the page",
        _object(
            "a date",
            role=_choice("what happened then", "issued", "received", "due", "signed", "event", "expires", "other"),
            text={"type": "string", "description": "as printed"},
            date={"type": NULLABLE_TEXT, "format": "date", "description": "as YYYY-MM-DD, where it is Gregorian"},
            calendar=_choice("its calendar", "gregorian", "hijri", "other"),
        ),
    ),
    physical=_object(
        "the page itself",
        page=_whole("its number, where one is printed"),
        pages=_whole("of how many, where that is printed"),
        orientation=_choice("how it lies", "portrait", "landscape"),
        writing=_choice("how it was written", "printed", "handwritten", "mixed", "none"),
        color={"type": "boolean", "description": "whether anything on it has a color"},
    ),
    marks=_list(
        "official marks, one by one",
        _object(
            "a mark",
            kind=_choice(
                "what it is", "stamp", "seal", "letterhead", "logo", "barcode", "qr_code", "watermark", "other"
            ),
            text=_text("what can be read in it"),
        ),
    ),
    signatures=_list(
        "signatures, and places for one",
        _object(
            "a signature",
            signed={"type": "boolean", "description": "whether there is a signature, not only its place"},
            name=_text("of whom, as printed"),
            role=_text("the office or title, as printed"),
        ),
    ),
    routing=_object(
        "where it goes",
        reference=_text("its number or file mark, as printed"),
        sender=_text("as printed"),
        recipients=_list("to whom, as printed", {"type": "string"}),
        copies=_list("who else gets it, as printed", {"type": "string"}),
    ),
    attachments=_list("what it says is attached, as printed", {"type": "string"}),
    condition=_object(
        "how well it can be read",
        legibility=_choice("of its text", "good", "fair", "poor", "none"),
        damage=_list(
            "what is wrong with it",
            _choice(
                "a fault", "skewed", "cut", "stained", "faded", "noisy", "uneven_light", "torn", "folded", "covered"
            ),
        ),
    ),
    confidence={
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "how sure you are that all of this is right: 0 is a guess, 1 is certain",
    },
)

SCHEMAS: dict[str, JsonObject] = {"content": CONTENT, "fields": FIELDS}
