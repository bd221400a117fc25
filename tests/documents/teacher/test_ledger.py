"""The ledger, alone and under kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher, faults_of_ledger, seeded
from documents.teacher.conftest import Pages
from gemtune.documents.teacher import Ledger, Request, Usage
from gemtune.documents.teacher.ledger import Charge
from gemtune.errors import GemtuneError, RunError

REQUEST = Request("a.pdf", 1, "content", 0, Path("x.png"), "Read it.", None)


def begun(ledger: Ledger, cost: float | None = 1.0, reply: str = "k") -> str:
    return ledger.begin(REQUEST, "m", reply, 9, Usage(10, 500), cost).intent


def test_it_adds_up_by_model_and_day(tmp_path: Path) -> None:
    with Ledger.opened(tmp_path / "ledger.jsonl") as ledger:
        for _ in range(2):
            ledger.settle(Charge(charge=begun(ledger), outcome="answered", input=9, output=3, thinking=1, cost=0.5))
        begun(ledger)
    again = Ledger(tmp_path / "ledger.jsonl")
    total = again.total("m")
    assert (total.requests, total.answered, total.usage, total.cost) == (3, 2, Usage(18, 6, 2), 1.0)
    assert (total.open, total.open_cost, total.open_usage) == (1, 1.0, Usage(10, 500))
    [(day, of_day)] = again.totals()["m"].items()
    assert of_day == total and len(day) == 10
    assert again.total("another").requests == 0


def test_a_torn_last_line_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger.opened(path) as ledger:
        first = begun(ledger)
    path.write_bytes(path.read_bytes() + b'{"intent": "torn", "at": "20')
    with Ledger.opened(path) as ledger:
        second = begun(ledger)
    assert list(Ledger(path).intents) == [first, second]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"charge": "x", "outcome": "answered"}\nrubbish\n', encoding="utf-8")
    with pytest.raises(RunError, match=r"ledger.jsonl:2: broken JSON"):
        Ledger(tmp_path / "ledger.jsonl")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger.opened(path), pytest.raises(RunError, match="another gemtune asks"), Ledger.opened(path):
        pass
    with Ledger.opened(path):
        pass


def test_a_cut_counts_only_where_no_more_tokens_are_allowed(tmp_path: Path) -> None:
    with Ledger.opened(tmp_path / "ledger.jsonl") as ledger:
        ledger.settle(Charge(charge=begun(ledger), outcome="cut", output=500))
        ledger.settle(Charge(charge=begun(ledger), outcome="rate limit"))
        assert ledger.outcomes("k", 500) == {"cut": 1}
        assert ledger.outcomes("k", 501) == {}


def test_a_line_that_does_not_fit_leaves_none_behind(tmp_path: Path) -> None:
    """As on a full disk: the limit on a file's size makes the write fail in the middle of a line."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from gemtune.documents.teacher import Ledger
        from gemtune.errors import GemtuneError
        from documents.teacher.test_ledger import begun
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Ledger.opened(Path(sys.argv[1])) as ledger:
            begun(ledger)
            size = Path(sys.argv[1]).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
            try:
                begun(ledger)
            except GemtuneError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path / "ledger.jsonl"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert "free some space" in done.stdout
    assert len(Ledger(tmp_path / "ledger.jsonl").intents) == 1
    assert (tmp_path / "ledger.jsonl").read_bytes().endswith(b"}\n")


ASKS = """
import json, sys
from pathlib import Path
from documents.teacher.conftest import Pages
from gemtune.recipe.document_sections import Teacher
pages = Pages(Path(sys.argv[1]), 24)
replies = pages.ask(Teacher(url=sys.argv[2], model="m", concurrency=4, timeout=1.0, input_price=1.0, output_price=5.0))
Path(sys.argv[3]).write_text(json.dumps([[reply.request.page, reply.text, reply.problem] for reply in replies]))
"""


def test_five_kills_lose_no_charge_and_change_no_byte(tmp_path: Path) -> None:
    """kill -9 of a process that asks a server with faults: what may have been paid twice is listed, nothing else is."""

    def asked(pages: Pages, kills: int) -> bytes:
        out = pages.folder.root / "replies.json"
        with ScriptedTeacher(pages.truth, seeded(3), log=pages.log, slow=2.0, latency=0.1) as server:
            for left in range(kills, -1, -1):
                process = subprocess.Popen(
                    [sys.executable, "-c", ASKS, pages.folder.root, server.url, out],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
                before = len(server.served)
                while left and process.poll() is None and len(server.served) < before + 4:
                    time.sleep(0.01)
                if left:
                    process.send_signal(signal.SIGKILL)
                    assert process.wait() == -signal.SIGKILL
                else:
                    assert process.wait() == 0
        return out.read_bytes()

    killed, quiet = Pages(tmp_path / "killed", 24), Pages(tmp_path / "quiet", 24)
    assert asked(killed, 5) == asked(quiet, 0)
    assert faults_of_ledger(killed.log, killed.folder.ledger_file) == []
    served = [json.loads(line) for line in killed.log.read_text(encoding="utf-8").splitlines()]
    assert len({line["fault"] for line in served}) > 6, "the server did misbehave"
    book = Ledger(killed.folder.ledger_file)
    lost = {intent.intent for intent in book.maybe_charged()}
    assert book.open_intents(), "a kill left something under way"
    arrived = sum(line["input"] + line["output"] for line in served if line["id"] not in lost)
    assert arrived == book.total("m").usage.total, "to the token"
    bought = [charge.charge for charge in book.charges.values() if charge.outcome == "answered"]
    replies = [book.intents[name].reply for name in bought]
    assert len(replies) == len(set(replies)), "no reply was bought twice, but for those that are listed"


def test_an_error_of_the_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(GemtuneError, match="a file is where a folder should be"),
        Ledger.opened(tmp_path / "file" / "ledger.jsonl"),
    ):
        pass
