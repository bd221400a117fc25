"""Run directory -> report.html and report.md: a view of the files in it, for people; needs no torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import jinja2
from markupsafe import Markup

from gemtune.files import write_text
from gemtune.reporting import text
from gemtune.reporting.page import page_data
from gemtune.runs import Run

LONGEST = 20_000  # characters of a text kept on the page; the whole one is in eval/*.jsonl
FILTERS = (
    text.count,
    text.interval,
    text.number,
    text.one_line,
    text.plain,
    text.plain_json,
    text.preview,
    text.score,
    text.value_text,
)


def write_report(run: Run) -> Path:
    """Writes report.html and report.md of a run, as far as it has got, and returns the path of the page."""
    data = page_data(run)
    write_text(run.report_markdown, environment("md").get_template("report.md.jinja").render(data))
    write_text(run.report_page, environment("html").get_template("report.html.jinja").render(data))
    return run.report_page


@cache
def environment(kind: Literal["html", "md"]) -> jinja2.Environment:
    """Templates in which every value is made harmless on its way out, without being asked to."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gemtune.reporting"),
        autoescape=kind == "html",  # noqa: S701 (Markdown has its own escaping: finalize)
        finalize=text.markdown if kind == "md" else _harmless,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    environment.globals["LONGEST"] = LONGEST
    return environment


def _harmless(value: object) -> str:
    """A value for a page whose text is escaped after this; what was made here (Markup) stays as it is."""
    return value if isinstance(value, Markup) else text.visible(text.value_text(value))
