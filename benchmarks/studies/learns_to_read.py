"""Does a small vision model learn to read here, and more from a teacher? A Qwen3-VL trained from scratch by gemtune.

It reads Arabic and Latin words and numbers of up to four letters. None that it is tested on was in training; the
control asks for every word with the picture of another. Then words in a face that it never saw, noisy, come as PDFs:
`gemtune distill` asks a teacher for them over HTTP, and the model is tuned on those labels.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features
from rapidfuzz.distance import Levenshtein

from benchmarks.compare.results import table
from benchmarks.machine import WORK, write_page
from benchmarks.scripted_teacher import ScriptedTeacher, truth_of
from gemtune.documents.folder import DistilledFolder
from gemtune.files import read_jsonl, write_json, write_jsonl, write_text
from gemtune.models.tiny import TEXT, make_tokenizer
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job

FOLDER = WORK / "learns_to_read"  # stays: a study that was stopped goes on in it
WIDTH, HEIGHT = 64, 32  # pixels of a picture: 8 tokens
TRAINED, TESTED, STEPS, BATCH = 24_000, 300, 1600, 64
LABELLED, A_DOCUMENT, TUNED_STEPS = 500, 25, 150  # words in PDFs, words a PDF, steps on their labels
HELD_BACK, CHOOSING = 4, 2  # of those PDFs, for the test, and to choose the best step
PROMPT = "Read."
TASK = "word"
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "description": "what is written, as it is"}},
    "required": ["text"],
    "additionalProperties": False,
}
OPEN, CLOSE = json.dumps({"text": "|"}).split("|")
RTL = {"direction": "rtl", "language": "ar", "features": ["-liga", "-dlig", "-calt"]}  # letters joined, not stacked
ROOT_LETTERS = "بتثجحخدذرزسشصضطظعغفقكلمنهوي"
# Where the letters of a root stand in a word.
PATTERNS = (
    "{0}{1}{2}",
    "{0}ا{1}{2}",
    "{0}{1}ا{2}",
    "{0}{1}ي{2}",
    "{0}{1}و{2}",
    "ي{0}{1}{2}",
    "ت{0}{1}{2}",
    "ن{0}{1}{2}",
)
PATTERNS += ("{0}{1}{2}ت", "{0}{1}{2}ة", "م{0}{1}{2}")
BODY = """\
A Qwen3-VL of {parameters:.2f} million weights, all of them random at first, trained by gemtune on {trained:,}
pictures of {width} x {height} pixels, of {words:,} different words and numbers: {steps:,} steps of {batch},
{minutes:.0f} minutes on a shared machine. Character error rate on {tested} words that were not in training, and the
share of words without an error:

{reading}

Swapped: every word is asked for with the picture of another row; that is what can be guessed.

Then {labelled} other words in {documents} PDFs, bold italic and noisy, none of them met before either. A scripted
teacher labelled them over HTTP for `gemtune distill`, and the same model was tuned on the labels of {taught} words,
{tuned:.0f} minutes; step {step} of {tuned_steps} was the best on {choosing} others. On the {held} words of the {back}
PDFs that the split held back:

{distilled}

Tesseract (`{tesseract}`) reads the same words drawn four times as large, with as much noise.
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not features.check("raqm"):
        sys.exit("Pillow has no raqm here, and would draw Arabic letters apart; install the system's libfribidi0")
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_page(__file__, "It learns to read", _body(FOLDER))


def _body(folder: Path) -> str:
    draw = random.Random(0)  # noqa: S311 (words)
    tested = distinct_words(draw, TESTED, set())
    taught = distinct_words(draw, LABELLED, set(tested))
    unseen = {*tested, *taught}
    trained = [word for word in (a_word(draw, shortest=1) for _ in range(TRAINED * 2)) if word not in unseen][:TRAINED]
    model = folder / "model"
    if not model.is_dir():
        write_pictures(folder, trained, tested)
        write_model(model)
    reader = Job(recipe(folder, "reads", model, STEPS, 2.5e-3, **OF_PICTURES))
    stages.train(reader, logged)
    lines = {
        "trained": evaluated(reader, folder, "tuned", "test"),
        "trained, pictures swapped": evaluated(reader, folder, "tuned", "swapped"),
    }
    tuned = distilled_job(folder, taught, draw, reader.run.root / "model")
    base, after = (list(read_jsonl(tuned.run.replies(name))) for name in ("base", "tuned"))
    held, kept = [text_of(line["gold"]) for line in base], tuned.run.prepared_data().kept
    return BODY.format(
        parameters=sum(p.numel() for p in reader.base_model().parameters()) / 1e6,
        trained=len(trained),
        words=len(set(trained)),
        width=WIDTH,
        height=HEIGHT,
        minutes=minutes_of(reader),
        steps=STEPS,
        batch=BATCH,
        tested=TESTED,
        reading=table(HEAD, [[name, *rates(lines[name])] for name in lines]),
        labelled=LABELLED,
        documents=LABELLED // A_DOCUMENT,
        taught=kept["train"],
        choosing=kept["val"],
        step=tuned.run.manifest["training"]["best_step"],
        tuned_steps=TUNED_STEPS,
        tuned=minutes_of(tuned),
        held=len(held),
        back=HELD_BACK,
        distilled=table(
            HEAD,
            [
                ["before", *rates(pairs(base))],
                ["after `gemtune distill` and training", *rates(pairs(after))],
                ["tesseract", *rates([(read_by_tesseract(word, folder), word) for word in held])],
            ],
        ),
        tesseract=" ".join(TESSERACT),
    )


# --- words ------------------------------------------------------------------------------------------------------------


def a_word(draw: random.Random, shortest: int = 2) -> str:
    """Letters in the shape of an Arabic word, a Latin syllable or two, or a number; from `shortest` to four of them."""
    return draw.choice((*[arabic] * 5, *[latin] * 4, *[number] * 2))(draw, shortest)


def arabic(draw: random.Random, shortest: int) -> str:
    word = draw.choice(PATTERNS).format(*draw.choices(ROOT_LETTERS, k=3))
    if shortest == 1 and draw.random() < 0.3:  # a piece, so that letters are met alone
        start = draw.randrange(len(word))
        return word[start : start + draw.randint(1, 3)]
    return word


def latin(draw: random.Random, shortest: int) -> str:
    syllables = (draw.choice("bdfgklmnprst") + draw.choice("aeiou") + draw.choice(("", "", *"nsrt")) for _ in range(2))
    word, start = "".join(syllables), draw.randint(0, 2)
    return word[start : start + draw.randint(shortest, 4)]


def number(draw: random.Random, shortest: int) -> str:
    return "".join(draw.choice("0123456789") for _ in range(draw.randint(shortest, 4)))


def distinct_words(draw: random.Random, count: int, taken: set[str]) -> list[str]:
    words: list[str] = []
    while len(words) < count:
        word = a_word(draw)
        if word not in taken and word not in words:
            words.append(word)
    return words


# --- pictures ---------------------------------------------------------------------------------------------------------


@functools.cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    spec = find_spec("fontpkg_amiri")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the font is missing: pip install fontpkg-amiri")
    return ImageFont.truetype(Path(spec.submodule_search_locations[0]) / "files" / f"Amiri-{face}.ttf", size)


def is_arabic(word: str) -> bool:
    return word[0] > "\u0600"


def picture(word: str, draw: random.Random, face: str = "Regular", scale: int = 1) -> Image.Image:
    """A word in black on white, at the side where its language begins, a little off in size and place."""
    image = Image.new("L", (WIDTH * scale, HEIGHT * scale), 255)
    size = draw.randint(24, 26) if is_arabic(word) else draw.randint(22, 24)
    settings = RTL if is_arabic(word) else {}
    while font(face, size).getlength(word, **settings) > WIDTH - 6:
        size -= 1
    face_font, size = font(face, size * scale), size * scale
    left, _, right, _ = face_font.getbbox(word, **settings)
    x = (
        (WIDTH - 2 + draw.randint(-1, 1)) * scale - right
        if is_arabic(word)
        else (2 + draw.randint(-1, 1)) * scale - left
    )
    y = (HEIGHT * scale - size * 1.75) / 2 + draw.randint(-1, 1) * scale
    ImageDraw.Draw(image).text((x, y), word, font=face_font, fill=draw.randint(0, 60), **settings)
    return image


def worn(image: Image.Image, seed: int) -> Image.Image:
    """With a scanner's noise on it."""
    noise = np.random.default_rng(seed).normal(0, 14, (image.height, image.width))
    return Image.fromarray(np.clip(np.asarray(image) * 0.85 + 20 + noise, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, trained: Sequence[str], tested: Sequence[str]) -> None:
    """Rows of the `messages` task: train, test, and test with the pictures of other rows."""
    draw = random.Random(1)  # noqa: S311 (pictures)
    rows = {part: list(_rows(folder, part, words, draw)) for part, words in (("train", trained), ("test", tested))}
    images = [row["images"] for row in rows["test"]]
    rows["swapped"] = [row | {"images": images[i - 1]} for i, row in enumerate(rows["test"])]
    for name, lines in rows.items():
        write_jsonl(folder / f"{name}.jsonl", lines)


def _rows(folder: Path, part: str, words: Sequence[str], draw: random.Random) -> Iterator[dict[str, Any]]:
    (folder / part).mkdir(exist_ok=True)
    for number, word in enumerate(words):
        file = f"{part}/{number}.png"
        picture(word, draw).save(folder / file, compress_level=1)
        yield {"messages": turns(word), "images": [file]}


def turns(word: str) -> list[dict[str, str]]:
    answer = f"{OPEN}{word}{CLOSE}"
    return [{"role": "user", "content": f"<image>{PROMPT}"}, {"role": "assistant", "content": answer}]


# --- the model and its training ---------------------------------------------------------------------------------------


def write_model(folder: Path) -> Path:
    """A Qwen3-VL of two tower layers and three of text, random, whose tokens are letters."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    torch.manual_seed(0)
    phrases = ["user\n", "assistant\n", PROMPT, OPEN, CLOSE]  # said in every row: a token each
    letters = [*ROOT_LETTERS, *"اة"]
    special = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    images = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = make_tokenizer(*special, *images, corpus=[*letters, *phrases * 50], eos_token=special[1])
    limits = {"shortest_edge": 16 * 16, "longest_edge": 1 << 20}
    processor = Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, temporal_patch_size=1, size=limits)
    start = {"initializer_range": 0.08}  # 0.02 is for layers ten times as wide: attention would start out flat
    text = {**TEXT, **start, "hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_key_value_heads": 4}
    rope = {"rope_type": "default", "rope_theta": 10_000, "mrope_section": [6, 5, 5]}
    tower = {**start, "depth": 2, "hidden_size": 96, "intermediate_size": 192, "num_heads": 4, "patch_size": 8}
    tower |= {"temporal_patch_size": 1, "out_hidden_size": 128, "num_position_embeddings": 256}
    config = Qwen3VLConfig(
        text_config={**text, "vocab_size": len(tokenizer), "rope_parameters": rope, "tie_word_embeddings": True},
        vision_config={**tower, "deepstack_visual_indexes": []},
        tie_word_embeddings=True,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    model = Qwen3VLForConditionalGeneration(config)
    for part in (model, processor, tokenizer):
        part.save_pretrained(folder)
    return folder


def recipe(folder: Path, name: str, model: Path, steps: int, rate: float, **keys: Any) -> Path:
    path = folder / f"{name}.yaml"
    settings = {
        "name": name,
        "model": str(model),
        "runs_dir": str(folder / "runs"),
        "prepare": {"dedupe": "none"},
        "lora": "none",
        "vision": {"trains": "tower", "learning_rate": rate},
        "train": {
            "max_steps": steps,
            "epochs": 100,
            "batch_size": BATCH,
            "learning_rate": rate,
            "precision": "fp32",
            "eval_steps": steps // 3,
            "early_stopping": None,
            "logging_steps": 20,
        },
        "evaluate": {"max_new_tokens": 12, "limit": None, "batch_size": 50},
        **keys,
    }
    write_text(path, json.dumps(settings))  # JSON is YAML
    return path


OF_PICTURES = {"task": "messages", "data": "train.jsonl", "split": {"val": 64, "test": 1}}


def minutes_of(job: Job) -> float:
    return float(job.run.manifest["training"]["seconds"]) / 60


def logged(line: Any) -> None:
    print(json.dumps(line), file=sys.stderr, flush=True)


def distilled_job(folder: Path, words: Sequence[str], draw: random.Random, model: Path) -> Job:
    """Words as PDFs -> labels from the scripted teacher -> the model, tuned on them and evaluated before and after."""
    pdfs, truth = folder / "pdfs", []
    pdfs.mkdir(exist_ok=True)
    for start in range(0, len(words), A_DOCUMENT):
        name, part = f"{start // A_DOCUMENT:02}.pdf", words[start : start + A_DOCUMENT]
        pages = [worn(picture(word, draw, "BoldItalic"), start + i) for i, word in enumerate(part)]
        pages[0].save(pdfs / name, save_all=True, append_images=pages[1:], resolution=72, quality=90)
        truth += [
            {"document": name, "page": page, "task": TASK, "reply": {"text": word}} for page, word in enumerate(part, 1)
        ]
    write_jsonl(folder / "truth.jsonl", truth)
    write_json(folder / f"{TASK}.json", SCHEMA)
    names = sorted(path.name for path in pdfs.iterdir())
    held, choosing = names[-HELD_BACK:], names[-HELD_BACK - CHOOSING : -HELD_BACK]
    distilled = DistilledFolder(folder / "distilled" / "labels")
    with ScriptedTeacher(truth_of(folder / "truth.jsonl", distilled.root)) as teacher:
        path = recipe(
            folder,
            "labels",
            model,
            TUNED_STEPS,
            1e-3,
            task="documents",
            pages={
                "source": str(pdfs),
                "folder": str(folder / "distilled"),
                "dpi": 72,
                "least_side": 0,
                "steps": ["gray"],
            },
            teacher={"url": teacher.url, "model": "scripted"},
            privacy={"findings": "allow", "unscanned": "allow", "ocr": False},
            documents={"tasks": [str(folder / f"{TASK}.json")], "prompts": {TASK: PROMPT}},
            split={"val": choosing, "test": held},
        )
        job = Job(path)
        stages.distill(job)
    stages.train(job, logged)
    stages.evaluate(job, ["base", "tuned"])
    return job


# --- scores -----------------------------------------------------------------------------------------------------------

TESSERACT = ("-l", "ara+eng", "--psm", "7")


def evaluated(job: Job, folder: Path, weights: str, data: str) -> list[tuple[str, str]]:
    stages.evaluate(job, [weights], str(folder / f"{data}.jsonl"))
    return pairs(list(read_jsonl(job.run.eval / data / f"{weights}.jsonl")))


def pairs(lines: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(what was read, what is written) of every reply."""
    return [(text_of(line["reply"]), text_of(line["gold"])) for line in lines]


def text_of(reply: str) -> str:
    """What a reply says is written; a reply that is cut or no JSON is taken as it is.

    >>> text_of('{"text": "abc"}'), text_of('{"text": "ab')
    ('abc', '{"text": "ab')
    """
    return reply.removeprefix(OPEN).removesuffix(CLOSE) if reply.startswith(OPEN) and reply.endswith(CLOSE) else reply


HEAD = "| all | Arabic | Latin | digits | words right"
SCRIPTS: dict[str, Callable[[str], bool]] = {
    "all": lambda word: True,
    "Arabic": is_arabic,
    "Latin": str.isalpha,
    "digits": str.isdigit,
}


def rates(read: Sequence[tuple[str, str]]) -> list[str]:
    """Character error rates, micro, for all and each script; and the share of words that are right."""
    cells = []
    for name, belongs in SCRIPTS.items():
        mine = [pair for pair in read if belongs(pair[1]) and (name != "Latin" or not is_arabic(pair[1]))]
        cells.append(f"{sum(Levenshtein.distance(*pair) for pair in mine) / sum(len(pair[1]) for pair in mine):.1%}")
    return [*cells, f"{sum(one == other for one, other in read) / len(read):.0%}"]


def read_by_tesseract(word: str, folder: Path) -> str:
    """What tesseract reads of the noisy word, drawn four times as large."""
    image = worn(picture(word, random.Random(word), "BoldItalic", scale=4), len(word))  # noqa: S311
    image.save(folder / "word.png")
    command = ["tesseract", str(folder / "word.png"), "-", *TESSERACT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return " ".join(done.stdout.split())


if __name__ == "__main__":
    main()
