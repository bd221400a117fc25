"""Checkpoints that are whole or not there: weights, optimizer and schedule, without a pickle."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from gemtune.errors import RunError, listed
from gemtune.files import JsonObject, read_json, read_object, sha256_of, write_json
from gemtune.models.boundary import saving
from gemtune.run_contents import WHOLE, put_in_place
from gemtune.runs import Run

if TYPE_CHECKING:
    from torch.amp import GradScaler
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from transformers import PreTrainedModel

WEIGHTS, OPTIMIZER, STATE, METRICS = ("weights.safetensors", "optimizer.safetensors", "state.json", "metrics.jsonl")


def save_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fills a temporary folder with `write` and renames it to `folder`, with the list of what is in it."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    with saving(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            write(temporary)
            write_json(temporary / WHOLE, {name: sha256_of(temporary / name) for name in _names_in(temporary)})
            put_in_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that save_folder wrote, or None."""
    if not (folder / WHOLE).is_file():
        return f"{WHOLE} is missing"
    try:
        digests = read_object(folder / WHOLE)
    except RunError:
        return f"{WHOLE} is not what was written"
    there = _names_in(folder)
    for name, digest in digests.items():
        if name not in there:
            return f"{name} is missing"
        if sha256_of(folder / name) != digest:
            return f"{name} is not what was written"
    return None if digests else f"{WHOLE} is empty"


def _names_in(folder: Path) -> list[str]:
    """The files of a folder and of those in it, as paths from there."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def checkpoints(run: Run) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint, newest first."""
    return [(step, run.checkpoint(step)) for step in run.steps()]


def newest_whole(run: Run, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; says which were not."""
    for _, folder in checkpoints(run):
        fault = damage(folder)
        if fault is None:
            return folder
        say(f"{folder} is damaged ({fault}); going back to the one before it")
    return None


def restore_metrics(run: Run) -> str:
    """Writes the damaged metrics.jsonl of a training that has ended again, and returns what it is made from."""
    copies = [(step, folder / METRICS) for step, folder in checkpoints(run) if damage(folder) is None]
    step, copy = next(((step, path) for step, path in copies if path.is_file()), (sys.maxsize, None))
    run.keep_metrics(step, copy)
    run.note_metrics()
    source = f"it is restored from {copy.parent}" if copy else "the lines that can be read are kept"
    return f"{run.metrics_file} was damaged; {source}"


def require_whole(folder: Path) -> Path:
    """The folder, or RunError when it is missing or damaged."""
    if not folder.is_dir():
        there = sorted(path.parent.name for path in folder.parent.glob(f"*/{WHOLE}"))
        move = f"there are {listed(there)}" if there else "`gemtune train` writes it"
        raise RunError(f"{folder}: no such folder; {move}")
    fault = damage(folder)
    if fault:
        raise RunError(f"{folder}: {fault}; train again, or name another checkpoint")
    return folder


def save_weights(model: PreTrainedModel | PeftModel, path: Path) -> None:
    """Writes the trained weights: of an adapter in PEFT's names, or of the whole model."""
    if isinstance(model, PeftModel):
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        state = {name: value for name, value in model.named_parameters()}  # tied weights appear once
    save_file({name: value.detach().contiguous().cpu() for name, value in state.items()}, path)


def load_weights(model: PreTrainedModel | PeftModel, path: Path) -> None:
    """Puts weights that save_weights wrote back into a model of the same shape."""
    state = load_file(path)
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, state)
    else:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(state[name])


def save_progress(
    folder: Path, optimizer: Optimizer, scheduler: LRScheduler, scaler: GradScaler | None, state: JsonObject
) -> None:
    """Writes what a resumed run needs beside the weights."""
    packed = optimizer.state_dict()
    tensors = {f"{index}.{key}": value for index, entry in packed["state"].items() for key, value in entry.items()}
    save_file({name: value.detach().contiguous().cpu() for name, value in tensors.items()}, folder / OPTIMIZER)
    write_json(
        folder / STATE,
        {
            "trainer": state,
            "groups": packed["param_groups"],
            "schedule": scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
        },
    )


def load_progress(folder: Path, optimizer: Optimizer, scheduler: LRScheduler, scaler: GradScaler | None) -> None:
    """Puts optimizer, schedule and gradient scaler back."""
    saved = read_json(folder / STATE)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(folder / OPTIMIZER).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": saved["groups"]})
    scheduler.load_state_dict(saved["schedule"])
    if scaler is not None and saved["scaler"]:
        scaler.load_state_dict(saved["scaler"])


def trainer_state(folder: Path) -> str:
    """The Trainer's own state as JSON text."""
    return json.dumps(read_json(folder / STATE)["trainer"])
