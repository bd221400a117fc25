"""llama.cpp, as xllamacpp brings it prebuilt, in a child process: a failed assert inside it ends the whole process."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import math
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gemtune.data.images import open_rgb
from gemtune.errors import GemtuneError, MissingExtra
from gemtune.exporting.runtime import Choice
from gemtune.files import JsonObject
from gemtune.worker import Worker, WorkerError

if TYPE_CHECKING:
    from xllamacpp import Server

CONTEXT = 4096  # tokens of a prompt and its reply
DOOR = ""  # asked for: where in the child llama.cpp's own server listens, and its key
BEGIN_IMAGE, END_IMAGE = "<start_of_image>", "<end_of_image>"  # llama.cpp writes them around an image itself
_SECONDS = 1_800.0  # for one request, the first of which loads the model
_YEARS = 1e9  # seconds, for a child that is asked directly, of which the clock of one request knows nothing
_LOG_SECONDS = 3.0  # until its log says why it gave up
_MEMORY = 2**44  # a model takes what it needs
_REASONS = ("GGML_ASSERT", "error loading model: ", "terminate called")  # what it logs before it gives up


class LlamaCpp:
    """A GGUF file in llama.cpp, on the CPU.

    `projector` is the GGUF of a vision tower (mmproj), `adapter` that of a LoRA adapter, `slots` how many replies are
    made side by side, each with a context of its own. `threads`: more than one spin while they wait for each other, so
    they pay on a machine with nothing else to do. It is loaded when first asked.
    """

    def __init__(
        self,
        model: Path,
        *,
        projector: Path | None = None,
        adapter: Path | None = None,
        context: int = CONTEXT,
        slots: int = 1,
        threads: int = 1,
    ):
        try:
            self.name = f"llama.cpp (xllamacpp {version('xllamacpp')})"
        except PackageNotFoundError as error:
            raise MissingExtra("running a GGUF file", "gguf") from error
        self.model = model
        self._start = [str(model), str(projector or ""), str(adapter or ""), context, slots, threads]
        self._log: deque[str] = deque(maxlen=200)
        reading, self._stderr = os.pipe()
        self._reader = threading.Thread(target=_keep_lines, args=(reading, self._log), daemon=True)
        self._reader.start()
        self._why = "it was closed"  # why it has ended, once it has
        self._door: JsonObject | None = None  # while its process lives, as far as is known
        self._opening = threading.Lock()
        seconds = _YEARS if slots > 1 else _SECONDS
        self._worker = Worker(f"{__name__}:answer", seconds=seconds, memory=_MEMORY, stderr=self._stderr)

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, special tokens in it taken as such, nothing added."""
        return self._ids(text)

    def decode(self, prompt: Sequence[int], limit: int, images: Sequence[Path] = ()) -> list[Choice]:
        """At most `limit` greedy choices after a prompt's ids; the last is a stop token where the model stopped."""
        request = {
            "prompt": self._with_images(prompt, images) if images else list(prompt),
            "n_predict": limit,
            "temperature": 0.0,
            "n_probs": 2,
            "return_tokens": True,
            "cache_prompt": False,  # else the numbers depend on what was asked before
        }
        reply = self._ask("/completion", request)
        tokens, steps = reply["tokens"], reply.get("completion_probabilities", [])
        # It says nothing of a token that ends within a character (of some emoji each byte is one), nor which that are.
        margins = map(_margin, steps) if len(steps) == len(tokens) else repeat(math.nan, len(tokens))
        return [Choice(token, margin) for token, margin in zip(tokens, margins, strict=True)]

    def load(self) -> JsonObject:
        """Loads it, where it is not; where its server is, and the key. GemtuneError where llama.cpp cannot."""
        with self._opening:
            self._door = self._door or self._ask(DOOR, None)
            return self._door

    def _forget(self, door: JsonObject | None) -> None:
        """Ends a process that has broken off, unless another has taken its place."""
        with self._opening:
            if door is self._door and self._reader.is_alive():
                self._worker.close()
                self._door = None

    def stream(
        self, prompt: Sequence[int], images: Sequence[Path] = (), **settings: object
    ) -> Generator[JsonObject, None, None]:
        """Yields what llama.cpp says of a reply as that grows; `settings` are of its own request.

        `content` is a piece of the text, which ends with no half of a character, `tokens_predicted` how many there are
        by now, and `stop_type` of the last one why it ended. Whoever closes the iterator ends the generation.
        """
        asked = self._with_images(prompt, images) if images else list(prompt)
        body = {"prompt": asked, "cache_prompt": False, **settings, "stream": True}
        piece: JsonObject = {}
        door = self.load()
        try:
            with _requested(door, "/completion", body) as response:
                for line in filter(None, map(bytes.strip, response)):
                    piece = json.loads(line.removeprefix(b"data: ").removeprefix(b"error: "))
                    if "error" in piece:
                        raise GemtuneError(f"{self.model}: {self.name} says: {piece['error']['message']}")
                    yield piece
        except (OSError, http.client.HTTPException, json.JSONDecodeError):  # cut off, with its process
            piece = {}
        if not piece.get("stop"):
            reason = self._reason() or "its process ended"
            self._forget(door)
            raise GemtuneError(f"{self.model}: {self.name} broke off: {reason}; the next request loads it again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def _reason(self) -> str | None:
        """Why llama.cpp gave up, by its log, which a thread of its own writes."""
        deadline = time.monotonic() + _LOG_SECONDS
        while time.monotonic() < deadline and self._reader.is_alive():
            for line in list(self._log):
                for sign in _REASONS:
                    if sign in line:
                        return line[line.index(sign) :].strip()
            time.sleep(0.02)
        return None

    def _end(self) -> None:
        """Ends the child, and with it the log."""
        self._worker.close()
        if self._reader.is_alive():
            os.close(self._stderr)
            self._reader.join()

    def _ids(self, text: str, begins: bool = False) -> list[int]:
        ids: list[int] = self._ask("/tokenize", {"content": text, "add_special": begins, "parse_special": True})[
            "tokens"
        ]
        return ids

    def _with_images(self, prompt: Sequence[int], images: Sequence[Path]) -> dict[str, object]:
        """A prompt as llama.cpp takes images: as text, with a marker for each, which is not read as a token."""
        begin, end, first = *self._ids(BEGIN_IMAGE + END_IMAGE), self._ids("", begins=True)
        texts: list[list[int]] = [[]]
        is_image = False
        for token in prompt[1:] if list(prompt[:1]) == first else prompt:  # llama.cpp adds the first itself
            is_image = is_image or token == begin
            if not is_image:
                texts[-1].append(token)
            elif token == end:
                texts.append([])
                is_image = False
        if len(texts) != len(images) + 1 or is_image:
            raise GemtuneError(
                f"{self.model}: a prompt with {len(texts) - 1} pictures for {len(images)} images; llama.cpp takes each "
                "image once and whole: train without vision.pan_and_scan"
            )
        pieces = [self._ask("/detokenize", {"tokens": ids})["content"] for ids in texts]
        if [self._ids(piece) for piece in pieces] != texts:
            raise GemtuneError(f"{self.model}: llama.cpp cuts the prompt around its images into other tokens")
        return {
            "prompt_string": self._ask("/props", None)["media_marker"].join(pieces),
            "multimodal_data": [_as_png(path) for path in images],
        }

    def _ask(self, path: str, body: JsonObject | None) -> JsonObject:
        if self._reader.is_alive():
            try:
                reply: JsonObject = self._worker([self._start, path, body])
            except WorkerError as error:
                reply = {"ended": str(error)}
            if "ended" in reply:
                self._why = self._reason() or reply["ended"]
                self._end()
        if not self._reader.is_alive():
            raise GemtuneError(f"{self.model}: {self.name} cannot run it: {self._why}; export it again")
        if "error" in reply:
            raise GemtuneError(f"{self.model}: {self.name} says: {reply['error']['message']}")
        return reply


def _margin(step: JsonObject) -> float:
    first, second = step["top_logprobs"]
    return float(first["logprob"] - second["logprob"])


def _keep_lines(pipe: int, log: deque[str]) -> None:
    with open(pipe, encoding="utf-8", errors="replace") as lines:
        log.extend(lines)


def _as_png(path: Path) -> str:
    """An image as gemtune sees it, for a program that knows fewer formats and no EXIF data."""
    data = io.BytesIO()
    open_rgb(path).save(data, "PNG", compress_level=1)
    return base64.b64encode(data.getvalue()).decode()


def answer(request: list[Any]) -> JsonObject:
    """In the child: what llama.cpp's own server answers to a request."""
    start, path, body = request
    try:
        server, key = _server(*start)
    except RuntimeError as error:  # all that xllamacpp says of a file; llama.cpp's log says why
        return {"ended": str(error)}
    door = {"address": server.listening_address.removeprefix("http://"), "key": key}
    if path == DOOR:
        return door
    with _requested(door, path, body) as response:
        reply: JsonObject = json.loads(response.read())
    return reply


@contextlib.contextmanager
def _requested(door: JsonObject, path: str, body: JsonObject | None) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, which is hung up at the end of the block."""
    connection = http.client.HTTPConnection(door["address"])
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {door['key']}"}
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, json.dumps(body), headers)
        with connection.getresponse() as response:
            yield response


@cache
def _server(model: str, projector: str, adapter: str, context: int, slots: int, threads: int) -> tuple[Server, str]:
    """llama.cpp's server on a free port of this machine alone, and the key without which it answers nobody."""
    import xllamacpp

    key = secrets.token_hex(32)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.mmproj.path = projector
    if adapter:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
    parameters.n_ctx, parameters.n_parallel = context * slots, slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.api_keys = [key]
    parameters.ui = False
    parameters.warmup = parameters.fit_params = False
    parameters.cache_ram_mib = 0
    parameters.verbosity = 1  # errors
    return xllamacpp.Server(parameters), key
