"""Every next move that an error names is taken in a test, or it is said here why not."""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

from pathlib import Path

import advice
from cli.test_advice import PREPARE, RUNS
from data.test_advice import ENTRIES, HUB, MOVES, WHOLE
from data.test_row_advice import ARCHIVES, ROWS
from documents.test_document_advice import MOVES as DOCUMENTS
from models.test_model_advice import FOLDERS
from recipe.test_recipe_advice import RECIPES

HERE = Path(__file__).parent
TABLES: list[str] = [
    *(
        words
        for table in (PREPARE, MOVES, ENTRIES, WHOLE, HUB, ARCHIVES, FOLDERS, DOCUMENTS)
        for _, words, *_ in table.values()
    ),
    *(words for table in (RUNS, ROWS, RECIPES) for _, _, words, *_ in table.values()),
]
# Moves that a test of their own takes, or a table with words that other messages have, too: text -> file, words there.
ALONE: dict[str, tuple[str, str]] = {
    "…: too many members; at most … are read: split it": (
        "data/test_row_advice.py",
        "members; at most 2 are read: split it",
    ),
    " and prepare.ignore: […]": ("cli/test_advice.py", " and prepare.ignore: [rejected]"),
    "… is …; wanted text…": ("data/test_row_advice.py", "messages[1] is true or false; wanted text"),
    "… has …; wanted one of …": ("data/test_row_advice.py", "has the role 'alien'; wanted one of"),
    "set data.columns: {…: …}": ("data/test_advice.py", "set data.columns: {emoji: reaction}"),
    "…, wanted … as in the header (…); …": ("data/test_advice.py", "add the missing tab"),
    "…: unknown suffix …; wanted …; …": ("data/test_advice.py", "set data.format to the one it is in"),
    "…: found …; wanted an array of objects, [{...}, {...}]": ("data/test_advice.py", "a text alone"),
    "…: arrays of different lengths (…); wanted one of rows: …": ("data/test_advice.py", "columns of other lengths"),
    "name its values": ("data/test_advice.py", "{...}: name its values"),
    "give the value a name": ("data/test_advice.py", "{...}: give the value a name"),
    "…: broken JSON (… at column …); mend it there": ("data/test_advice.py", "mend it there"),
    "……: broken JSON (…); mend it there": ("data/test_advice.py", "broken JSON"),
    "…: … is …; wanted …": ("data/test_advice.py", "file_name is '5'; wanted a name"),
    "byte … (0x…) is not … text; set data.encoding to …": ("data/test_advice.py", "set data.encoding to utf-16-le"),
    "…: …; run the stage that wrote it again": ("cli/test_advice.py", "rows: is missing; run the stage"),
    "wanted a file: write what it gives to one, and name that": (
        "data/test_advice.py",
        "wanted a file: write what it gives",
    ),
    "wanted one of these sources, or sources that agree": ("data/test_advice.py", "wanted one of these sources"),
    "train without vision.pan_and_scan": ("exporting/test_mmproj.py", "train without vision.pan_and_scan"),
    "make it readable for you (chmod u+r, or ask its owner)": ("data/test_advice.py", "make it readable for you"),
    "…: not empty; name another folder": ("models/test_model_advice.py", "not empty; name another folder"),
    "accept its licence at https://huggingface.co/…": ("models/test_hub.py", "accept its licence at"),
    "it has no revision …: give a branch, tag or commit that is there": (
        "models/test_hub.py",
        "give a branch, tag or commit that is there",
    ),
    "run the same again, which fetches only what is missing": ("models/test_hub.py", "run the same again"),
    "or give a folder": ("models/test_model_advice.py", "or give a folder"),
    " pixels: fetch the model again, or give another one": (
        "models/test_model_advice.py",
        "pixels: fetch the model again",
    ),
    "is already there; remove it, or give another folder": (
        "recipe/test_recipe_advice.py",
        "is already there; remove it",
    ),
    "GPUs are visible here; set scale.workers: auto": ("test_hardware.py", "set scale.workers: auto"),
    "GPUs are in the cluster; set scale.workers: auto": ("pipeline/test_clustered.py", "set scale.workers: auto"),
    "no node with a CPU to work on; add one with `ray start`": (
        "pipeline/test_clustered.py",
        "add one with `ray start`",
    ),
    "`gemtune doctor` says why": ("cli/test_bad_input.py", "`gemtune doctor` says why"),
    "say --trust-task (once; in Python trust_task=True)": ("cli/test_strangers.py", "--trust-task"),
    "standard input: byte … is not UTF-8 text; convert it first": ("cli/test_app.py", "is not UTF-8 text; convert it"),
    "--gpus … --gpu …: Vertex AI has no such machine; choose of …": (
        "launch_files/test_vertex.py",
        "Vertex AI has no such machine; choose of",
    ),
    "--nodes …: a launch file is for one machine; give --gpus, or run it on a Ray cluster": (
        "launch_files/test_write.py",
        "--nodes 2: a launch file is for one machine",
    ),
    "--to …: …; give one: …, where the project's folder is": (
        "launch_files/test_write.py",
        "found no --shared; give one",
    ),
    "teacher.key: wanted the name of an environment variable in capitals": (
        "launch_files/test_order.py",
        "wanted the name of an environment variable",
    ),
    "lies outside of the current folder …, and the job sees nothing else": (
        "launch_files/test_order.py",
        "lies outside",
    ),
    "…: a folder; give the recipe file": ("launch_files/test_write.py", "runs: a folder; give the recipe file"),
    "; nothing was trained: bring the rows back, or `gemtune run` trains on these": (
        "pipeline/test_reproducing.py",
        "nothing was trained: bring the rows back",
    ),
    "…: no finished training with a …; `gemtune run` makes one": (
        "pipeline/test_reproducing.py",
        "no finished training with a gemtune.lock",
    ),
    "…: a run is not made again over itself; give another name=": (
        "pipeline/test_reproducing.py",
        "a run is not made again over itself",
    ),
    "rename one of the folders": ("pipeline/test_served.py", "rename one of the folders"),
    "lower max_tokens, or n": ("serving/test_engine.py", "lower max_tokens"),
    "wanted application/json": ("serving/test_guard.py", "wanted application/json"),
    "others than you can read or write this token; chmod 600": ("serving/test_server.py", "chmod 600 "),
    "cannot listen there (…); give another --port or --host": ("serving/test_server.py", "give another --port"),
    "wanted one line of at least … ASCII characters": (
        "serving/test_server.py",
        "wanted one line of at least 16 ASCII",
    ),
    "no login at the Hub here; run `hf auth login`": ("pipeline/test_pushing.py", "no login at the Hub here; run"),
    "`gemtune export … …`": ("pipeline/test_serving.py", "` makes it again, and verifies it"),
    "llama.cpp alone serves an artifact, a GGUF; name the run": (
        "pipeline/test_serving.py",
        "llama.cpp alone serves an artifact, a GGUF; name the run",
    ),
    "…: has …; name one, such as …": ("pipeline/test_served_gguf.py", "name one, such as"),
    "others reach this server, so it needs a token; give --token-file": (
        "pipeline/test_vllm.py",
        "others reach this server, so it needs a token; give --token-file",
    ),
    "vllm is not installed here; run it where it is": ("pipeline/test_vllm.py", "vllm is not installed here; run it"),
    "`gemtune export RUN merged`, and serve it alone": ("pipeline/test_vllm.py", "`gemtune export RUN merged`"),
    "this repository is public; add --public": ("pipeline/test_pushing.py", "this repository is public; add"),
    "give a name such as user/model": ("pipeline/test_pushing.py", "give a name such as user/model"),
    "port …: …; give another --port": ("serving/test_web_server.py", "give another --port"),
    "the page takes text, and this run's task has images; `gemtune export` writes its artifacts": (
        "pipeline/test_web_page.py",
        "the page takes text",
    ),
    "…: has SHA-512 …..., wanted …...; fetch it again": ("serving/test_web_assets.py", "has SHA-512 .*, wanted"),
    "elsewhere, and give their folder with --assets": ("serving/test_web_assets.py", "give their folder with --assets"),
    "trained tensors fit no tensor of the base model": (
        "exporting/test_merge.py",
        "of 43 trained tensors fit no tensor of the base model",
    ),
    "model; give two or more to compare": ("pipeline/test_compare.py", "give two or more to compare"),
    "rows to compare on, and a run knows every one": ("pipeline/test_compare.py", "and a run knows every one"),
    "…: no artifact; `gemtune export … …` writes it": ("pipeline/test_compare.py", "no artifact; `gemtune export"),
    "checkpoint …: wanted base, best, last or a step…": (
        "pipeline/test_exports.py",
        "wanted base, best, last or a step",
    ),
    "no format to export to; give some of …": (
        "pipeline/test_exports.py",
        "no format to export to; give some of merged",
    ),
    "give another --output": ("cli/test_advice.py", "; give another --output"),
    "wait for it or choose another name": ("cli/test_bad_input.py", "wait for it or choose another name"),
    "teacher: is missing; name a model that labels the pages, such as {url: ..., model: ...}": (
        "documents/test_distill.py",
        "teacher: is missing; name a model that labels the",
    ),
    "…: no row is left to train on; lower split.val and split.test": (
        "documents/test_llamafactory.py",
        "no row is left to train on; lower split.val and split.test",
    ),
    "pages: is missing; `gemtune new documents` writes a recipe with documents": (
        "cli/test_documents.py",
        "pages: is missing; `gemtune new documents` writes a recipe with documents",
    ),
    "privacy.regions: … is no country that phonenumbers knows; wanted one such as EG": (
        "documents/test_privacy.py",
        "is no country that phonenumbers",
    ),
    "pages.groups: no document is called ……": ("documents/test_rows.py", "pages.groups: no document is called"),
    "pages.select: wanted pages such as `1-3,7`, `5-` or `-2-`, found …": (
        "recipe/test_document_sections.py",
        "wanted pages such as `1-3,7`, `5-` or `-2-`, found",
    ),
    "pages.source: no PDF, TIFF or image in ……; check the path": (
        "documents/test_sources.py",
        "no PDF, TIFF or image in",
    ),
    "pages.source: … is not there, and no file matches it; check the path": (
        "documents/test_sources.py",
        "no file matches",
    ),
    "teacher.replies: is missing; it names the JSONL or folder of replies": (
        "documents/teacher/test_given_replies.py",
        "teacher.replies: is",
    ),
    "teacher.model: is missing; it names the model that … has": (
        "documents/teacher/test_chat_completions.py",
        "teacher.model: is missing",
    ),
    "teacher.url: a key or password is in the address; name its variable in teacher.key": (
        "documents/teacher/test_asking.py",
        "name its variable in teacher.key",
    ),
    "…:…: broken JSON (…); remove that line to go on": (
        "documents/teacher/test_ledger.py",
        "ledger.jsonl:2: broken JSON",
    ),
    "…: another gemtune asks the teacher for it; wait for it to end": (
        "documents/teacher/test_ledger.py",
        "another gemtune asks",
    ),
    "documents.tasks: no valid JSON Schema: …; mend the file": (
        "documents/teacher/test_repair.py",
        "no valid JSON Schema",
    ),
    "…; remove that file, and the page is asked for, and paid for, again": (
        "documents/teacher/test_reply_store.py",
        "remove that file, and the page is asked",
    ),
    "…: not there yet; `gemtune distill RECIPE` makes it of the documents, as `gemtune run` does": (
        "pipeline/test_distilling.py",
        "not there yet; `gemtune distill RECIPE` makes it",
    ),
    "…: is there already; remove it, or give another --output": (
        "pipeline/test_distilling.py",
        "is there already; remove it, or give another --output",
    ),
    "split.val and split.test both name the group …; name it in one of them": (
        "preparation/test_split.py",
        "both name the group",
    ),
    "…: wanted a whole number from 1 on, found …": ("recipe/test_llamafactory_recipe.py", "wanted a whole number"),
    "finetuning_type: …: gemtune trains with lora or full; choose one of them": (
        "recipe/test_llamafactory_recipe.py",
        "gemtune trains with lora or full; choose one",
    ),
    "……: not YAML (…); mend it": ("recipe/test_recipe_advice.py", "not YAML ("),
    "…: wanted LLaMA-Factory's keys and values, such as `stage: sft`": (
        "recipe/test_llamafactory_recipe.py",
        "wanted LLaMA-Factory's keys and",
    ),
    "…: cannot be read as a UTF-8 text file (…); save it as UTF-8": (
        "recipe/test_loader.py",
        "cannot be read as a UTF-8 text file",
    ),
    "…: cannot be read as UTF-8 text (…); save it as UTF-8": (
        "documents/test_references.py",
        "cannot be read as UTF-8 text",
    ),
    "teacher: wanted models that differ, found one twice, whose replies would be the same ones": (
        "recipe/test_document_sections.py",
        "wanted models that differ, found one twice",
    ),
}
_HEALED = (
    "what is damaged in data/ is written again by the verbs that read it: only a file that changes meanwhile says so"
)
# ... and those that none takes -> why.
UNTAKEN: dict[str, str] = {
    "…: the archive ends too early; download it again": "only of an archive that is cut while rows are read",
    "the last answer is not to be trained; end with the last one that is": "only a task of the user's own gives such messages",
    "…:…: no conversation (…); run `gemtune prepare` again": _HEALED,
    "…: not the columns of a token table; run `gemtune prepare` again": _HEALED,
    "…: damaged or no token table (…); run `gemtune prepare` again": _HEALED,
    "…: no token table; run `gemtune prepare` again": _HEALED,
    "data/manifest.json: no lengths in it; run `gemtune prepare RECIPE.yaml` again": _HEALED,
    "…: no prepared rows; `gemtune prepare RECIPE.yaml` writes them": _HEALED,
    "…: no decision '…' in it; train the run again": "only a manifest that somebody has edited",
    "were not asked the same rows; evaluate both again": "evaluate refuses them before it asks",
    "which not every row has; return it in `score`": "a program of the user's own, which tests/evaluation has",
    "check its permissions, or …": "root writes everywhere; tests/cli/test_read_only.py has the message",
    "free some space, or …": "a full disk; tests/cli/test_bad_input.py has the message, tests/chaos goes on after it",
    "check the path": "the recipe takes no path that is too long; what is left is the disk's own",
    "GEMTUNE_CACHE names one": "needs a user without a home",
    "set TMPDIR to a folder to write in": "needs a read-only disk; tests/cli/test_read_only.py has the message and runs with it",
    "in it; train again": "the digests of the adapter's files are asked before",
    "train again, or give the adapter that it made": "the digests of the adapter's files are asked before",
    "reinstall it: pip install --force-reinstall": "needs the package index",
    "… has no size; prepare the data again": "data of before 0.1",
    "check its name; if it is private, run `hf auth login`": "needs a Hub with a private model",
    "give a Hub id such as google/gemma-3-1b-it": "needs the Hub",
    "set scale.workers, and start it without torchrun and `accelerate launch`": "needs several processes",
    "start it, or take another engine": "needs a server",
    "is not installed; run: pip install 'gemtune[…]'": "needs the package index",
    "no example is left to train on; see … and train.max_length": "prepare says it before, with the numbers",
    "lower train.max_length, or set quantize: nf4": "needs a GPU that is full",
    "run the same again, which sends only what is missing": "the client tries again by itself, for half a minute",
    "run `hf auth login` with a token that may write there": "needs an account at the Hub",
    "none of the … rows has a score; give others, --data FILE": "every row of a prepared part has one; only a task of the user's own gives none",
    "…: no prepared rows; give rows of a file, --data FILE": "a run with weights has prepared rows",
    "…: gone; run `gemtune export` again": "only of a file that is removed while the verb works",
    "…: no rows to verify an artifact on; give the run some": "prepare refuses a run without rows",
    "…: no rows to prove the page with; give the run some": "prepare refuses a run without rows",
    "in the model's files, … others; fetch it again": "the merged folder is written by gemtune, whole",
    "…: …; give a simpler schema": "no schema is known that the first look lets pass and whose masks are too much work",
    "…: another gemtune works there; wait for it, or choose another name": "needs two processes at once; the ledger's own lock is tested",
    "pages.steps: orient asks tesseract; …, or leave the step out": "needs a machine without tesseract",
    "free memory, or lower scale.workers first": "needs a worker that is killed four times",
    "start one with `ray start --head`, or leave scale.address out": "Ray looks for a cluster for half a minute",
    "add nodes, or lower scale.workers": "needs a cluster that is too small for ten minutes",
    "scale.engine: ray": "needs a machine without Ray: the line of every extra",
    "teacher.provider: gemini": "needs a machine without google-genai: the line of every extra",
    "; run ": "what a message is cut at, so that another move takes its place",
    "export litert needs an environment of its own, of 2.3 GB: python3 -m venv … && …/bin/pip install …": "needs the package index and 2.3 GB",
}


def test_every_move_is_taken_or_it_is_said_why_not() -> None:
    moves = advice.moves()
    assert len(moves) > 150
    taken = {advice.text_of(words, moves) for words in (*TABLES, *ALONE, *UNTAKEN)}
    assert {text: place for text, place in moves.items() if text not in taken} == {}


def test_what_is_said_elsewhere_is_there() -> None:
    moves = advice.moves()
    for file, words in ALONE.values():
        assert words in (HERE / file).read_text(encoding="utf-8"), words
    assert [words for words in (*ALONE, *UNTAKEN) if advice.text_of(words, moves) is None] == []
