"""Examples on disk are those of the renderer, in however many shards; what is damaged is one line."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gemtune.data.conversation import read_conversations
from gemtune.errors import RunError
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.rendering.token_table import ExampleTable, TableWriter, tables_are_whole
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
        assert table.lines[:].tolist() == list(range(len(rows))) and len(table) == len(rows) > 0
        for number, example in enumerate(job.renderer.examples(rows)):
            assert table[number] == example
            assert table.lengths[number] == len(example.input_ids)
            assert table.labelled[number] == sum(end - start for start, end in example.spans)
        lengths = job.run.prepared_data().token_lengths.of(part)
        assert (lengths.rows, lengths.max, lengths.tokens) == (len(rows), table.longest, table.tokens)
        assert (table.longest, table.tokens) == (table.lengths[:].max(), table.lengths[:].sum())
        assert table.labelled_tokens == table.labelled[:].sum()


def test_a_table_is_whole_as_written_and_a_damaged_one_is_one_line(job: Job) -> None:
    path, lengths = job.run.shard("train", 0), job.run.prepared_data().token_lengths
    assert tables_are_whole(job.run, lengths)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert not tables_are_whole(job.run, lengths)
    with pytest.raises(RunError, match=r"train-00000\.arrow: damaged or no token table .*run `gemtune prepare` again"):
        ExampleTable(job.run.table("train"))[0]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("ids", pa.int32())])) as writer:
        writer.write(pa.record_batch({"ids": pa.array([1], pa.int32())}))
    with pytest.raises(RunError, match="not the columns of a token table"):
        ExampleTable(job.run.table("train"))[0]
    path.write_bytes(whole)
    job.run.table("train").write_text("{}")
    assert not tables_are_whole(job.run, lengths)
    with pytest.raises(RunError, match=r"train\.index\.json: not a version 1 file of gemtune"):
        ExampleTable(job.run.table("train"))


def test_a_table_of_many_shards_has_the_rows_of_one(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ExampleTable(job.run.table("train"))
    rows = [one[row] for row in range(len(one))]
    monkeypatch.setattr("gemtune.rendering.token_table.SHARD_ROWS", 7)
    with job.run.staging() as staged:
        writer = TableWriter(staged, "train")
        for number, example in enumerate(rows):
            writer.add(example, 1.0 if number < 9 else 0.5, number)
        writer.finish()
        writer.put()
        many = ExampleTable(staged.table("train"))
        assert len(list(staged.data.glob("train-*.arrow"))) == -(-len(rows) // 7)
        assert [many[row] for row in range(len(many))] == rows
        drawn = np.random.default_rng(0).permutation(len(rows))
        for column in ("lengths", "labelled", "lines"):
            assert (getattr(many, column)[drawn] == getattr(one, column)[:][drawn]).all()
        assert (many.longest, many.tokens, many.labelled_tokens) == (one.longest, one.tokens, one.labelled_tokens)
        assert many.weights == ((1.0, 9), (0.5, len(rows) - 9))
        with pytest.raises(IndexError):
            many[len(many)]
        monkeypatch.undo()
        (staged.data / "train.arrow").write_text("of an older gemtune")
        again = TableWriter(staged, "train")
        again.add(rows[0], 1.0, 0)
        again.finish()
        again.put()
        assert [path.name for path in staged.data.glob("train*.arrow")] == ["train-00000.arrow"]
