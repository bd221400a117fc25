"""Does the page answer as Python does, on the processor and by WebGPU, and how fast?

    gemtune web runs/emoji
    python -m benchmarks.studies.web_page runs/emoji --pictures docs/images

Opens the run's page in headless Chromium (`apt install chromium`, `pip install playwright`), once for each engine, asks
it test rows, and compares with llama.cpp in Python on the same file. The WebGPU that is everywhere is SwiftShader's,
which has no float16: llama.cpp leaves it alone, and the page must say so. Fails where the page asks for anything from
elsewhere.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from PIL import Image

from benchmarks.compare.results import table
from benchmarks.machine import write_page
from gemtune.data.conversation import Conversation
from gemtune.evaluation.evaluate import evaluation_rows
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.files import read_json
from gemtune.pipeline.job import Job
from gemtune.serving.web_server import web_server

WAIT = 570_000  # milliseconds for what a page does on a busy machine
ENGINES = {
    "processor": [],
    "WebGPU without float16 (SwiftShader)": ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
}
SIZES = {"phone": (390, 844, 2), "desktop": (1180, 760, 1)}  # width, height, pixels of the screen to one of the page
BODY = """\
`{name}`, {size:.0f} MB in parts, in {browser}, headless, from the server of `gemtune web`. Ready: fetched,
loaded and proven on {golden} rows. {rows} test rows were asked; a reply is the same where its whole text is that of
{llama} in Python, from the same file. Speed: the median of the page's own figure. Memory: of all
processes of the browser, at the end. No request left this machine.

{table}

The base model beside it, on the switch: {more:.0f} MB more were fetched; {base_same} of {rows} replies are Python's.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run whose export/web/ is opened")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of the page")
    parser.add_argument("--text", default="I can't stop sneezing", help="what is asked in the pictures")
    args = parser.parse_args()
    job = Job(args.run, say=print)
    folder, artifact = job.run.artifact("web"), next(job.run.artifact("gguf-q8_0").glob("*.gguf"))
    site = read_json(folder / "site.json")
    rows = evaluation_rows(job.run.part("test"), job.renderer, job.task, job.recipe, args.rows)
    wanted = python_replies(job, {"tuned": artifact, "base": whole(site, folder)}, rows)
    lines, base_same, browser_name = [], 0, ""
    for engine in args.engines:
        with opened(folder, ENGINES[engine]) as (page, browser):
            browser_name = f"Chromium {browser.version}"
            line = [engine, *tried(page, rows, wanted["tuned"])]
            if engine == args.engines[0]:
                page.locator("#compare").click()
                page.locator("#compare:enabled").wait_for()
                base_same = same(page_replies(page, rows, "base")[0], wanted["base"])
                take_pictures(page, args.text, args.pictures)
            lines.append([*line, f"{sum(process.memory_info().rss for process in browsers()) / 1e9:.2f}"])
            print(*lines[-1], flush=True)
    models = site["models"]
    known = {part["file"] for part in models["tuned"]["parts"]}
    body = BODY.format(
        name=site["name"],
        size=models["tuned"]["bytes"] / 1e6,
        browser=browser_name,
        golden=len(models["tuned"]["golden"]),
        rows=len(rows),
        llama=LlamaCpp(artifact).name,
        table=table("engine | what the page says | ready, s | replies the same | tokens/s | GB", lines),
        more=sum(part["bytes"] for part in models["base"]["parts"] if part["file"] not in known) / 1e6,
        base_same=base_same,
    )
    write_page(__file__, "The page in a browser", body)


def tried(page: Any, rows: Sequence[Conversation], wanted: Sequence[str]) -> list[str]:
    """What the page says of its engine, when it was ready, how many replies are right, and how fast they came."""
    began = time.perf_counter()
    page.locator("#start-button").click()
    page.locator("#talk").wait_for()
    ready = time.perf_counter() - began
    replies, speeds = page_replies(page, rows, "tuned")
    said = page.locator("#engine").text_content().strip()
    return [said, f"{ready:.0f}", f"{same(replies, wanted)} of {len(rows)}", f"{median(speeds):.1f}"]


def whole(site: Mapping[str, Any], folder: Path) -> Path:
    """The base model of a page, its parts joined beside the page."""
    path = folder.with_name("web-base.gguf")
    with path.open("wb") as out:
        for part in site["models"]["base"]["parts"]:
            out.write((folder / part["file"]).read_bytes())
    return path


def python_replies(job: Job, models: Mapping[str, Path], rows: Sequence[Conversation]) -> dict[str, list[str]]:
    """What llama.cpp writes for rows in Python."""
    replies = {}
    for name, path in models.items():
        with LlamaCpp(path) as runtime:
            limit = job.recipe.evaluate.max_new_tokens
            choices = [runtime.decode(job.renderer.prompt_ids(row), limit) for row in rows]
        texts = [job.renderer.reply([choice.token for choice in reply])[0] for reply in choices]
        replies[name] = [text.strip() for text in texts]
    models["base"].unlink()
    return replies


def same(replies: Sequence[str], wanted: Sequence[str]) -> int:
    for reply, other in zip(replies, wanted, strict=True):
        print("=" if reply == other else "!", repr(reply), "" if reply == other else f"in Python {other!r}", flush=True)
    return sum(reply == other for reply, other in zip(replies, wanted, strict=True))


@contextmanager
def opened(folder: Path, arguments: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """The page and its browser; whatever the page asks for elsewhere ends the study."""
    from playwright.sync_api import sync_playwright

    with web_server(folder, 0) as server, sync_playwright() as player:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = player.chromium.launch(executable_path=program, args=["--no-sandbox", *arguments])
        width, height, pixels = SIZES["phone"]
        context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=pixels)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        yield page, browser
        browser.close()
        server.shutdown()
    for url in asked:
        if not url.startswith((address, f"blob:{address}", "data:")):
            raise SystemExit(f"the page asked for {url}")


def page_replies(page: Any, rows: Sequence[Conversation], model: str) -> tuple[list[str], list[float]]:
    """What a model of the page answers, and its tokens per second."""
    replies, speeds = [], []
    for row in rows:
        ask(page, row.key, model)
        replies.append(page.locator(f"#{model} .text").text_content().strip())
        speeds.append(float(page.locator(f"#{model} .note").text_content().split()[0]))
    return replies, speeds


def ask(page: Any, text: str, model: str) -> None:
    """Types a text, once nothing is being answered, and waits for a model's answer to it."""
    page.locator("#send[aria-label=Ask]").wait_for()
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")
    page.locator(f"#{model} .note", has_text="tokens per second").wait_for()


def take_pictures(page: Any, text: str, folder: Path | None) -> None:
    """Of both answers, at each size, the phone's light and the desktop's dark."""
    if folder is None:
        return
    for name, scheme in (("phone", "light"), ("desktop", "dark")):
        width, height, _ = SIZES[name]
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        ask(page, text, "base")
        path = folder / f"web-{name}.png"
        page.screenshot(path=path)
        Image.open(path).quantize(64).save(path, optimize=True)


def browsers() -> list[psutil.Process]:
    """The browser's processes that this one has started."""
    return [child for child in psutil.Process().children(recursive=True) if "chrom" in child.name()]


if __name__ == "__main__":
    main()
