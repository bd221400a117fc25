"""A reply about a page against what is true of it, in the scores that the page and its task have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gemtune.files import JsonObject
from gemtune.metrics import arabic, fields, reading
from gemtune.metrics.arabic import FOLDINGS, Folding
from gemtune.metrics.facts import Fact, facts_in, missed
from gemtune.metrics.markdown import Markdown, outline_f1, read_markdown, same_lines_f1
from gemtune.metrics.statistics import F1, Metric, Ratio
from gemtune.metrics.tables import compare_tables
from gemtune.metrics.text import chrf
from gemtune.tasks.documents.replies import Reply, is_of_schema, leaves, page_markdown, read_reply

CONTENT = "content"


def is_apart(meta: Mapping[str, object]) -> bool:
    """Whether the truth about a page is known apart from its answer: for its fields, a reference in JSON says it."""
    reference = meta.get("reference")
    return bool(reference) and (meta.get("task") == CONTENT or isinstance(read_reply(str(reference)).value, dict))


@dataclass(frozen=True)
class Truth:
    """What is true of a page: its text, its structure or its fields, and everything that it is known to say.

    `text` and `fields` are of the user's reference where there is one, else of the teacher's answer; so is `structure`,
    but of a reference without any it is the teacher's.
    """

    is_content: bool
    schema: JsonObject | None
    text: Markdown
    structure: Markdown
    fields: object
    sources: tuple[str, ...]
    folding: Folding
    hamza: bool

    @classmethod
    def of(cls, meta: Mapping[str, object], answer: str, folding: Folding = "arabic", *, hamza: bool = False) -> Truth:
        reference = str(meta.get("reference") or "")
        given, taught = read_reply(reference), read_reply(answer)
        is_content = meta.get("task") == CONTENT
        text = read_markdown(page_markdown(given if reference else taught)) if is_content else _EMPTY
        structure = text if text.outline or not is_content else read_markdown(page_markdown(taught))
        truth = given.value if is_apart(meta) else taught.value
        known = text.text if is_content else "\n".join(leaves(given.value or given.text or truth))
        sources = (known, *(str(meta.get(name) or "") for name in ("ocr", "layer")))
        schema = meta.get("schema")
        return cls(
            is_content, schema if isinstance(schema, dict) else None, text, structure, truth, sources, folding, hamza
        )


_EMPTY = read_markdown("")


def _metrics() -> dict[str, Metric]:
    metrics: dict[str, Metric] = {
        "similarity": Metric(of_answer=False),
        "unsupported": Metric(higher_is_better=False, combine=Ratio("statements_without_source", "statements")),
        "loop": Metric(higher_is_better=False),
        "cer": Metric(higher_is_better=False, combine=Ratio("edits", "characters")),
        "wer": Metric(higher_is_better=False, combine=Ratio("word_edits", "words")),
        "cer_macro": Metric(higher_is_better=False, of_answer=False),
        "cer_capped": Metric(higher_is_better=False, of_answer=False),
        "table_teds": Metric(combine=Ratio("teds_sum", "tables")),
        "table_cell_f1": Metric(combine=Ratio("cell_f1_sum", "tables")),
        "fact_recall": Metric(combine=Ratio("facts_found", "facts_true", of_nothing=1.0)),
        "fact_precision": Metric(combine=Ratio("facts_found", "facts_given")),
        "field_precision": Metric(combine=Ratio("fields_found", "fields_given")),
        "field_recall": Metric(combine=Ratio("fields_found", "fields_true", of_nothing=1.0)),
        "field_f1": Metric(combine=F1("fields_found", "fields_given", "fields_true")),
    }
    for name in ("word_f1", "chrf", "blank", "structure", "heading_f1", "list_f1", "fields_exact"):
        metrics[name] = Metric(of_answer=False)
    for folding in FOLDINGS:
        for rate, edits, length in (("cer", "edits", "characters"), ("wer", "word_edits", "words")):
            ratio = Ratio(f"{edits}_{folding}", f"{length}_{folding}")
            metrics[f"{rate}_{folding}"] = Metric(higher_is_better=False, combine=ratio)
    for kind in fields.TYPES:
        metrics[f"field_f1_{kind}"] = Metric(combine=F1(f"{kind}s_found", f"{kind}s_given", f"{kind}s_true"))
    parts = [
        part for metric in metrics.values() if isinstance(metric.combine, F1 | Ratio) for part in metric.combine.parts
    ]
    return {**metrics, **dict.fromkeys(parts, Metric(reported=False))}


METRICS = _metrics()
OF_A_FORM = ("json_valid", "schema_valid")  # scores that only a reply in JSON can have
OF_SOURCES = ("unsupported", "statements", "statements_without_source")


def score_reply(text: str, truth: Truth) -> dict[str, float]:
    """The scores of a reply; which there are depends on the page alone."""
    reply = read_reply(text)
    page = read_markdown(page_markdown(reply)) if truth.is_content else _EMPTY
    said = page.text if truth.is_content else "\n".join(fields.texts_in(reply.value, truth.schema))
    form = {} if truth.is_content and truth.schema is None else {"json_valid": float(reply.is_json)}
    if truth.schema is not None:
        form["schema_valid"] = float(reply.is_json and is_of_schema(reply.value, truth.schema))
    about = _content_scores(page, truth) if truth.is_content else _field_scores(reply, truth)
    stuck = float(reading.is_loop(text) or reading.is_loop(said))
    return {"similarity": about.pop("similarity"), **form, **about, **_support(said, truth), "loop": stuck}


def _content_scores(page: Markdown, truth: Truth) -> dict[str, float]:
    texts = {folding: _folded(page.text, folding, truth.hamza) for folding in FOLDINGS}
    truths = {folding: _folded(truth.text.text, folding, truth.hamza) for folding in FOLDINGS}
    if not truths["all"]:  # a page without text has no error rate
        blank = float(not texts["all"])
        return {"similarity": blank, "blank": blank, **_structure_scores(page, truth.structure)}
    characters = {folding: reading.character_edits(texts[folding], truths[folding]) for folding in FOLDINGS}
    words = {folding: reading.word_edits(texts[folding], truths[folding]) for folding in FOLDINGS}
    own = characters[truth.folding]
    capped = min(own.rate, 1.0)
    scores = {
        "similarity": 1.0 - capped,
        "cer": own.rate,
        "wer": words[truth.folding].rate,
        "cer_macro": own.rate,
        "cer_capped": capped,
        "word_f1": reading.word_bag_f1(texts["all"], truths["all"]),
        "chrf": chrf(texts["all"], truths["all"]),
        "edits": float(own.edits),
        "characters": float(own.length),
        "word_edits": float(words[truth.folding].edits),
        "words": float(words[truth.folding].length),
    }
    for rate, edits, length, counts in (
        ("cer", "edits", "characters", characters),
        ("wer", "word_edits", "words", words),
    ):
        for folding, count in counts.items():
            scores[f"{rate}_{folding}"] = count.rate
            scores[f"{edits}_{folding}"], scores[f"{length}_{folding}"] = float(count.edits), float(count.length)
    return {**scores, **_fact_scores(page.text, truth.text.text), **_structure_scores(page, truth.structure)}


def _fact_scores(text: str, truth: str) -> dict[str, float]:
    """How many dates, amounts, IBANs and ids are right to the digit; nothing where the truth has none."""
    true, given = _facts(truth), facts_in(text)
    if not true:
        return {}
    counts = {
        "facts_found": float(len(true) - len(missed(true, given))),
        "facts_given": float(len(given)),
        "facts_true": float(len(true)),
    }
    return {**{name: _of_one_row(name, counts) for name in ("fact_recall", "fact_precision")}, **counts}


@lru_cache(maxsize=512)
def _facts(truth: str) -> list[Fact]:
    return facts_in(truth)


@lru_cache(maxsize=512)  # a truth is compared with several replies
def _folded(text: str, folding: Folding, hamza: bool) -> str:
    return arabic.fold(text, folding, hamza=hamza)


def _structure_scores(page: Markdown, truth: Markdown) -> dict[str, float]:
    scores = {"structure": outline_f1(page.outline, truth.outline)}
    if truth.headings:
        scores["heading_f1"] = same_lines_f1(page.headings, truth.headings)
    if truth.entries:
        scores["list_f1"] = same_lines_f1(page.entries, truth.entries)
    if truth.tables:
        compared = compare_tables(page.tables, truth.tables)
        scores |= {
            "table_teds": compared.teds / compared.tables,
            "table_cell_f1": compared.cell_f1 / compared.tables,
            "teds_sum": compared.teds,
            "cell_f1_sum": compared.cell_f1,
            "tables": float(compared.tables),
        }
    return scores


def _field_scores(reply: Reply, truth: Truth) -> dict[str, float]:
    hits = fields.compare_fields(reply.value, truth.fields, truth.schema)
    total = {
        "fields_found": float(hits.found.total()),
        "fields_given": float(hits.given.total()),
        "fields_true": float(hits.true.total()),
    }
    names = ("field_precision", "field_recall", "field_f1")
    scores = {name: _of_one_row(name, total) for name in names}
    is_exact = total["fields_found"] == total["fields_given"] == total["fields_true"]
    scores = {"similarity": scores["field_f1"], **scores, "fields_exact": float(is_exact), **total}
    for kind in (kind for kind in fields.TYPES if hits.true[kind]):
        counts = {
            f"{kind}s_found": float(hits.found[kind]),
            f"{kind}s_given": float(hits.given[kind]),
            f"{kind}s_true": float(hits.true[kind]),
        }
        scores |= {f"field_f1_{kind}": _of_one_row(f"field_f1_{kind}", counts), **counts}
    return scores


def _of_one_row(name: str, counts: Mapping[str, float]) -> float:
    combine = METRICS[name].combine or (lambda scores: scores[name])
    return float(combine({part: np.array([count]) for part, count in counts.items()}))


def _support(text: str, truth: Truth) -> dict[str, float]:
    """The statements of a reply that nothing known of the page says."""
    sources = _sources(truth.sources)
    statements = reading.statements(text)
    alone = sum(not sources.support(statement) for statement in statements)
    return {
        "unsupported": alone / len(statements) if statements else 0.0,
        "statements_without_source": float(alone),
        "statements": float(len(statements)),
    }


@lru_cache(maxsize=64)
def _sources(texts: tuple[str, ...]) -> reading.Sources:
    return reading.Sources(texts)
