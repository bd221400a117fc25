"""Examples on disk are those of the renderer; what is up to date stays, and what is damaged is made again."""

from __future__ import annotations

import pyarrow as pa
import pytest

from gemtune.data.conversation import read_conversations
from gemtune.errors import RunError
from gemtune.models.hub import tokenizer_fingerprint
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.rendering.token_table import ExampleTable, tables_are_whole
from gemtune.rendering.tokenising import fit, write_tables
from gemtune.runs import PARTS
from models.vision import WriteRecipe


@pytest.fixture
def job(write_recipe: WriteRecipe) -> Job:
    job = Job(write_recipe())
    stages.prepare(job)
    return job


def test_a_table_holds_the_examples_of_the_renderer_in_their_order(job: Job) -> None:
    for part in PARTS:
        table, rows = ExampleTable(job.run.table(part)), list(read_conversations(job.run.part(part)))
        assert table.lines.tolist() == list(range(len(rows))) and len(table) == len(rows) > 0
        for number, example in enumerate(job.renderer.examples(rows)):
            assert table[number] == example
            assert table.lengths[number] == len(example.input_ids)
            assert table.labelled[number] == sum(end - start for start, end in example.spans)
        lengths = job.run.prepared_data().token_lengths.of(part)
        assert (lengths.rows, lengths.max, lengths.tokens) == (len(rows), table.lengths.max(), table.lengths.sum())


def test_tables_that_are_up_to_date_ask_for_no_renderer_and_others_do(job: Job) -> None:
    def asked() -> None:
        raise AssertionError("the renderer was asked for")

    def write(key: str) -> None:
        write_tables(job.run, asked, job.family, job.task, job.recipe, key)  # type: ignore[arg-type]

    write(tokenizer_fingerprint(job.folder))
    with pytest.raises(AssertionError, match="was asked for"):
        write("of another tokenizer")


def test_a_table_is_whole_as_written_and_a_damaged_one_is_one_line(job: Job) -> None:
    path, lengths = job.run.table("train"), job.run.prepared_data().token_lengths
    assert tables_are_whole(job.run, lengths)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert not tables_are_whole(job.run, lengths)
    with pytest.raises(RunError, match=r"train\.arrow: damaged or no token table .*run `gemtune prepare` again"):
        ExampleTable(path)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("ids", pa.int32())])):
        pass
    with pytest.raises(RunError, match="not the columns of a token table"):
        ExampleTable(path)


def test_what_fits_is_itself_and_what_does_not_is_shortened_or_left_out(job: Job) -> None:
    row = next(iter(read_conversations(job.run.part("train"))))
    length = len(job.renderer.example(row).input_ids)
    for room, expected in ((length, row), (length - 1, None)):
        recipe = job.recipe.model_copy(update={"train": job.recipe.train.model_copy(update={"max_length": room})})
        assert fit(row, job.renderer, job.task, recipe) == expected
