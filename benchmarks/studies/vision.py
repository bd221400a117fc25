"""Writes VISION.md: training on images beside TRL with its own vision collator, first epoch and later ones.

A Gemma 3 with vision at about the 4B's ratio of tower to text: there an image costs the tower 2 x 0.42 G weights x
4,096 patches = 3.4 TFLOP, and text forward and back, at 350 tokens a row, 4 x 3.2 G x 350 = 4.5. Random weights, bf16,
LoRA r 16 on the text part, the tower frozen, the same rows, one process an arm, in turns, all in the environment of
`make setup`. The head is a fifth of the blocks' weights, as at 4B.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare.bench import CORES, peak_memory
from gemtune.files import read_json, read_jsonl, write_json, write_jsonl, write_text

HERE = Path(__file__).resolve().parent
SIDE, PATCH, TOKENS = 448, 14, 256  # 1,024 patches an image
SEES = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 10, "num_attention_heads": 8}
VOCABULARY = 18_304  # words: the head is a fifth of the blocks' weights, as at 4B
READS = {
    "vocab_size": VOCABULARY,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 10,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "layer_types": [*["sliding_attention"] * 5, "full_attention", *["sliding_attention"] * 4],
}
ROWS, BATCH, EPOCHS = 36, 4, 2
RATE = 2e-4
REPEATS = 3
PAGE = """\
<!-- Written by `python benchmarks/vision.py`. -->

# Training on images

{machine}, {cores} cores. SigLIP of {layers} layers of {hidden} on {side} x {side} pixels ({patches} patches), pooled to
{tokens} tokens; Gemma 3 text of {text_layers} layers of {text_hidden}. By
arithmetic an image costs the tower {ratio:.2f} of what its row costs the text part forward and back; at 4B it is 0.76.
{rows} rows, one image and about 330 tokens each, effective batch {batch}, {epochs} epochs; medians of {repeats} runs.
The first epoch has all the work of a start in it but loading: for gemtune the tower's passes over all images.

{table}

TRL: bf16 weights, LoRA on the text part alone, no checkpointing, sdpa, its own vision collator, answers alone trained.
"""


def main() -> None:
    if len(sys.argv) > 1:
        {"gemtune": train_with_gemtune, "trl": train_with_trl}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder)
        write_model(folder / "model")
        found: dict[str, list[dict[str, float]]] = {"trl": [], "gemtune": []}
        for repeat in range(REPEATS):
            for arm, runs in found.items():
                runs.append(measured(arm, folder, folder / f"{arm}{repeat}.json"))
                print(arm, runs[-1], flush=True)
    write_text(HERE / "VISION.md", page(found))
    print((HERE / "VISION.md").read_text(encoding="utf-8"))


def page(found: dict[str, list[dict[str, float]]]) -> str:
    keys = {"first": "s, first epoch", "later": "s, a later epoch", "peak": "peak GB", "loss": "last loss"}
    lines = ["| | " + " | ".join(keys.values()) + " |", "|---|" + "---|" * len(keys)]
    middle = {arm: {key: median(run[key] for run in runs) for key in keys} for arm, runs in found.items()}
    for arm, of in middle.items():
        lines.append(f"| {arm} | " + " | ".join(f"{of[key]:.3g}" for key in keys) + " |")
    ratio = [f"{middle['trl'][key] / middle['gemtune'][key]:.2f}x" for key in ("first", "later", "peak")]
    lines.append(f"| times better | {' | '.join(ratio)} | |")
    tower = SEES["num_hidden_layers"] * (
        4 * SEES["hidden_size"] ** 2 + 2 * SEES["hidden_size"] * SEES["intermediate_size"]
    )
    h, f = READS["hidden_size"], READS["intermediate_size"]
    text = 10 * (h * 1024 * 2 + 2 * h * 256 + 3 * h * f)  # type: ignore[operator]
    patches = (SIDE // PATCH) ** 2
    return PAGE.format(
        machine=device_name("cpu"),
        cores=CORES,
        layers=SEES["num_hidden_layers"],
        hidden=SEES["hidden_size"],
        side=SIDE,
        patches=f"{patches:,}",
        tokens=TOKENS,
        text_layers=10,
        text_hidden=h,
        ratio=2 * tower * patches / (4 * text * 330),
        rows=ROWS,
        batch=BATCH,
        epochs=EPOCHS,
        repeats=REPEATS,
        table="\n".join(lines),
    )


def write_model(folder: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    from gemtune.tiny import write_vision_model

    write_vision_model(folder, side=SIDE, patch=PATCH, tokens=TOKENS, sees=SEES, reads=READS)
    AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)


def write_rows(folder: Path) -> None:
    from PIL import Image

    draw = random.Random(0)  # noqa: S311 (pictures)
    words = ("a red cup", "two dogs", "coffee time", "rain today", "eat pizza with the dog", "happy birthday my love")

    def rows() -> Any:
        for number in range(ROWS):
            small = Image.frombytes("RGB", (24, 24), draw.randbytes(24 * 24 * 3))
            small.resize((640, 480)).save(folder / f"{number}.png")
            text, answer = (" ".join(draw.choice(words) for _ in range(4)) for _ in range(2))
            turns = [{"role": "user", "content": f"<image>{text}"}, {"role": "assistant", "content": answer}]
            yield {"messages": turns, "images": [f"{number}.png"]}

    write_jsonl(folder / "rows.jsonl", rows())


def measured(arm: str, folder: Path, out: Path) -> dict[str, float]:
    process = subprocess.Popen(  # noqa: S603 (written here)
        [sys.executable, str(Path(__file__).resolve()), arm, str(folder), str(out)], cwd=HERE
    )
    peak = peak_memory(process)
    if process.returncode:
        raise SystemExit(f"{arm} ended with {process.returncode}")
    times = read_json(out)
    an_epoch = ROWS // BATCH
    ends = times["steps"]
    return {
        "first": ends[an_epoch - 1] - times["ready"],
        "later": (ends[-1] - ends[an_epoch - 1]) / (EPOCHS - 1),
        "peak": peak / 1e9,
        "loss": times["loss"],
    }


def train_with_gemtune(folder: Path, out: Path) -> None:
    """What `gemtune train` does with prepared rows, from a cache of seen images that is empty."""
    from gemtune import stages
    from gemtune.job import Job
    from gemtune.kernels.native import compiled
    from gemtune.model import attach_adapters, special_ids
    from gemtune.plan import Shape, choose_micro_tokens
    from gemtune.train import train
    from gemtune.trainer import Prepared

    with tempfile.TemporaryDirectory() as runs:
        os.environ["GEMTUNE_CACHE"] = str(Path(runs) / "cache")
        settings = {
            "name": "v",
            "task": "messages",
            "model": str(folder / "model"),
            "runs_dir": runs,
            "data": [{"source": str(folder / "rows.jsonl"), "part": "train"}],
            "prepare": {"dedupe": "none"},
            "lora": {"token_rows": "none"},
            "train": {
                "epochs": float(EPOCHS),
                "batch_size": BATCH,
                "learning_rate": RATE,
                "schedule": "constant",
                "warmup_ratio": 0.0,
                "precision": "bf16",
                "save_steps": 1000,
            },
        }
        path = Path(runs) / "v.yaml"
        write_text(path, json.dumps(settings))
        job = Job.of(path, say=lambda text: None)
        stages.prepare(job)
        recipe, steps = job.recipe, []
        model = attach_adapters(job.base_model(), recipe.lora, job.family, [], 0)
        view = job.view(model)
        micro, _ = choose_micro_tokens(recipe, Shape.of(model.config), job.device, job.precision)
        ids = special_ids(job.tokenizer, job.family)
        compiled()  # once a machine
        prepared = Prepared(model, job.folder, job.family, ids, job.device, job.precision, micro, view)
        ready = time.time()
        stages._look(job, view)
        train(job.run, recipe, prepared, progress=lambda line: steps.append((time.time(), line["loss"])))
        write_json(out, {"ready": ready, "steps": [at for at, _ in steps], "loss": steps[-1][1]})


def train_with_trl(folder: Path, out: Path) -> None:
    import torch
    from datasets import Dataset, Features, Image, Value
    from peft import LoraConfig
    from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from gemtune.families import chat_template, family_of

    class Clock(TrainerCallback):
        ready, steps, losses = 0.0, [], []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.ready = time.time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.steps.append(time.time())

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                self.losses.append(float(logs["loss"]))

    processor = AutoProcessor.from_pretrained(folder / "model")
    processor.chat_template = chat_template(family_of(folder / "model"))
    rows = [
        {
            "prompt": [{"role": "user", "content": row["messages"][0]["content"].removeprefix("<image>")}],
            "completion": [row["messages"][1]],
            "images": [str(folder / row["images"][0])],
        }
        for row in read_jsonl(folder / "rows.jsonl")
    ]
    turns = [{"role": Value("string"), "content": Value("string")}]
    features = Features({"prompt": turns, "completion": turns, "images": [Image()]})
    model = AutoModelForImageTextToText.from_pretrained(
        folder / "model", dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out.parent / "trl"),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
        ),
        train_dataset=Dataset.from_list(rows, features=features),
        processing_class=processor,
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            target_modules=r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
            task_type="CAUSAL_LM",
        ),
        callbacks=[clock],
    )
    trainer.train()
    write_json(out, {"ready": clock.ready, "steps": clock.steps, "loss": clock.losses[-1]})


if __name__ == "__main__":
    main()
