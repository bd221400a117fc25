"""What vLLM is handed: a command that says all that decides a reply, and no adapter of which it would drop a part."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from command import Answer, gemtune, refusal, spawn
from gemtune.errors import RunError
from gemtune.models.families import gemma3
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.pipeline.vllm import command_of, runnable_rank
from training_jobs import trained

WriteRecipe = Callable[..., Path]
STEPS = {"max_steps": 2}


def quiet(run: Path) -> Job:
    return Job(run, say=lambda text: None)


def options(command: list[str]) -> dict[str, str]:
    """The values behind the options of a command, all of which take one at least."""
    return {name: value for name, value in pairwise(command) if name.startswith("--")}


@pytest.fixture
def merged(write_recipe: WriteRecipe) -> Path:
    """A run with its merged artifact."""
    job = trained(write_recipe("one", train=STEPS))
    stages.export(job, ["merged"], limit=2)
    return job.run.root


@pytest.fixture
def adapters(write_recipe: WriteRecipe) -> list[Path]:
    """Two runs over one base, of the ranks 4 and 12, without token rows."""
    lora = {"token_rows": "none"}
    return [trained(write_recipe(f"r{r}", train=STEPS, lora={**lora, "r": r})).run.root for r in (4, 12)]


def test_a_run_is_handed_over_merged(merged: Path) -> None:
    command = command_of([quiet(merged)])
    folder, said = merged / "export" / "merged", options(command)
    assert command[:3] == ["vllm", "serve", str(folder.resolve())]
    assert said["--served-model-name"] == "one" and said["--dtype"] == "float32"
    assert Path(said["--chat-template"]).read_text() == (folder / "chat_template.jinja").read_text()
    assert int(said["--max-model-len"]) == json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    assert json.loads(said["--override-generation-config"]) == {"temperature": 0.0, "top_p": 1.0}


def test_several_runs_are_adapters_over_their_base(adapters: list[Path]) -> None:
    command = command_of([quiet(run) for run in adapters])
    said = options(command)
    assert (said["--max-lora-rank"], said["--max-loras"]) == ("16", "2") and "--enable-lora" in command
    modules = command[command.index("--lora-modules") + 1 :][:2]
    assert modules == [f"{run.name}={(run / 'adapter').resolve()}" for run in adapters]
    assert Path(command[2]) == quiet(adapters[0]).weights_folder


def test_an_adapter_that_vllm_would_not_run_whole_is_refused(
    merged: Path, adapters: list[Path], write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    """Token rows, whole layers, a class whose names are others, a rank past its last, another architecture."""
    base = quiet(adapters[0]).weights_folder
    assert runnable_rank(adapters[1] / "adapter", base) == 12
    with pytest.raises(
        RunError, match=r"trained rows of the embedding, which vLLM does not take; `gemtune export RUN merged`"
    ):
        command_of([quiet(merged), quiet(adapters[0])])
    vision = gemma3.write_tiny_vision(tmp_path / "vision")
    with pytest.raises(RunError, match=r"vLLM would leave out base_model\S+ in silence, and 41 more"):
        runnable_rank(adapters[0] / "adapter", vision)
    config = adapters[0] / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 600'))
    with pytest.raises(RunError, match="of rank 600, and vLLM takes up to 512"):
        runnable_rank(config.parent, base)
    weights = adapters[1] / "adapter" / "adapter_model.safetensors"
    save_file({**load_file(weights), "base_model.model.lm_head.lora_A.weight": torch.zeros(1)}, weights)
    with pytest.raises(RunError, match=r"would leave out base_model\.model\.lm_head\.lora_A\.weight"):
        runnable_rank(weights.parent, base)
    (tmp_path / "config.json").write_text('{"architectures": ["LlavaForConditionalGeneration"]}')
    with pytest.raises(RunError, match="of LlavaForConditionalGeneration, of which it is not known how vLLM runs it"):
        runnable_rank(weights.parent, tmp_path)


def test_decoding_that_differs_is_refused(adapters: list[Path]) -> None:
    jobs = [quiet(adapters[0]), Job(adapters[1], ["evaluate.temperature=0.7"], say=lambda text: None)]
    with pytest.raises(RunError, match=r"differ in evaluate\.temperature or evaluate\.top_p; vLLM has one default"):
        command_of(jobs)


def test_without_a_merged_artifact_there_is_nothing_to_hand_over(
    adapters: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    line = refusal(gemtune(capfd, "serve", adapters[0], "--engine", "vllm"))
    assert line.endswith(f"no merged artifact; `gemtune export {adapters[0]} merged` writes it")


def test_where_vllm_is_not_installed_its_command_is_the_next_move(
    merged: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    line = refusal(gemtune(capfd, "serve", merged, "--engine", "vllm", "--port", "8001"))
    command = line.partition("vllm is not installed here; run it where it is: ")[2]
    expected = [*command_of([quiet(merged)]), "--host", "127.0.0.1", "--port", "8001", "--allowed-origins", "[]"]
    assert shlex.split(command) == expected
    line = refusal(gemtune(capfd, "serve", merged, "--engine", "vllm", "--host", "0.0.0.0"))
    assert line.endswith("0.0.0.0: others reach this server, so it needs a token; give --token-file")


def test_where_vllm_is_installed_it_is_run_with_the_token_in_its_environment(merged: Path, tmp_path: Path) -> None:
    """By a program of that name that says how it was called: vLLM itself needs a GPU."""
    program, token = tmp_path / "bin" / "vllm", tmp_path / "token"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$VLLM_API_KEY" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    path = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    answer: Answer = spawn("serve", merged, "--engine", "vllm", "--host", "0.0.0.0", "--token-file", token, env=path)
    key, *arguments = answer.out.splitlines()
    assert (answer.code, key, arguments[0]) == (0, "0123456789abcdef", "serve")
    assert key not in answer.err and answer.err.startswith(f'VLLM_API_KEY="$(cat {token})" vllm serve ')
    assert shlex.split(answer.err)[2:] == arguments


def test_vllm_knows_every_argument(merged: Path, adapters: list[Path]) -> None:
    """By its own parser, where it is installed."""
    cli = pytest.importorskip("vllm.entrypoints.common.cli_args", reason="vLLM is not installed")
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    for jobs in ([quiet(merged)], [quiet(run) for run in adapters]):
        command = [*command_of(jobs), "--host", "127.0.0.1", "--port", "1", "--allowed-origins", "[]"]
        parsed = cli.make_arg_parser(FlexibleArgumentParser()).parse_args(command[2:])
        assert parsed.model_tag == command[2] and parsed.allowed_origins == []
