"""What the scripted teacher sends: replies as OpenAI and Google shape them, errors, and connections that break."""

from __future__ import annotations

import base64
import json
import math
import struct
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, BinaryIO

from gemtune.files import JsonObject

if TYPE_CHECKING:
    from benchmarks.scripted_teacher import ScriptedTeacher

HTML = "<html><body><h1>Please sign in</h1></body></html>"


def asked(body: JsonObject) -> tuple[bytes, str, str]:
    """The image, the prompt, and the task, where the schema has its name."""
    image, prompt = b"", ""
    if "contents" in body:  # Gemini's
        for part in body["contents"][-1]["parts"]:
            image += base64.urlsafe_b64decode(part["inlineData"]["data"] + "==") if "inlineData" in part else b""
            prompt += part.get("text", "")
        return image, prompt, ""
    for part in body["messages"][-1]["content"]:
        if part["type"] == "image_url":
            image = base64.b64decode(part["image_url"]["url"].partition(",")[2])
        else:
            prompt += part["text"]
    schema = (body.get("response_format") or {}).get("json_schema") or {}
    return image, prompt, schema.get("name", "")


def tokens_of(image: bytes, prompt: str, text: str, fault: str) -> JsonObject:
    """Tokens by a rule: one a patch of 28 pixels, one each three letters."""
    width, height = struct.unpack(">II", image[16:24]) if image[:4] == b"\x89PNG" else (28, 28)
    thinking = 50 if fault == "thinking" else 0
    given = len(text) // 2 if fault == "cut" else len(text)
    return {
        "prompt_tokens": math.ceil(width / 28) * math.ceil(height / 28) + len(prompt) // 3,
        "completion_tokens": given // 3 + 1 + thinking,
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }


def completion(text: str, usage: JsonObject, finish: str, refusal: str | None = None) -> JsonObject:
    message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def as_it_is(completion: JsonObject) -> JsonObject:
    return completion


def as_geminis(completion: JsonObject) -> JsonObject:
    """The same as Google says it."""
    [choice], usage = completion["choices"], completion["usage"]
    message, thinking = choice["message"], usage["completion_tokens_details"]["reasoning_tokens"]
    counts = {
        "promptTokenCount": usage["prompt_tokens"],
        "candidatesTokenCount": usage["completion_tokens"] - thinking,
        "thoughtsTokenCount": thinking,
    }
    if message["refusal"]:
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": counts}
    finish = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "RECITATION"}[choice["finish_reason"]]
    parts = [*([{"text": "Let me see.", "thought": True}] if thinking else []), {"text": message["content"]}]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": counts}


def changed(text: str, usage: JsonObject, fault: str) -> tuple[str, JsonObject, str, str | None]:
    """A reply as a fault has it."""
    if fault == "cut":
        return text[: len(text) // 2], usage, "length", None
    if fault == "refused":
        return "", usage, "stop", "I cannot help with this page."
    if fault == "filtered":
        return "", usage, "content_filter", None
    if fault == "wrong":
        return '{"quite": "another thing"}', usage, "stop", None
    if fault == "escaped":
        return json.dumps(json.loads(text)), usage, "stop", None
    if fault == "fenced":
        return f"```json\n{text}\n```", usage, "stop", None
    if fault == "broken":
        return text.rstrip()[:-1] + ",}", usage, "stop", None
    return text, usage, "stop", None


def error(message: str, code: str = "", **more: object) -> JsonObject:
    return {"error": {"message": message, "code": code, **more}}


def _google(seconds: float, quota: str) -> JsonObject:
    violation = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}
    words = "You exceeded your current quota, please check your plan and billing details."
    return {"error": {"code": 429, "message": words, "status": "RESOURCE_EXHAUSTED", "details": [violation, retry]}}


_MINUTE, _DAY = "GenerateRequestsPerMinutePerProjectPerModel", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
STATUS = {
    **dict.fromkeys(("429", "429 in the body", "429 for long", "quota", "quota of the day"), 429),
    **{status: int(status) for status in ("400", "401", "404", "500")},
}
ERRORS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "429": lambda fault: (error("Rate limit reached"), {"Retry-After": "1"}),
    "429 in the body": lambda fault: (_google(0.75, _MINUTE),),
    "429 for long": lambda fault: (error("Rate limit reached"), {"Retry-After": "7200"}),
    "quota": lambda fault: (error("You exceeded your current quota, please check your plan.", "insufficient_quota"),),
    "quota of the day": lambda fault: (_google(45.83, _DAY),),
    "500": lambda fault: (error("The server had an error"),),
    "401": lambda fault: (error("Incorrect API key provided: sk-te**********cret.", "invalid_api_key"),),
    "404": lambda fault: (error("The model `m` does not exist or you do not have access to it.", "model_not_found"),),
    "400": lambda fault: (error(fault.partition(":")[2].strip() or "Invalid request"),),
}


def unchunked(stream: BinaryIO) -> bytes:
    data = b""
    while size := int(stream.readline(), 16):
        data += stream.read(size)
        stream.readline()
    stream.readline()
    return data


def send(request: BaseHTTPRequestHandler, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
    data = value.encode() if isinstance(value, str) else json.dumps(value, ensure_ascii=False).encode()
    request.send_response(status)
    for name, text in (headers or {}).items():
        request.send_header(name, text)
    request.send_header("Content-Type", "text/html" if isinstance(value, str) else "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def _slow(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    teacher.closing.wait(teacher.slow)
    send(request, 200, value)


def _trickle(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    """A byte now and then: no single read takes long."""
    data = json.dumps(value).encode()
    request.send_response(200)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    ends = time.monotonic() + teacher.slow
    for byte in data:
        if time.monotonic() > ends or teacher.closing.wait(0.05):
            break
        request.wfile.write(bytes([byte]))
    request.close_connection = True


def _dropped(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    request.close_connection = True
    request.connection.close()


def _half(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    data = json.dumps(value).encode()
    request.send_response(200)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data[: len(data) // 2])
    request.wfile.flush()
    request.close_connection = True


def _html(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    send(request, 200, HTML)


def _router(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    send(request, 200, {"error": {"message": "Provider returned error", "code": 502}})


BROKEN = {
    "error in a 200": _router,
    "slow": _slow,
    "trickle": _trickle,
    "dropped": _dropped,
    "half": _half,
    "html": _html,
}
