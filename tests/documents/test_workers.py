"""Children that draw: one that crashes is named, and the next page is drawn all the same."""

from __future__ import annotations

from gemtune.documents.workers import Workers


def test_a_crash_is_a_problem_and_the_rest_goes_on() -> None:
    """pdfium's own crashes are segmentation faults: signal 11."""
    with Workers(2, "signal:raise_signal") as workers:
        answers = dict(workers.map(workers.ask, [0, 11, 0, 11, 0]))  # type: ignore[arg-type]  # what the function takes
        assert answers[0] is None
        assert answers[11]["problem"].startswith("cannot be drawn: its process ended with -11; ")


def test_results_come_with_what_was_asked() -> None:
    with Workers(2, "builtins:len") as workers:
        assert sorted(workers.map(workers.ask, ["a", "abc", ""])) == [("", 0), ("a", 1), ("abc", 3)]  # type: ignore[comparison-overlap]
