"""Golden losses: what short trainings of tiny models logged and answered, which no refactor may change.

    python tests/golden/record.py           # writes golden.json again; say in the commit why the numbers changed
    python tests/golden/record.py --check   # compares with it to the last digit; for the machine that wrote it

Each case is `gemtune run` in a process of its own, as a user has it, on rows that the repository ships, with one thread
in fp32. tests/test_golden.py compares within a tolerance, because another processor sums in another order.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
EXAMPLES = HERE.parents[1] / "examples"
TEXT = {"task": "emoji", "data": {"source": str(EXAMPLES / "emoji.csv"), "limit": 96}}
IMAGES = {
    "task": "multi_image",
    "data": {
        "source": str(EXAMPLES / "multi_image" / "rows.json"),
        "images": [str(EXAMPLES / "multi_image" / "pictures.zip")],
        "limit": 32,
    },
}
NO_COMPILER = {"CXX": "/bin/false"}

# case -> (tiny model, what the recipe adds to the defaults below, environment)
CASES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "gemma3": ("gemma3", TEXT, {}),
    "gemma3 without compiled kernels": ("gemma3", TEXT, NO_COMPILER),
    "gemma3, every weight": ("gemma3", {**TEXT, "lora": "none"}, {}),
    "qwen3": ("qwen3", TEXT, {}),
    "gemma3-vision": ("gemma3-vision", IMAGES, {}),
    "llava": ("llava", IMAGES, {}),
    "llava-onevision": ("llava-onevision", IMAGES, {}),
    "qwen3-vl": ("qwen3-vl", IMAGES, {}),
}


def record(case: str, folder: Path) -> dict[str, Any]:
    """Runs a case in a folder: {"steps": losses by step, "replies": of base and tuned}."""
    family, keys, environment = CASES[case]
    _gemtune(folder, environment, "tiny", family, "model")
    recipe = {
        "name": "golden",
        "model": "model",
        "runs_dir": "runs",
        "train": {
            "epochs": 1,
            "batch_size": 8,
            "max_length": 512,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "device": "cpu",
        },
        "evaluate": {"limit": 6, "max_new_tokens": 8},
        **keys,
    }
    (folder / "golden.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    _gemtune(folder, environment, "run", "golden.yaml")
    run = folder / "runs" / "golden"
    kept = ("step", "loss", "grad_norm", "eval_loss", "probe_loss")
    return {
        "steps": [{key: line[key] for key in kept if key in line} for line in _lines(run / "metrics.jsonl")],
        "replies": {
            name: [line["reply"] for line in _lines(run / "eval" / f"{name}.jsonl")] for name in ("base", "tuned")
        },
    }


def _gemtune(folder: Path, environment: dict[str, str], *args: str) -> None:
    cache = {"GEMTUNE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from gemtune.cli.app import main; main()", *args],
        cwd=folder,
        env={**os.environ, **cache, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"gemtune {' '.join(args)} ended with {done.returncode}: {done.stderr}")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Records every case, and writes or compares."""
    recorded = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            recorded[case] = record(case, Path(folder))
        print(f"{case}: {recorded[case]['steps'][-1]}", flush=True)
    if "--check" not in sys.argv:
        GOLDEN.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    changed = [case for case in CASES if recorded[case] != golden.get(case)]
    if changed:
        raise SystemExit(f"not as recorded: {', '.join(changed)}")
    print(f"{len(CASES)} of {len(CASES)} as recorded, to the last digit")


if __name__ == "__main__":
    main()
