"""Runs on the Hub, by the real client on a stand-in: what is sent, what is not, and what if it breaks off."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

import command
from exporting.hub_stand_in import Hub
from gemtune.artifact_files import Artifact
from gemtune.files import sha256_of, write_json
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.runs import Run

EXAMPLES = Path(__file__).parents[2] / "examples"
WEIGHTS = "adapter_model.safetensors"
REPO, TOKEN = "me/emoji-model", "hf_secretsecretsecretsecret"
FAKE_ID = "google/gemma-3-270m"


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.server.shutdown()


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    home = {"HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    return {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", **home}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The run directory of three steps, evaluated."""
    folder = tmp_path_factory.mktemp("pushing")
    train = {"max_steps": 3, "eval_steps": 1, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu"}
    recipe = {"task": "emoji", "model": str(tiny_model), "runs_dir": str(folder), "train": train}
    recipe |= {"data": {"source": str(EXAMPLES / "emoji.csv"), "limit": 120}}
    recipe |= {"evaluate": {"limit": 8, "max_new_tokens": 8}}
    (folder / "emoji.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    job = Job(folder / "emoji.yaml", say=lambda text: None)
    stages.run(job)
    return job.run.root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "runs" / "emoji")


def refusal_of(answer: command.Answer) -> str:
    """The line of a push that was refused, behind the one that says what was to be sent."""
    assert re.fullmatch(r"sending [^\n]+\ngemtune: [^\n]+\n", answer.err), answer
    assert (answer.code, answer.out) == (2, "")
    return answer.err.splitlines()[1].removeprefix("gemtune: ")


def test_a_dry_run_lists_every_file_and_sends_nothing(run: Path, hub: Hub, environment: dict[str, str]) -> None:
    answer = command.spawn("push", run, REPO, "--dry-run", env=environment)
    assert (answer.code, answer.err, hub.asked) == (0, "", [])
    *lines, last = answer.out.splitlines()
    assert last == f"nothing was sent; without --dry-run it goes to {REPO}, private"
    listed = {path: (int(size.replace(",", "")), sha, way) for path, size, sha, way in map(str.split, lines)}
    adapter = run / "adapter"
    ours = {"README.md", "NOTICE", "adapter_config.json"}
    theirs = {path.name for path in adapter.iterdir()} - {"whole.json"}
    assert listed.keys() == ours | theirs
    for name in theirs - ours:
        assert listed[name][:2] == ((adapter / name).stat().st_size, sha256_of(adapter / name))
    assert {name for name, (_, _, way) in listed.items() if way == "LFS"} == {"adapter_model.safetensors"}
    as_json = json.loads(command.spawn("push", run, REPO, "--dry-run", "--json", env=environment).out)
    assert {file["path"]: file["sha256"] for file in as_json["files"]} == {n: sha for n, (_, sha, _) in listed.items()}
    assert as_json["url"] is None and hub.asked == []


def test_what_is_pushed_is_what_was_listed_and_again_it_is_no_commit(
    run: Path, hub: Hub, environment: dict[str, str]
) -> None:
    listed = json.loads(command.spawn("push", run, REPO, "--dry-run", "--json", env=environment).out)["files"]
    for _ in range(2):
        answer = command.spawn("push", run, REPO, env=environment)
        assert answer.code == 0 and re.fullmatch(rf"sending 8 files, [\d.]+ MB, to {REPO}\n", answer.err), answer
        assert answer.out.splitlines()[-1] == f"{hub.address}/{REPO}" and TOKEN not in answer.out
    assert {file["path"]: file["size"] for file in listed} == {n: len(data) for n, data in hub.files[REPO].items()}
    assert hub.private == {REPO: True} and len(hub.commits) == 1
    assert hub.tokens - {""} == {f"Bearer {TOKEN}"}
    everything = b"".join(hub.files[REPO].values())
    for private in (TOKEN, str(run), str(run.parents[1]), "tiny/"):
        assert private.encode() not in everything, private


def test_a_connection_that_breaks_off_is_taken_up_again(run: Path, hub: Hub, environment: dict[str, str]) -> None:
    hub.breaks_off = True
    answer = command.spawn("push", run, REPO, env=environment)
    assert answer.code == 0 and not hub.breaks_off, answer.err
    assert len(hub.commits) == 1 and hub.files[REPO][WEIGHTS] == (run / "adapter" / WEIGHTS).read_bytes()


def test_one_that_was_killed_goes_on(run: Path, hub: Hub, environment: dict[str, str]) -> None:
    hub.stalls = True
    args = [sys.executable, "-c", command.MAIN, "push", str(run), REPO]
    with subprocess.Popen(args, env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as killed:
        assert hub.stalled.wait(60)
        killed.kill()
    hub.stalls = False
    assert hub.files[REPO] == {} and hub.commits == []
    assert command.spawn("push", run, REPO, env=environment).code == 0
    assert len(hub.commits) == 1 and hub.files[REPO][WEIGHTS] == (run / "adapter" / WEIGHTS).read_bytes()


def test_a_repository_is_public_only_when_told(run: Path, hub: Hub, environment: dict[str, str]) -> None:
    assert command.spawn("push", run, REPO, "--public", env=environment).code == 0
    assert hub.private == {REPO: False}
    commits = len(hub.commits)
    line = refusal_of(command.spawn("push", run, REPO, env=environment))
    assert line == f"{REPO}: this repository is public; add --public, or give another name"
    assert len(hub.commits) == commits


def test_a_card_that_the_hub_refuses_is_one_line(run: Path, hub: Hub, environment: dict[str, str]) -> None:
    hub.refuses_card = "license must be one of ..."
    line = refusal_of(command.spawn("push", run, REPO, env=environment))
    assert line.endswith("cannot be sent (license must be one of ...); report it: the card is gemtune's own")
    assert hub.commits == []


def test_without_a_login_nothing_is_asked(run: Path, hub: Hub, environment: dict[str, str]) -> None:
    line = refusal_of(command.spawn("push", run, REPO, env={**environment, "HF_TOKEN": ""}))
    assert line == "no login at the Hub here; run `hf auth login` with a token that may write" and hub.asked == []


def test_what_is_not_there_says_what_is(run: Path, environment: dict[str, str]) -> None:
    line = command.refusal(command.spawn("push", run, REPO, "gguf", "--dry-run", env=environment))
    assert line.endswith("no 'gguf' to push; there is adapter")
    line = command.refusal(command.spawn("push", run, "a/b/c", env=environment))
    assert "give a name such as user/model" in line


def test_the_card_says_what_the_run_is(run: Path, hub: Hub, environment: dict[str, str]) -> None:
    assert command.spawn("push", run, REPO, env=environment).code == 0
    text = hub.files[REPO]["README.md"].decode()
    card = ModelCard(text)
    assert card.data.license == "gemma" and card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-generation" and card.data.tags == ["gemtune", "emoji", "lora"]
    head = yaml.safe_load(text.split("---\n")[1])
    summary = json.loads((run / "eval/summary.json").read_text())
    (index,) = head["model-index"]
    metrics = {metric["type"]: metric["value"] for result in index["results"] for metric in result["metrics"]}
    assert metrics == {
        name: pytest.approx(both["tuned"]["mean"], abs=1e-4) for name, both in summary["metrics"].items()
    }
    for words in (
        "Gemma3ForCausalLM",
        "Gemma Terms of Use",
        "prohibited",
        "fine-tuned",
        "Fit: ",
        "lora.r",
        "emoji.csv",
    ):
        assert words in text, words
    assert len(re.findall(r"^\| \w+ \| [−\d.]+ \[", text, re.MULTILINE)) == len(summary["metrics"])
    assert "Gemma Terms of Use" in hub.files[REPO]["NOTICE"].decode()


def test_of_a_model_of_the_hub_it_names_the_base(run: Path, hub: Hub, environment: dict[str, str]) -> None:
    Run(run).note("model", {**Run(run).manifest["model"], "name": "gemma-3-270m", "revision": "a" * 40})
    answer = command.spawn("push", run, REPO, env=environment)
    assert answer.code == 0, answer.err
    card = ModelCard(hub.files[REPO]["README.md"].decode())
    assert (card.data.base_model, card.data.base_model_relation) == (FAKE_ID, "adapter")
    config = json.loads(hub.files[REPO]["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["revision"]) == (FAKE_ID, "a" * 40)
    assert f'from_pretrained("{FAKE_ID}")' in card.text and f'PeftModel.from_pretrained(model, "{REPO}")' in card.text


def test_an_artifact_goes_there_when_it_was_verified(
    run: Path, hub: Hub, environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert command.gemtune(capfd, "export", run, "merged").code == 0
    listed = command.spawn("push", run, REPO, "merged", env=environment)
    assert listed.code == 0, listed.err
    assert {"model.safetensors", "config.json", "README.md", "NOTICE"} <= hub.files[REPO].keys()
    assert not {"verify.json", "whole.json"} & hub.files[REPO].keys()
    card = ModelCard(hub.files[REPO]["README.md"].decode())
    assert card.data.library_name == "transformers" and f'from_pretrained("{REPO}")' in card.text
    weights = run / "export/merged/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    line = command.refusal(command.gemtune(capfd, "push", run, REPO, "merged", "--dry-run"))
    assert line.endswith(f"`gemtune export {run} merged` makes it again, and verifies it")


@pytest.mark.parametrize(
    ("weights", "passed", "words"),
    [
        (
            "tuned",
            None,
            "not shown to answer as the tuned model does: few rows; `gemtune export RUN --limit N` asks it",
        ),
        ("tuned", False, "answers otherwise than the tuned model: few rows; export another format"),
        ("step-2", True, "made of step-2, not of the tuned model; `gemtune export RUN` makes it of that, and verifies"),
    ],
)
def test_an_artifact_that_is_not_known_to_be_right_is_refused(
    weights: str, passed: bool | None, words: str, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stages.export(Job(run, say=lambda text: None), ["merged"], limit=1)
    path = run / "export" / "merged" / "verify.json"
    note = Artifact.from_json(json.loads(path.read_text()), path)
    assert note.verification
    known = replace(note, weights=weights, verification=replace(note.verification, passed=passed, why="few rows"))
    write_json(path, known.to_json())
    line = command.refusal(command.gemtune(capfd, "push", run, REPO, "merged", "--dry-run"))
    assert words.replace("RUN", f"{run} merged") in line


def test_an_artifact_that_was_never_verified_is_refused(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stages.export(Job(run, say=lambda text: None), ["merged"], limit=1)
    path = run / "export" / "merged" / "verify.json"
    note = Artifact.from_json(json.loads(path.read_text()), path)
    write_json(path, replace(note, verification=None).to_json())
    line = command.refusal(command.gemtune(capfd, "push", run, REPO, "merged", "--dry-run"))
    assert line.endswith(f"not verified; `gemtune export {run} merged` does that")
