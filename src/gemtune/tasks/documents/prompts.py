"""What the teacher and the student are asked, for the built-in page tasks and for a schema of the user's own."""

from __future__ import annotations

from collections.abc import Iterator

from gemtune.files import JsonObject

_RULES = """\
- Copy text as it is printed, in its own language and script: the same words, spelling, digits (١٢٣ stays ١٢٣, 123 \
stays 123), punctuation and diacritics. Do not translate, correct, summarise or complete anything.
- Where a word cannot be read, write [?]. Never guess, and never add what is not on the page.
- Arabic is read from right to left, columns too: the right column comes first. Write it in logical order, without \
direction marks and without tatweel that only stretches a line.
- Answer with one JSON object and nothing else: no code fence, no comment. Letters are not written as \\u \
escapes."""

_CONTENT = f"""\
You read pages of documents, Arabic first, and write down what is on them. The image is one page. Give its content as \
JSON: every element in reading order, with its type and its text as Markdown.

Rules
{_RULES}
- title and heading: `#` for the title of the page, `##` and deeper for headings below it.
- paragraph: one element a paragraph; join the lines of a paragraph, and a word that a line end divides. **Bold** and \
*italic* only where it stands out in print.
- list: `- ` or `1. ` with the page's own numbers, one line an entry; two spaces deeper for a list in a list.
- table: as HTML on one line, <table>, <tr>, <th> and <td>, with rowspan and colspan where cells are joined and no \
other attributes; cells of a right-to-left table in reading order, the rightmost first. An empty cell is <td></td>.
- form: one line a field, `label: value`; a box is [x] or [ ].
- figure: ![a few words on what it shows](figure), and any text in it after that. caption: the text under or over it.
- formula: LaTeX between $ signs.
- stamp, signature, handwriting: what can be read in it; [?] where nothing can.
- footnote: with its mark. header, footer, page_number: what repeats on every page, at its place.
- An empty page has no elements: {{"elements": []}}."""

_FIELDS = f"""\
You describe pages of documents for an archive, Arabic first. The image is one page. Say as JSON what it is, who made \
it, its dates, what it looks like, its official marks and signatures, where it goes, what is attached, and in what \
condition it is.

Rules
{_RULES}
- null where the page does not say it, and [] where there is none. A field is only filled from this page.
- dates: every date, with its text as printed; `date` as YYYY-MM-DD only for a Gregorian date with day, month and \
year, else null. A Hijri date is not converted.
- marks: one entry each for a stamp, seal, letterhead, logo, barcode, QR code or watermark.
- signatures: one entry each, also for a place to sign that is empty (`signed` is false then).
- confidence: lower it for every field that you are unsure of."""

TEACHER = {"content": _CONTENT, "fields": _FIELDS}
STUDENT = {
    "content": "Read this page. Answer with its content as JSON: its elements in reading order, each with its type and "
    "its Markdown.",
    "fields": "Read this page. Answer with a description of it as JSON: classification, source, dates, physical, "
    "marks, signatures, routing, attachments, condition, confidence.",
}

WITH_SCHEMA = "{prompt}\n\nThe answer follows this JSON Schema:\n{schema}"

MOST_NAMES = 40  # of fields in the student's prompt


def asking_for(name: str, schema: JsonObject, *, is_long: bool = False) -> str:
    """A prompt made from a schema: short for the student; with rules and what each field means for the teacher.

    >>> invoice = {"title": "invoice", "properties": {"total": {"type": "number", "description": "to be paid"}}}
    >>> asking_for("invoice", invoice)
    'Read this page. Answer with its invoice as JSON: total.'
    >>> print(asking_for("invoice", invoice, is_long=True).splitlines()[-1])
    - total: to be paid
    """
    what = str(schema.get("title") or name.replace("_", " "))
    fields = schema.get("properties", {})
    if not is_long:
        names = [*list(fields)[:MOST_NAMES], *(["and the rest"] if len(fields) > MOST_NAMES else [])]
        return f"Read this page. Answer with its {what} as JSON: {', '.join(names)}."
    about = f" {schema['description']}" if isinstance(schema.get("description"), str) else ""
    return "\n".join(
        [
            f"You read pages of documents, Arabic first. The image is one page. Give its {what} as JSON.{about}",
            "",
            "Rules",
            _RULES,
            "- null where the page does not say it, where the schema allows null; [] for a list without entries.",
            "",
            "Fields",
            *_described(fields, ""),
        ]
    )


def _described(fields: JsonObject, indent: str) -> Iterator[str]:
    """A line for each field, those of an object or of a list's entries below it."""
    for name, field in fields.items():
        if not isinstance(field, dict):
            continue
        about = field.get("description")
        yield f"{indent}- {name}: {about}" if isinstance(about, str) else f"{indent}- {name}"
        for below in (field, field.get("items")):
            if isinstance(below, dict) and isinstance(below.get("properties"), dict):
                yield from _described(below["properties"], indent + "  ")
