"""The border to a model folder that somebody else wrote: what loaders raise, and the config that they read."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from gemtune.errors import GemtuneError, ModelError, memory_errors
from gemtune.files import READING, JsonObject, os_errors

MOST_CONFIG = 4_000_000  # bytes of a config.json
MOST_LAYERS = 1_000
MOST_SIZE = 2**31 - 1  # of any other number in a config
SMALLER = "close other programs, or give a smaller model"
# What in a config names code: gemtune takes the architecture from `model_type` and sets its own attention.
_CODE = ("auto_map", "_attn_implementation", "attn_implementation", "_experts_implementation", "custom_pipelines")

_RUST_OS_ERROR = re.compile(r"\(os error (\d{1,4})\)")

os.environ["USE_HUB_KERNELS"] = "NO"  # transformers fetches none; read when it is imported


@contextlib.contextmanager
def without_hub_kernels() -> Iterator[None]:
    """Around the import of bitsandbytes, which fetches compiled code from the Hub where `kernels` is installed."""
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")  # which would advise to install that package
    before, level = sys.modules.get("kernels"), logger.level
    sys.modules["kernels"] = None  # type: ignore[assignment]  # so an import of it fails
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        del sys.modules["kernels"]
        if before is not None:
            sys.modules["kernels"] = before


@contextlib.contextmanager
def loading(what: object) -> Iterator[None]:
    """Turns whatever a loader raises about a spoiled file into one line.

    transformers, tokenizers, safetensors and peft fail inside their own code on values that they do not expect, with
    nearly every kind of exception; tokenizers raises Exception itself. Memory that runs out is no fault of the file.
    """
    try:
        with memory_errors(SMALLER):
            yield
    except GemtuneError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"{what}: cannot be loaded ({type(error).__name__}: {reason}); fetch the model again, or give another one"
        ) from error


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turns what an operating system says of a write into one line, also where a library in Rust reports it.

    safetensors and tokenizers raise an exception of their own, or Exception, whose text ends in `(os error 28)`.
    """
    with os_errors(path):
        try:
            yield
        except Exception as error:
            number = _RUST_OS_ERROR.search(str(error))
            if isinstance(error, OSError) or number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def config_values(folder: Path) -> JsonObject:
    """A model folder's config.json without what names code; ModelError when it is damaged or beyond all bounds."""
    path = folder / "config.json"
    with os_errors(path, READING):
        text = path.read_bytes()
    if len(text) > MOST_CONFIG:
        raise ModelError(f"{path}: {len(text):,} bytes; a model's config has a few thousand")
    with loading(path):
        values = json.loads(text)
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a model's config: wanted an object with `model_type`")
    return _checked(values, path)


def _checked(values: JsonObject, path: Path) -> JsonObject:
    for key, value in values.items():
        if isinstance(value, int) and not isinstance(value, bool):
            most = MOST_LAYERS if key.endswith(("layers", "depth")) else MOST_SIZE
            if not -most <= value <= most:
                raise ModelError(f"{path}: {key} is {str(value)[:30]}; gemtune takes numbers up to {most:,} there")
    if values.get("quantization_config"):
        raise ModelError(
            f"{path}: holds quantised weights (quantization_config); give the model that they were made from, and "
            "quantize: nf4 if it should be small"
        )
    return {
        key: _checked(value, path) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in _CODE
    }
