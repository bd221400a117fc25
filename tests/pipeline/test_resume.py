"""Whether a run goes on, begins again or is refused, and what a new beginning removes."""

from __future__ import annotations

from gemtune.files import write_text
from gemtune.pipeline.resume import start_again
from gemtune.runs import Run
from gemtune.training.checkpoint import save_folder
from run_folders import OTHERS, others_in, place_others


def test_to_start_again_removes_what_gemtune_wrote_alone(run: Run) -> None:
    place_others(run.root)
    for folder in (run.checkpoint(2), run.checkpoint(4), run.adapter):
        save_folder(folder, lambda path: write_text(path / "weights.safetensors", "w"))
    write_text(run.replies("base"), "")
    write_text(run.evaluation("mine.csv").summary_file(), "")
    write_text(run.report_page, "")
    start_again(run)
    assert others_in(run.root) == OTHERS
    left = {path.relative_to(run.root).as_posix() for path in run.root.rglob("*") if path.is_file()}
    assert left == {"manifest.json", "recipe.yaml", *OTHERS}
