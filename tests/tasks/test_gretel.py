"""The layout of a well-known data set, 200 rows, through prepare, train and evaluate."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import gretel_shape
from gemtune.data.conversation import Conversation, read_conversations
from gemtune.files import read_jsonl
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.runs import PARTS


def test_every_row_is_kept_trained_and_scored_by_what_its_data_can_tell(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(gretel_shape.rows())
    source = tmp_path / "gretel.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"question": "sql_prompt", "schema": "sql_context", "sql": "sql"}
    recipe = write_recipe(
        "gretel",
        task="sql",
        data={"source": str(source), "columns": columns, "limit": None},
        split={"val": 20, "test": 60},
        train={"max_steps": 2, "max_length": 2048},
        evaluate={"limit": 60, "max_new_tokens": 4},
    )
    job = Job(recipe, say=lambda text: None)
    stages.train(job)
    summary = stages.evaluate(job)
    stages.report(job)
    data = job.run.prepared_data()
    conversations = [c for part in PARTS for c in read_conversations(job.run.part(part))]
    run = [c for c in conversations if _is_claimed(job, c)]
    golds = Counter(score for c in conversations for score in job.task.score(c, c.answer).values())
    wrong = [
        job.task.score(c, reply)["accuracy"] for c in conversations for reply in gretel_shape.wrong_replies(c.answer)
    ]
    dialects = Counter(c.meta["reading"]["dialect"] for c in conversations)
    with capsys.disabled():
        print(
            f"\n{len(rows)} rows in gretel's shape: {sum(data.kept.values())} kept, {len(run)} scored by running "
            f"({dict(dialects)}), the other {len(rows) - len(run)} by canonical form; golds below 1: "
            f"{golds.total() - golds[1.0]}; wrong replies: {len(wrong)}, of full marks: {sum(s == 1 for s in wrong)}"
        )
    assert sum(data.kept.values()) == len(rows) == 200 and not data.dropped
    assert len(run) == 160 and set(golds) == {1.0} and max(wrong) < 1
    assert summary and summary["metric"] == "accuracy" and summary["rows"] == 60
    scored = [c for c in read_conversations(job.run.part("test")) if _is_claimed(job, c)]
    assert summary["scored"]["execution"] == len(scored) < summary["scored"]["accuracy"] == 60
    assert data.scored["accuracy"] == 80 == data.scored["execution"] + len(list(_without_execution(job)))
    assert f"execution {data.scored['execution']}" in job.run.report_markdown.read_text(encoding="utf-8")


def _is_claimed(job: Job, conversation: Conversation) -> bool:
    return "execution" not in job.task.unscored(conversation)


def _without_execution(job: Job) -> list[dict[str, str]]:
    return [line for line in read_jsonl(job.run.unscored_file) if line["score"] == "execution"]
