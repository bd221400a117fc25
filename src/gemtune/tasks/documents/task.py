"""documents: the image of a page becomes JSON; scored by how well it was read, and by what was made up."""

from __future__ import annotations

import json
from types import MappingProxyType

from gemtune.data.cells import is_empty, unpacked
from gemtune.data.conversation import Conversation, Message, Part, validate
from gemtune.data.images import reference_of
from gemtune.errors import RowError, shown
from gemtune.files import JsonObject
from gemtune.recipe import document_sections
from gemtune.tasks.base import Row, Task, text_of
from gemtune.tasks.documents.replies import schema_fault
from gemtune.tasks.documents.schemas import SCHEMAS
from gemtune.tasks.documents.scores import CONTENT, METRICS, OF_A_FORM, OF_SOURCES, Truth, is_apart, score_reply

TEXTS = ("document", "reference", "ocr", "layer")  # columns that a row may have, for its scores


class Documents(Task):
    """Columns `image`, `prompt` and `answer`; `task`, the name of the page task, or else its `schema`.

    Without both it is `content`, whose answers are Markdown, in JSON or as it is; those of any other are JSON.
    `reference`, the true text or JSON of a page, takes the answer's place in scores; `ocr` and `layer` are what else is
    known of its text.

    >>> from gemtune.recipe.schema import Recipe
    >>> task = Documents(Recipe(name="d", task="documents", data=[{"source": "rows.jsonl"}]))
    >>> row = {"image": "p.png", "prompt": "Read.", "task": "content", "answer": '{"elements": []}'}
    >>> page = task.conversation({**row, "reference": "مرحبا"}, "rows.jsonl:1")
    >>> task.score(page, '{"elements": [{"type": "paragraph", "markdown": "مرحبآ"}]}')["cer"]
    0.0
    """

    section = "documents"
    options: document_sections.Documents
    metric = "similarity"
    metrics = MappingProxyType(METRICS)
    columns = ("image", "prompt", "answer")
    unanswered = MappingProxyType({"answer": "?"})
    beside = ("teacher", "ocr", "layer")
    headline = ("cer", "wer", "fact_recall", "field_f1", "schema_valid", "unsupported")

    def conversation(self, row: Row, where: str) -> Conversation:
        prompt = text_of(row, "prompt")
        if not prompt:
            raise RowError("empty prompt", "column 'prompt' is empty; wanted what is asked about the page")
        name = text_of(row, "task") or (CONTENT if is_empty(row.get("schema")) else "page")
        image = Part(image=reference_of(row.get("image"), "column 'image'"))
        asked = Message("user", (image, Part(text=prompt)))
        answer = Message.of("assistant", _answer_of(row))
        texts = {column: text for column in TEXTS if (text := text_of(row, column))}
        number = {"number": row["number"]} if isinstance(row.get("number"), int) else {}
        meta = {"task": name, "schema": _schema_of(row, name), **texts, **number}
        group = texts.get("document", where)
        return Conversation(validate((asked, answer)), "documents", key=prompt, group=group, where=where, meta=meta)

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        return score_reply(reply, self._truth(conversation))

    def replies_beside(self, conversation: Conversation) -> dict[str, tuple[str, dict[str, float]]]:
        """The teacher's answer, as far as more than it is known of a page; what OCR and the layer read on it."""
        meta, truth, others = conversation.meta, self._truth(conversation), {}
        if meta.get("reference"):
            scores = score_reply(conversation.answer, truth)
            told = scores.keys() if is_apart(meta) else OF_SOURCES
            others["teacher"] = conversation.answer, {name: scores[name] for name in scores if name in told}
        for source in ("ocr", "layer") if truth.is_content else ():
            if meta.get(source):  # which is a source itself, and has no form
                scores = score_reply(meta[source], truth)
                untold = {*OF_SOURCES, *OF_A_FORM}
                others[source] = meta[source], {name: scores[name] for name in scores if name not in untold}
        return others

    def _truth(self, conversation: Conversation) -> Truth:
        folding, hamza = self.options.folding, self.options.fold_hamza
        return Truth.of(conversation.meta, conversation.answer, folding, hamza=hamza)


def _answer_of(row: Row) -> str:
    """JSON as text, also where a row has it as an object."""
    answer = row.get("answer")
    if isinstance(answer, dict | list):
        return json.dumps(answer, ensure_ascii=False)
    return text_of(row, "answer")


def _schema_of(row: Row, name: str) -> JsonObject | None:
    """The row's own schema, or the one of a page task of ours; none of a page in plain Markdown."""
    given = unpacked(row.get("schema"))
    if is_empty(given):
        return None if name == CONTENT and not _answer_of(row).startswith("{") else SCHEMAS.get(name)
    if not isinstance(given, dict):
        raise RowError("bad schema", f"column 'schema' holds {shown(given, 60)}; wanted a JSON Schema")
    if fault := schema_fault(given):
        raise RowError("bad schema", f"column 'schema' is no JSON Schema: {fault}")
    return given
