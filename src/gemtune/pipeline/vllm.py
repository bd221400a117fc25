"""Runs in vLLM: a merged model, or adapters over one base, as the command that serves them there.

vLLM leaves out in silence what it does not know of an adapter, so an adapter that it would not run whole is refused.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from gemtune.errors import RunError
from gemtune.files import read_object
from gemtune.pipeline.artifact_folders import proven_artifact
from gemtune.pipeline.job import Job
from gemtune.pipeline.served import BASE, names_of, require_one_base
from gemtune.pipeline.tuned_models import weights_folder
from gemtune.serving.bearer import token_in
from gemtune.serving.hosts import is_loopback

MERGED = "merged"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank may be; 16 where it is not given
APART = "`gemtune export RUN merged`, and serve it alone"
# The tensors of an adapter that vLLM knows in Gemma 3, by its text class and by the one that sees; others do nothing.
_LAYER = r"layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.lora_[AB]\.weight"
NAMES = {
    "Gemma3ForCausalLM": re.compile(rf"base_model\.model\.model\.{_LAYER}"),
    "Gemma3ForConditionalGeneration": re.compile(rf"base_model\.model\.model\.language_model\.{_LAYER}"),
}


def hand_over(jobs: Sequence[Job], host: str, port: int, token_file: str | None) -> None:
    """Becomes `vllm serve` where that is installed; RunError with its command line where it is not."""
    if not (token_file or is_loopback(host)):
        raise RunError(f"{host}: others reach this server, so it needs a token; give --token-file")
    command = [*command_of(jobs), "--host", host, "--port", str(port), "--allowed-origins", "[]"]
    key = {"VLLM_API_KEY": token_in(Path(token_file))} if token_file else {}
    words = f'VLLM_API_KEY="$(cat {shlex.quote(token_file)})" ' if token_file else ""
    line = words + shlex.join(command)
    program = shutil.which("vllm")
    if program is None:
        raise RunError(f"vllm is not installed here; run it where it is: {line}")
    jobs[0].say(line)
    os.execve(program, command, {**os.environ, **key})  # noqa: S606  # vLLM, as the user's PATH has it


def command_of(jobs: Sequence[Job]) -> list[str]:
    """`vllm serve` with what decides a reply: the chat template, the precision, the length, and the recipe's decoding.

    A single run is its merged artifact; several are adapters over their base model.
    """
    names = names_of(jobs)
    (name, job), *others = names.items()
    if others:
        base, settings = _adapters(names)
    else:
        base, settings = proven_artifact(job, MERGED), ["--served-model-name", name]
        settings += ["--chat-template", str(base.resolve() / "chat_template.jinja")]
    decoding = {(each.recipe.evaluate.temperature, each.recipe.evaluate.top_p) for each in jobs}
    if len(decoding) > 1:
        raise RunError(
            "the runs differ in evaluate.temperature or evaluate.top_p; vLLM has one default: serve them apart"
        )
    ((temperature, top_p),) = decoding
    sampling = json.dumps({"temperature": temperature, "top_p": top_p})  # vLLM's own default samples
    return ["vllm", "serve", str(base.resolve()), *settings, *_sizes(base), "--override-generation-config", sampling]


def _sizes(folder: Path) -> list[str]:
    from gemtune.models.families import config_of

    config = config_of(folder)
    dtype, longest = str(config.dtype).removeprefix("torch."), config.get_text_config().max_position_embeddings
    return ["--dtype", dtype, "--max-model-len", str(longest)]


def _adapters(names: dict[str, Job]) -> tuple[Path, list[str]]:
    """The base model's folder, and the settings with which vLLM has each run's adapter over it under its name."""
    jobs = list(names.values())
    require_one_base(jobs)
    base, folders = jobs[0].weights_folder, [weights_folder(job, "tuned").resolve() for job in jobs]
    rank = max(runnable_rank(folder, base) for folder in folders)
    limits = ["--max-loras", str(len(folders)), "--max-lora-rank", str(min(most for most in RANKS if most >= rank))]
    modules = [f"{name}={folder}" for name, folder in zip(names, folders, strict=True)]
    texts = ["--served-model-name", BASE, "--chat-template", str(folders[0] / "chat_template.jinja")]
    return base, [*texts, "--enable-lora", *limits, "--lora-modules", *modules]


def runnable_rank(folder: Path, base: Path) -> int:
    """The rank of an adapter; RunError where vLLM would not run all of it over the base model."""
    from gemtune.exporting.merge import ADAPTER
    from gemtune.models.adapters import has_token_rows
    from gemtune.models.weights import tensors_of

    architecture = (read_object(base / "config.json").get("architectures") or ["unknown"])[0]
    if architecture not in NAMES:
        raise RunError(f"{folder}: an adapter of {architecture}, of which it is not known how vLLM runs it; {APART}")
    if has_token_rows(folder):
        raise RunError(f"{folder}: has trained rows of the embedding, which vLLM does not take; {APART}")
    others = [name for name in tensors_of(folder / ADAPTER) if not NAMES[architecture].fullmatch(name)]
    if others:
        raise RunError(f"{folder}: vLLM would leave out {others[0]} in silence, and {len(others) - 1} more; {APART}")
    rank = int(read_object(folder / "adapter_config.json")["r"])
    if rank > RANKS[-1]:
        raise RunError(f"{folder}: of rank {rank}, and vLLM takes up to {RANKS[-1]}; {APART}")
    return rank
