"""The architecture, read from the source: imports point down, and what belongs to one file stays in it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gemtune
from gemtune.runs import Run, step_name

SOURCE = Path(gemtune.__file__).parent
# The rooms, bottom to top: an import points down, or to a sibling in the same room.
ROOMS = (
    "errors",
    "files",
    "worker",
    "hardware",
    "metrics",
    "data",
    "recipe",
    "run_contents",
    "run_files",
    "artifact_files",
    "runs",
    "tasks",
    "documents",
    "preparation",
    "reporting",
    "launch_files",
    # torch below
    "kernels",
    "models",
    "rendering",
    "training",
    "evaluation",
    "exporting",
    "serving",
    "pipeline",
    "cli",
)
WITHOUT_TORCH = ROOMS[: ROOMS.index("kernels")]
LONG = 45  # lines from which a module has a test file of its name, in the folder of its room
TESTED_ELSEWHERE = {
    "cli/data_verbs.py": "each verb on the command line: tests/cli goes through all of them, by what goes wrong",
    "cli/model_verbs.py": "as data_verbs",
    "cli/cluster_verbs.py": "as data_verbs; tests/launch_files has what it writes",
    "cli/artifact_verbs.py": "as data_verbs; tests/pipeline has what they do",
    "pipeline/launched.py": "runs in workers: tests/pipeline/test_launching.py starts them",
    "pipeline/orders.py": "what workers do, and what is heard of them: tests/pipeline/test_launching.py starts some",
    "exporting/litert_child.py": "runs in LiteRT's environment: tests/exporting/test_litert.py asks it through litert",
    "serving/answers.py": "the shapes of answers: tests/serving/test_api.py reads them with OpenAI's client",
    "models/families/base.py": "what families have in common: tests/models/test_families.py goes through all of them",
    "models/families/llava.py": "a row of FAMILIES: tests/models/test_families.py and test_vision_language.py",
    "models/families/qwen3_vl.py": "a row of FAMILIES: tests/models/test_families.py and test_vision_language.py",
    "tasks/sql/child.py": "runs in a child process: tests/tasks/sql/test_task.py asks it through the task",
}
HEAVY = {"torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "tokenizers", "safetensors"}
CLIENTS = {"requests", "httpx", "aiohttp", "urllib3", "urllib.request", "http.client", "socket", "huggingface_hub"}


def room_of(path: Path) -> str:
    """
    >>> room_of(SOURCE / "tasks" / "sql" / "task.py"), room_of(SOURCE / "errors.py")
    ('tasks', 'errors')
    """
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    """
    >>> module_of(SOURCE / "tasks" / "sql" / "task.py"), module_of(SOURCE / "data" / "__init__.py")
    ('tasks.sql.task', 'data')
    """
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
MODULES = {module_of(path) for path in FILES}


def imported(tree: ast.AST) -> Iterator[str]:
    """The full names of everything a piece of source imports, also inside functions.

    >>> list(imported(ast.parse("import os\\ndef f():\\n    from gemtune.models import loading, tiny")))
    ['os', 'gemtune.models.loading', 'gemtune.models.tiny']
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def own_imports(tree: ast.AST) -> Iterator[str]:
    """The gemtune modules that a piece of source imports when it runs, without `gemtune.` in front."""
    for name in imported(_without_type_imports(tree)):
        package, _, rest = name.partition(".")
        if package == "gemtune":
            yield next((module for module in (rest, rest.rpartition(".")[0]) if module in MODULES), rest)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _without_type_imports(tree: ast.AST) -> ast.AST:
    """A tree without what only a type checker reads: a name there makes no module know another."""

    class Running(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if _is_for_types(node) else self.generic_visit(node)

    return Running().visit(ast.parse(ast.unparse(tree)))


def at_import(tree: ast.Module) -> ast.Module:
    """What of a module runs when it is imported: not its functions, nor what only a type checker reads."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if _is_for_types(node) else self.generic_visit(node)

    return Outside().visit(ast.parse(ast.unparse(tree)))


def test_every_room_is_in_the_table() -> None:
    assert {room_of(path) for path in FILES} - {"__init__", "__main__"} == set(ROOMS), "add it to ROOMS"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    if room in ROOMS:
        up = {name for name in own_imports(TREES[path]) if ROOMS.index(name.split(".")[0]) > ROOMS.index(room)}
        assert not up, f"{room} imports {', '.join(sorted(up))}"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Within a room, too."""
    graph = {module_of(path): set(own_imports(tree)) - {module_of(path)} for path, tree in TREES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) in WITHOUT_TORCH], ids=module_of)
def test_nothing_above_the_line_imports_torch_at_its_head(path: Path) -> None:
    heads = {name.split(".")[0] for name in imported(at_import(TREES[path]))}
    assert not heads & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        *WITHOUT_TORCH,
        "recipe.scaffold",
        "preparation.prepare",
        "reporting.report",
        "tasks",
        "pipeline.stages",
        "cli.progress",
        "cli.app",
    ],
)
def test_importing_it_does_not_import_torch(module: str) -> None:
    """What an import brings with it: through other packages, too."""
    code = f"import sys, gemtune.{module}; print(*({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_module_has_a_test_file_of_its_name() -> None:
    """Where a newcomer looks for it; short modules and __init__ files are tested through those that use them."""
    tests, missing = Path(__file__).parent, set()
    for path in (path.relative_to(SOURCE) for path in FILES if path.name not in ("__init__.py", "__main__.py")):
        is_long = len((SOURCE / path).read_text(encoding="utf-8").splitlines()) > LONG
        if is_long and not (tests / path.with_name(f"test_{path.name}")).is_file():
            missing.add(path.as_posix())
    assert missing == TESTED_ELSEWHERE.keys(), "write the file, or say in TESTED_ELSEWHERE why there is none"


def owners(found: dict[Path, bool]) -> set[str]:
    return {module_of(path) for path, here in found.items() if here}


def test_only_render_knows_the_ignored_label_and_the_chat_template() -> None:
    def writes_the_label(node: ast.AST) -> bool:
        is_minus = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        return is_minus and isinstance(node.operand, ast.Constant) and node.operand.value == 100

    def templates(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "apply_chat_template"

    for test in (writes_the_label, templates):
        assert owners({path: any(map(test, ast.walk(tree))) for path, tree in TREES.items()}) == {"rendering.renderer"}


def test_only_batch_pads() -> None:
    """Calls that pad: `pad` and `pad_sequence`, an array full of a pad id, a tokenizer's `padding=`."""

    def pads(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        asks = any(word.arg == "padding" and ast.unparse(word.value) != "False" for word in node.keywords)
        fills = name.startswith(("full", "new_full")) and any("pad" in ast.unparse(value) for value in node.args)
        return name in ("pad", "pad_sequence") or asks or fills

    assert owners({path: any(map(pads, ast.walk(tree))) for path, tree in TREES.items()}) == {"training.batching"}


def test_only_model_and_doctor_talk_to_the_hub_and_nothing_else_to_a_network() -> None:
    """`data.sources` names an exception of the Hub client: the one that `datasets` raises.

    `serving.server` listens; `exporting.llama_cpp` asks the server in its own process.
    """
    users: dict[str, set[str]] = {}
    for path, tree in TREES.items():
        for name in imported(tree):
            for client in CLIENTS:
                if name == client or name.startswith(f"{client}."):
                    users.setdefault(client, set()).add(module_of(path))
    assert users == {
        "huggingface_hub": {
            "models.hub",
            "cli.doctor",
            "data.sources",
            "exporting.hub",
            "documents.teacher.http_client",  # the HTTP client that it brings
            "documents.teacher.gemini",
        },
        "http.client": {"data.downloads", "exporting.llama_cpp"},
        "socket": {"data.downloads", "serving.server"},
    }


@cache
def names_of_a_run() -> set[str]:
    """The files and folders of a run directory, `*` for what differs between two of a kind.

    Without `data`, which the package of the embedded model has, too.
    """
    run = Run(Path("run"))
    paths = [path for path in vars(run).values() if isinstance(path, Path)]
    paths += [run.part("*"), run.table("*"), run.replies("*"), run.summary_file, run.evaluation().summary_file("*")]
    return {path.name for path in paths if path not in (run.root, run.data)} | {step_name(0).replace("0", "*")}


def as_pattern(node: ast.AST) -> str | None:
    """A text in the source, with `*` for what an f-string puts in.

    >>> [as_pattern(ast.parse(text, mode="eval").body) for text in ("f'{name}.jsonl'", "'eval'", "name")]
    ['*.jsonl', 'eval', None]
    """
    if isinstance(node, ast.JoinedStr):
        return "".join(as_pattern(value) or "*" for value in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def joins_a_path_of_a_run(node: ast.AST) -> bool:
    """
    >>> sources = ("folder / 'adapter'", "folder / f'{name}.jsonl'", "folder.glob('step-*')", "folder / 'weights.bin'")
    >>> [joins_a_path_of_a_run(ast.parse(source, mode="eval").body) for source in sources]
    [True, True, True, False]
    """
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        names = [as_pattern(node.right)]
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("joinpath", "glob", "rglob", "with_name"):
        names = [as_pattern(value) for value in node.args]
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("removeprefix", "startswith"):
        names = [f"{as_pattern(value)}*" for value in node.args]  # takes a name apart
    else:
        return False
    return any(fnmatchcase(name, pattern) for name in names if name for pattern in names_of_a_run())


def test_only_runs_joins_paths_of_a_run_directory() -> None:
    """The names of a run directory's files stand in one place: in `Run`, which this reads them from.

    The folder of documents has names of its own, and some of them are the same.
    """
    joining = {path: any(map(joins_a_path_of_a_run, ast.walk(tree))) for path, tree in TREES.items()}
    assert owners(joining) == {"runs", "documents.folder"}
