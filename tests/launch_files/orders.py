"""Recipes in a folder of a user's, with names that no shell and no YAML may take for more; and what is launched."""

from __future__ import annotations

from pathlib import Path

from gemtune.launch_files.order import Size
from gemtune.launch_files.write import launch_text

DISKS = {"slurm": None, "k8s": None, "ray": None, "sky": "s3://bucket", "vertex": "gs://bucket"}
# Names of a recipe's file, some of which are structure somewhere.
ODD = [
    "a b.yaml",
    "-r.yaml",
    "$(touch pwned).yaml",
    "`touch pwned`.yaml",
    "'; touch pwned; '.yaml",
    '"; touch pwned; ".yaml',
    "$HOME $(HOME) $$.yaml",
    "x\n- evil: 1\nevil: 1.yaml",
    "x\n#SBATCH --wrap=evil\n.yaml",
    "# a: {b}, [c] & *d !e %f @g.yaml",
    "\\n\t.yaml",
    "{{ x }} {0} %(y)s.yaml",
    "قائمة.yaml",
    "1e4",
]


def text_of(folder: Path, to: str, file: str = "r.yaml", size: Size | None = None, *overrides: str) -> str:
    """What `gemtune launch` writes for a recipe of this name in the current folder."""
    (folder / file).write_text("name: My.Run_2\ntask: emoji\ndata: e.csv\n", encoding="utf-8")
    return launch_text(folder / file, to, size or Size(), overrides=overrides, shared=DISKS[to])


def shape(value: object) -> object:
    """Plain data without its texts and numbers: what hostile words must not change."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__
