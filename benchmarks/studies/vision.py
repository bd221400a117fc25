"""How fast is training on images? gemtune beside TRL with its own vision collator, first epoch and later ones.

A Gemma 3 with vision at about the 4B's ratio of tower to text: there an image costs the tower 2 x 0.42 G weights x
4,096 patches = 3.4 TFLOP, and text forward and backward, at 350 tokens per row, 4 x 3.2 G x 350 = 4.5. Random
weights, bf16, LoRA r 16 on the text part, the tower frozen, the same rows, one process per arm, in turns, all in the
environment of `make setup`. The head is a fifth of the blocks' weights, as at 4B.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare.bench import peak_memory
from benchmarks.compare.results import table
from benchmarks.machine import ROOT, write_page
from gemtune.files import read_json, read_jsonl, write_json, write_jsonl

SIDE, PATCH, TOKENS = 448, 14, 256  # 1,024 patches per image
SEES = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 10, "num_attention_heads": 8}
VOCABULARY = 18_304  # words: the head is a fifth of the blocks' weights, as at 4B
READS: dict[str, Any] = {
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
ROW_TOKENS = 330  # about
COLUMNS = {"first": "s, first epoch", "later": "s, a later epoch", "peak": "peak GB", "loss": "last loss"}
RATE = 2e-4
REPEATS = 3
BODY = """\
SigLIP of {layers} layers of {hidden} on {side} x {side} pixels ({patches} patches), pooled to {tokens} tokens; Gemma 3
text of {text_layers} layers of {text_hidden}. By arithmetic an image costs the tower {ratio:.2f} of what its row costs
the text part forward and backward; at 4B it is 0.76.
{rows} rows, one image and about {row_tokens} tokens each, effective batch {batch}, {epochs} epochs; medians of
{repeats} runs.
The first epoch includes all the work of a start but loading: for gemtune the tower's passes over all images.

{table}

TRL: bf16 weights, LoRA on the text part alone, no checkpointing, sdpa, its own vision collator, answers alone trained.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", nargs="?", choices=ARMS, help="only this one, in this process")
    parser.add_argument("folder", nargs="?", type=Path, help="where its model and rows are")
    parser.add_argument("times", nargs="?", type=Path, help="the file for its times")
    args = parser.parse_args()
    if args.arm is None:
        write_page(__file__, "Training on images", _body(measure_in_turns()))
    elif args.times is None:
        parser.error(f"{args.arm} needs a folder and a file for its times")
    else:
        ARMS[args.arm](args.folder, args.times)


def measure_in_turns() -> dict[str, list[dict[str, float]]]:
    """The figures of every run by arm."""
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder)
        write_model(folder / "model")
        for repeat in range(REPEATS):
            for arm, arm_runs in runs.items():
                arm_runs.append(measured(arm, folder, folder / f"{arm}{repeat}.json"))
                print(arm, arm_runs[-1], flush=True)
    return runs


def _body(runs: dict[str, list[dict[str, float]]]) -> str:
    patches = (SIDE // PATCH) ** 2
    return BODY.format(
        layers=SEES["num_hidden_layers"],
        hidden=SEES["hidden_size"],
        side=SIDE,
        patches=f"{patches:,}",
        tokens=TOKENS,
        text_layers=READS["num_hidden_layers"],
        text_hidden=READS["hidden_size"],
        ratio=2 * tower_weights() * patches / (4 * text_weights() * ROW_TOKENS),
        rows=ROWS,
        row_tokens=ROW_TOKENS,
        batch=BATCH,
        epochs=EPOCHS,
        repeats=REPEATS,
        table=table("| " + " | ".join(COLUMNS.values()), _rows(runs)),
    )


def _rows(runs: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    medians = {arm: {key: median(run[key] for run in arm_runs) for key in COLUMNS} for arm, arm_runs in runs.items()}
    rows = [[arm, *(f"{figures[key]:.3g}" for key in COLUMNS)] for arm, figures in medians.items()]
    ratios = [f"{medians['trl'][key] / medians['gemtune'][key]:.2f}x" for key in ("first", "later", "peak")]
    return [*rows, ["times better", *ratios, ""]]


def tower_weights() -> int:
    """Those of the matrix products of the vision tower's blocks."""
    hidden, between = SEES["hidden_size"], SEES["intermediate_size"]
    return SEES["num_hidden_layers"] * (4 * hidden**2 + 2 * hidden * between)


def text_weights() -> int:
    """Those of the matrix products of the text part's blocks."""
    hidden, between, size = READS["hidden_size"], READS["intermediate_size"], READS["head_dim"]
    heads, key_heads = READS["num_attention_heads"], READS["num_key_value_heads"]
    attention = 2 * hidden * size * (heads + key_heads)
    return READS["num_hidden_layers"] * (attention + 3 * hidden * between)


def write_model(folder: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    from gemtune.models.families.gemma3 import write_tiny_vision

    write_tiny_vision(folder, side=SIDE, patch=PATCH, tokens=TOKENS, vision_sizes=SEES, text_sizes=READS)
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
    command = [sys.executable, "-m", "benchmarks.studies.vision", arm, str(folder), str(out)]
    process = subprocess.Popen(command, cwd=ROOT)  # noqa: S603 (written here)
    peak = peak_memory(process)
    if process.returncode:
        raise SystemExit(f"{arm} ended with {process.returncode}")
    times = read_json(out)
    ends, epoch_end = times["steps"], times["steps"][ROWS // BATCH - 1]
    return {
        "first": epoch_end - times["ready"],
        "later": (ends[-1] - epoch_end) / (EPOCHS - 1),
        "peak": peak / 1e9,
        "loss": times["loss"],
    }


def train_with_gemtune(folder: Path, out: Path) -> None:
    """What `gemtune train` does with prepared rows, from an empty cache of image features."""
    from gemtune.kernels.native import compiled
    from gemtune.models.adapters import attach_adapters
    from gemtune.models.loading import special_ids
    from gemtune.models.patching import install_kernels
    from gemtune.pipeline import decisions, stages
    from gemtune.pipeline.job import Job
    from gemtune.training.planner import ModelShape, choose_micro_tokens
    from gemtune.training.run import train, training_setup

    with tempfile.TemporaryDirectory() as runs:
        os.environ["GEMTUNE_CACHE"] = str(Path(runs) / "cache")
        job = Job(write_recipe(folder, Path(runs)), say=lambda text: None)
        stages.prepare(job)
        recipe, steps = job.recipe, []
        model = install_kernels(attach_adapters(job.base_model(), recipe.lora, job.family, [], 0))
        features = job.image_features(model)
        micro, _ = choose_micro_tokens(recipe, ModelShape.of(model.config), job.device, job.precision)
        ids = special_ids(job.tokenizer, job.family)
        compiled()  # once per machine
        setup = training_setup(
            job.run,
            recipe,
            model,
            base=job.folder,
            family=job.family,
            special_ids=ids,
            device=job.device,
            precision=job.precision,
            micro_tokens=micro,
            image_features=features,
        )
        ready = time.time()
        decisions.encode_images(job, features)
        train(setup, progress=lambda line: steps.append((time.time(), line["loss"])))
        write_json(out, {"ready": ready, "steps": [at for at, _ in steps], "loss": steps[-1][1]})


def write_recipe(folder: Path, runs: Path) -> Path:
    train = {
        "epochs": float(EPOCHS),
        "batch_size": BATCH,
        "learning_rate": RATE,
        "schedule": "constant",
        "warmup_ratio": 0.0,
        "precision": "bf16",
        "save_steps": 1000,
    }
    settings = {
        "name": "v",
        "task": "messages",
        "model": str(folder / "model"),
        "runs_dir": str(runs),
        "data": [{"source": str(folder / "rows.jsonl"), "part": "train"}],
        "prepare": {"dedupe": "none"},
        "lora": {"token_rows": "none"},
        "train": train,
    }
    write_json(runs / "v.yaml", settings)  # JSON is YAML
    return runs / "v.yaml"


def train_with_trl(folder: Path, out: Path) -> None:
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import SFTConfig, SFTTrainer

    from gemtune.models.families import chat_template, family_of

    processor = AutoProcessor.from_pretrained(folder / "model")
    processor.chat_template = chat_template(family_of(folder / "model"))
    args = SFTConfig(
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
    )
    linear = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    clock = _clock()
    trainer = SFTTrainer(
        model=AutoModelForImageTextToText.from_pretrained(
            folder / "model", dtype=torch.bfloat16, attn_implementation="sdpa"
        ),
        args=args,
        train_dataset=_trl_rows(folder),
        processing_class=processor,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=linear, task_type="CAUSAL_LM"),
        callbacks=[clock],
    )
    trainer.train()
    write_json(out, {"ready": clock.ready, "steps": clock.steps, "loss": clock.losses[-1]})


def _trl_rows(folder: Path) -> Any:
    """The rows as TRL wants them: prompt, completion and images."""
    from datasets import Dataset, Features, Image, Value

    rows = [
        {
            "prompt": [{"role": "user", "content": row["messages"][0]["content"].removeprefix("<image>")}],
            "completion": [row["messages"][1]],
            "images": [str(folder / row["images"][0])],
        }
        for row in read_jsonl(folder / "rows.jsonl")
    ]
    turns = [{"role": Value("string"), "content": Value("string")}]
    return Dataset.from_list(rows, features=Features({"prompt": turns, "completion": turns, "images": [Image()]}))


def _clock() -> Any:
    """A callback that keeps when the training began, when each step ended, and the losses."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ready, self.steps, self.losses = 0.0, [], []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.ready = time.time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.steps.append(time.time())

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                self.losses.append(float(logs["loss"]))

    return Clock()


ARMS = {"trl": train_with_trl, "gemtune": train_with_gemtune}

if __name__ == "__main__":
    main()
