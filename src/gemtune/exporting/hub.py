"""A folder -> a repository on the Hub: what would be sent, and sending it, again where it broke off."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gemtune.errors import GemtuneError
from gemtune.files import JsonObject, sha256_of

# As the Hub does for a new repository: by its name, or by its size.
_LARGE = {".bin", ".gguf", ".litertlm", ".model", ".onnx", ".onnx_data", ".safetensors", ".task", ".tflite", ".wasm"}
_MOST_PLAIN = 10 * 2**20  # bytes
_OWN = {"whole.json", "verify.json"}  # gemtune's notes: of this machine, and of rows


@dataclass(frozen=True)
class HubFile:
    """A file as it would lie in a repository."""

    path: str
    size: int
    sha256: str
    is_large: bool  # goes through LFS

    @classmethod
    def of(cls, path: Path, folder: Path) -> HubFile:
        size = path.stat().st_size
        is_large = size > _MOST_PLAIN or path.suffix in _LARGE
        return cls(path.relative_to(folder).as_posix(), size, sha256_of(path), is_large)

    def to_json(self) -> JsonObject:
        return {"path": self.path, "size": self.size, "sha256": self.sha256, "lfs": self.is_large}


def require_name(repo: str) -> None:
    """GemtuneError for what is no name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise GemtuneError(f"{repo}: no name of a repository; give a name such as user/model") from error
    if repo.count("/") != 1:
        raise GemtuneError(f"{repo}: no name of a repository; give a name such as user/model")


@contextlib.contextmanager
def staged(folder: Path, texts: Mapping[str, str]) -> Iterator[Path]:
    """A folder with links to the files of another, and texts that take the place of what has their name."""
    with tempfile.TemporaryDirectory(prefix="gemtune-") as name:
        stage = Path(name)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = stage / path.relative_to(folder)
            if not (path.name in _OWN or path.name.startswith(".") or place.relative_to(stage).as_posix() in texts):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(path.resolve())
        for text_name, text in texts.items():
            (stage / text_name).write_text(text, encoding="utf-8")
        yield stage


def hub_files(folder: Path) -> list[HubFile]:
    """Every file of a folder, as it would lie in a repository."""
    return [HubFile.of(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]


def card(head: JsonObject, results: Mapping[str, float], body: str) -> str:
    """A model card: the head in YAML, with the results as the Hub's `model-index`, and the text."""
    from huggingface_hub import EvalResult, ModelCardData

    pipeline = head["pipeline_tag"]
    scores = [
        EvalResult(
            task_type=pipeline,
            dataset_type=next(iter(head.get("datasets", [])), "private"),
            dataset_name="held-out rows",
            metric_type=name,
            metric_name=name,
            metric_value=value,
        )
        for name, value in results.items()
    ]
    data = ModelCardData(eval_results=scores or None, **head)
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def push(folder: Path, repo: str, *, public: bool, message: str) -> str:
    """Sends what of a folder the repository does not have, and returns its address; a private one, unless `public`.

    Where it breaks off, the same again sends the rest. The token is the client's own business.
    """
    from huggingface_hub import HfApi, ModelCard, get_token
    from huggingface_hub.errors import HFValidationError, HTTPError

    if not get_token():
        raise GemtuneError("no login at the Hub here; run `hf auth login` with a token that may write")
    api = HfApi()
    try:
        address = api.create_repo(repo, private=not public, exist_ok=True)
        if not public and not api.repo_info(repo).private:
            raise GemtuneError(f"{repo}: this repository is public; add --public, or give another name")
        ModelCard.load(folder / "README.md").validate()
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except (HTTPError, HFValidationError, ValueError, OSError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise GemtuneError(f"{repo}: cannot be sent ({why}); {_next_move(error)}") from error
    return str(address)


def _next_move(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, ValueError) and not status:  # of the card
        return "report it: the card is gemtune's own"
    if status in (401, 403):
        return "run `hf auth login` with a token that may write there"
    return "run the same again, which sends only what is missing"
