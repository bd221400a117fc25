"""Does LLaMA-Factory, in an environment of its own, parse the YAML and load the data set that `distill` exported?

    python -m benchmarks.studies.llamafactory_reads distilled/letters/llamafactory [--model TINY] [--train 2]

Prints what its argument parser made of the YAML, and for each part how many rows its loader has, with how many tokens
and images. `--model` takes a folder instead of the YAML's model: `gemtune tiny gemma3-vision TINY` writes one.
`--train` has its command line train that many steps of one row on the CPU, and prints their loss.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.compare.environments import python_of

_PROGRAM = """
import json, sys
import torch
from omegaconf import OmegaConf
from llamafactory.hparams import get_train_args
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.model import load_tokenizer

config = OmegaConf.to_container(OmegaConf.load("train.yaml")) | json.loads(sys.argv[1])
config["use_cpu"] = not torch.cuda.is_available()  # bf16 on a CPU has to be meant
model_args, data_args, training_args, finetuning_args, _ = get_train_args(config)
tokenizer = load_tokenizer(model_args)
template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data_args)
parts = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer)
print("READ", json.dumps({
    "arguments": {
        "template": data_args.template, "cutoff_len": data_args.cutoff_len, "lora_rank": finetuning_args.lora_rank,
        "learning_rate": training_args.learning_rate, "rows a step": training_args.gradient_accumulation_steps,
        "eval_steps": training_args.eval_steps, "warmup": training_args.warmup_steps,
    },
    "parts": {
        name.removesuffix("_dataset"): {
            "rows": len(rows),
            "images": sum(len(images) for images in rows["images"]),
            "tokens": [len(ids) for ids in rows["input_ids"]],
            "labelled": [sum(label != -100 for label in labels) for labels in rows["labels"]],
        }
        for name, rows in parts.items() if rows is not None
    },
}))
"""


def read_by_llamafactory(python: str, folder: Path, **overrides: object) -> dict[str, Any]:
    """What LLaMA-Factory makes of an exported folder; SystemExit with the end of its complaint."""
    said = _run([python, "-c", _PROGRAM, json.dumps(overrides)], folder)
    return dict(json.loads(next(line for line in said.splitlines() if line.startswith("READ ")).partition(" ")[2]))


def _run(command: list[str], folder: Path) -> str:
    """What a command of LLaMA-Factory's environment prints, run in the exported folder."""
    offline = {
        "HF_HUB_OFFLINE": "1",
        "DISABLE_VERSION_CHECK": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "LLAMABOARD_ENABLED": "0",
    }
    environment = {**os.environ, **offline, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)  # noqa: S603 (ours)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout


def trained_by_llamafactory(python: str, folder: Path, steps: int, output: Path, **overrides: object) -> list[float]:
    """The loss of each step of `llamafactory-cli train train.yaml`; SystemExit with the end of its complaint."""
    on_this_machine = {
        "max_steps": steps,
        "logging_steps": 1,
        "gradient_accumulation_steps": 1,
        "use_cpu": True,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "early_stopping_steps": None,
        "output_dir": str(output),
    }
    settings = [f"{key}={json.dumps(value)}" for key, value in (on_this_machine | overrides).items()]
    _run([python, "-m", "llamafactory.cli", "train", "train.yaml", *settings], folder)
    log = json.loads((output / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [line["loss"] for line in log if "loss" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--train", type=int, default=0, metavar="STEPS")
    arguments = parser.parse_args()
    model = {"model_name_or_path": str(arguments.model.absolute())} if arguments.model else {}
    read = read_by_llamafactory(python_of("llamafactory"), arguments.folder, **model)
    print(json.dumps(read["arguments"], indent=2))
    for part, rows in read["parts"].items():
        tokens = f"{min(rows['tokens'])} to {max(rows['tokens'])} tokens, {sum(rows['labelled'])} of them labelled"
        print(f"{part}: {rows['rows']} rows, {rows['images']} images, {tokens}")
    if arguments.train:
        with tempfile.TemporaryDirectory() as output:
            losses = trained_by_llamafactory(
                python_of("llamafactory"), arguments.folder, arguments.train, Path(output), **model
            )
        print(f"trained {len(losses)} steps, loss {', '.join(f'{loss:.4f}' for loss in losses)}")


if __name__ == "__main__":
    main()
