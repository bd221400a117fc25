"""llama.cpp in a child process: what ends it is one line, and it never outlives its parent's use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest

from exporting.gguf_models import write_text_model
from gemtune.errors import GemtuneError
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp

gguf = pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_language_model(write_text_model(folder / "model"), folder / "m.gguf", "f32")


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_the_child_ends_with_its_block(model: Path) -> None:
    before = children()
    with LlamaCpp(model) as runtime:
        assert runtime.name.startswith("llama.cpp (xllamacpp 20")
        assert runtime.tokenize("<bos>") == [2]
        assert len(children() - before) == 1
    assert children() == before


def test_the_child_ends_with_its_parent(model: Path) -> None:
    code = (
        "import os, psutil\nfrom pathlib import Path\nfrom gemtune.exporting.llama_cpp import LlamaCpp\n"
        f"LlamaCpp(Path({str(model)!r})).tokenize('a')\n"
        "print(*(child.pid for child in psutil.Process().children()), flush=True)\nos._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    (pid,) = map(int, done.stdout.split())
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(pid)


def test_it_answers_nobody_else(model: Path) -> None:
    before = children()
    with LlamaCpp(model) as runtime:
        runtime.tokenize("a")
        (pid,) = children() - before
        listening = [socket.laddr for socket in psutil.Process(pid).net_connections() if socket.status == "LISTEN"]
        assert [address.ip for address in listening] == ["127.0.0.1"]
        request = urllib.request.Request(f"http://127.0.0.1:{listening[0].port}/tokenize", b'{"content": "a"}')
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request)


def test_replies_do_not_depend_on_what_was_asked_before(model: Path) -> None:
    with LlamaCpp(model) as runtime:
        first = runtime.decode([2, 105, 300, 301], 12)
        runtime.decode([2, 105, 300, 302], 12)
        assert runtime.decode([2, 105, 300, 301], 12) == first
        assert len(first) == 12 and all(choice.margin >= 0 for choice in first)


def test_a_stream_is_the_reply_in_pieces_and_closed_it_ends_the_generation(model: Path) -> None:
    with LlamaCpp(model, slots=2) as runtime:
        *pieces, last = runtime.stream([2, 105, 200], n_predict=20, temperature=0.0, ignore_eos=True)
        whole = runtime._ask(
            "/completion", {"prompt": [2, 105, 200], "n_predict": 20, "temperature": 0, "ignore_eos": True}
        )
        assert "".join(piece["content"] for piece in pieces) == whole["content"] != ""
        assert (last["stop_type"], last["tokens_predicted"]) == ("limit", 20)
        stream = runtime.stream([2, 105, 200], n_predict=4_000, ignore_eos=True)  # the model has 2,048 positions
        next(stream)
        stream.close()
        deadline = time.monotonic() + 60
        while any(slot["is_processing"] for slot in runtime._ask("/slots", None)) and time.monotonic() < deadline:
            time.sleep(0.05)
        tokens = [slot.get("n_prompt_tokens", 0) for slot in runtime._ask("/slots", None)]  # with those of the reply
        assert 3 < max(tokens) < 2_000


def test_a_prompt_that_is_too_long_is_one_line(model: Path) -> None:
    with LlamaCpp(model, context=256) as runtime, pytest.raises(GemtuneError, match=r"exceeds the available context"):
        runtime.decode([2] * 300, 4)


def test_a_file_that_is_cut_is_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(model.read_bytes()[:-5000])
    with LlamaCpp(tmp_path / "cut.gguf") as runtime:
        for _ in range(2):
            with pytest.raises(GemtuneError, match=r"cannot run it: error loading model: .*corrupted"):
                runtime.tokenize("a")


def test_a_failed_assert_is_one_line(model: Path, tmp_path: Path) -> None:
    """A LoRA over the tied embedding, on which llama.cpp aborts its process."""
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "gemma3")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    rows = {t.name: t for t in gguf.GGUFReader(model).tensors}["token_embd.weight"].shape
    writer.add_tensor("token_embd.weight.lora_a", np.ones((int(rows[1]), 4), np.float32))
    writer.add_tensor("token_embd.weight.lora_b", np.ones((int(rows[0]), 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with LlamaCpp(model, adapter=tmp_path / "a.gguf") as runtime, pytest.raises(GemtuneError, match=r"GGML_ASSERT"):
        runtime.decode([2, 105], 4)
