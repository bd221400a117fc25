"""What other people's code may lean on, and what no line of the source may do."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gemtune
from gemtune.pipeline import stages
from gemtune.tasks import TASKS, Task

SOURCE = Path(gemtune.__file__).parent
TREES = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))
}
VERBS = ("distill", "prepare", "check", "plan", "train", "evaluate", "export", "web", "report", "run")


PUBLIC = {
    "compare",
    "GemtuneError",
    "Job",
    "Recipe",
    "check",
    "distill",
    "evaluate",
    "export",
    "generate",
    "plan",
    "prepare",
    "report",
    "run",
    "train",
}


def test_the_public_surface_is_closed() -> None:
    assert set(gemtune.__all__) == PUBLIC
    namespace: dict[str, object] = {}
    exec("from gemtune import *", namespace)
    assert namespace.keys() - {"__builtins__"} == PUBLIC
    with pytest.raises(AttributeError, match="'gemtune' has no attribute 'tarin'"):
        _ = gemtune.tarin


def test_a_public_name_is_the_same_after_every_module_was_imported() -> None:
    """A package of a verb's name would hide the verb: `gemtune.report` is a function for good."""
    code = "import importlib, gemtune\n"
    code += "".join(f"importlib.import_module({name!r})\n" for name in sorted(modules()))
    code += "print(*(n for n in gemtune.__all__ if type(getattr(gemtune, n)).__name__ == 'module'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def modules() -> list[str]:
    stems = (Path(path).with_suffix("").as_posix().replace("/", ".") for path in TREES if "__main__" not in path)
    return [f"gemtune.{stem}".removesuffix(".__init__") for stem in stems]


@pytest.mark.parametrize("names", ["", "Recipe, Job", "prepare, report"])
def test_the_package_imports_nothing_heavy(names: str) -> None:
    code = f"import sys, gemtune\n{f'from gemtune import {names}' if names else ''}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "peft", "pyarrow", "datasets"} | (set() if names else {"pydantic", "numpy"})
    assert not heavy & set(done.stdout.split())


def test_a_recipe_in_python_equals_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "emoji.yaml").write_text("task: emoji\ndata: rows.csv\ntrain: {epochs: 1}\nlora: {r: 4}\n")
    monkeypatch.chdir(tmp_path)
    recipe = gemtune.Recipe(task="emoji", data="rows.csv", train={"epochs": 1}, lora={"r": 4})
    job, of_file = gemtune.Job(recipe), gemtune.Job("emoji.yaml")
    assert job.recipe == of_file.recipe and job.recipe.name == "emoji"
    assert job.recipe.data[0].source == str(tmp_path / "rows.csv")
    assert gemtune.Job(recipe, {"lora.r": 8}).recipe == gemtune.Job("emoji.yaml", ["lora.r=8"]).recipe
    (tmp_path / "again.yaml").write_text(job.recipe_text or "")
    assert gemtune.Job("again.yaml").recipe == job.recipe


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_function_of_a_job(verb: str) -> None:
    first = next(iter(inspect.signature(getattr(stages, verb)).parameters.values()))
    assert (first.name, first.annotation) == ("job", "Job")


def test_every_verb_of_the_command_line_is_known_here() -> None:
    from gemtune.cli.app import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == {
        *VERBS,
        "compare",
        "new",
        "import",
        "show",
        "generate",
        "serve",
        "push",
        "launch",
        "doctor",
        "tiny",
    }


def test_a_task_has_the_methods_a_user_writes() -> None:
    for name in ("conversation", "score", "shorten", "scope"):
        assert inspect.getdoc(getattr(Task, name)), name
    assert all(task.metric and task.score is not Task.score for task in TASKS.values())


def unsaid(trees: dict[str, ast.Module]) -> Iterator[str]:
    for path, tree in trees.items():
        for node in tree.body:
            is_definition = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if is_definition and not node.name.startswith("_") and not ast.get_docstring(node):
                yield f"{path} {node.name}"


def test_public_functions_and_classes_have_docstrings() -> None:
    assert set(unsaid(TREES)) == set(), "say in a sentence what it is for"


def positional(node: ast.AST) -> int:
    """How many positional parameters a function takes, or the constructor of a dataclass."""
    if isinstance(node, ast.FunctionDef):
        return len(node.args.posonlyargs) + len(node.args.args)
    if isinstance(node, ast.ClassDef) and any("kw_only=True" in ast.unparse(word) for word in node.decorator_list):
        return 0
    is_dataclass = isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list)
    return sum(isinstance(part, ast.AnnAssign) for part in node.body) if is_dataclass else 0  # type: ignore[attr-defined]


def test_nothing_takes_ten_positional_parameters() -> None:
    many = [f"{path}:{n.lineno}" for path, tree in TREES.items() for n in ast.walk(tree) if positional(n) >= 10]  # type: ignore[attr-defined]
    assert not many, "nobody can read such a call; take keywords"


def is_broad(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def calls(*names: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) in names


def imports(*modules: str) -> Callable[[ast.AST], bool]:
    def found(node: ast.AST) -> bool:
        if isinstance(node, ast.Import):
            return any(name.name in modules for name in node.names)
        return isinstance(node, ast.ImportFrom) and node.module in modules

    return found


def passes(keyword: str) -> Callable[[ast.AST], bool]:
    return lambda node: (
        isinstance(node, ast.Call)
        and any(word.arg == keyword and ast.unparse(word.value) != "False" for word in node.keywords)
    )


def is_silent_about_code(node: ast.AST) -> bool:
    """Whether a loader of transformers is called without saying that no code of the model's may run."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("from_pretrained", "from_config")
        and ast.unparse(node.func.value) != "PeftModel"  # which has no such parameter
        and all(word.arg != "trust_remote_code" for word in node.keywords)
    )


# Where anything may be raised and becomes one line: the borders to foreign loaders, a child process, a client.
BORDERS = {
    "models/boundary.py": 2,
    "pipeline/clustered.py": 1,
    "pipeline/launched.py": 1,
    "serving/engine.py": 1,
    "training/ranks.py": 1,
    "worker.py": 1,
}

FORBIDDEN: dict[str, tuple[Callable[[ast.AST], bool], str]] = {
    "broad except": (is_broad, "a broad except hides the next bug; name what the call raises"),
    "no word of code": (is_silent_about_code, "transformers asks on the terminal; say trust_remote_code=False"),
    "trust_remote_code": (passes("trust_remote_code"), "it runs code that came with a model or a data set"),
    "torch.load": (
        calls("torch.load", "torch.save"),
        "a pickle runs code when it is read; checkpoints are safetensors",
    ),
    "pickle": (imports("pickle", "dill", "cloudpickle", "shelve", "marshal"), "a pickle runs code when it is read"),
    "yaml.load": (calls("yaml.unsafe_load", "yaml.full_load"), "YAML tags may name any Python object"),
    "eval": (
        calls("eval", "exec", "compile", "__import__"),
        "text from a file is data; only a user's own task file is code",
    ),
    "shell": (passes("shell"), "a file name in a shell command is code"),
    "os.system": (calls("os.system", "os.popen"), "a file name in a shell command is code"),
    "print": (calls("print"), "stdout is the answer of a verb, for a script to read; say it through `say`"),
    "assert": (lambda node: isinstance(node, ast.Assert), "python -O takes it away; raise a GemtuneError"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_source_file_has(what: str) -> None:
    test, why = FORBIDDEN[what]
    found = [f"{path}:{node.lineno}" for path, tree in TREES.items() for node in ast.walk(tree) if test(node)]  # type: ignore[attr-defined]
    allowed = [border for border, times in BORDERS.items() for _ in range(times)] if what == "broad except" else []
    assert sorted(place.split(":")[0].removeprefix("src/gemtune/") for place in found) == sorted(allowed), why


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("broad except", "try: f()\nexcept (OSError, Exception): pass"),
        ("broad except", "try: f()\nexcept: pass"),
        ("trust_remote_code", "f(trust_remote_code=True)"),
        ("no word of code", "AutoConfig.from_pretrained(folder)"),
        ("torch.load", "import torch\ntorch.load('x')"),
        ("pickle", "from pickle import loads"),
        ("eval", "eval('1')"),
        ("shell", "subprocess.run('ls', shell=True)"),
    ],
)
def test_the_rules_see_what_they_forbid(what: str, text: str) -> None:
    assert any(FORBIDDEN[what][0](node) for node in ast.walk(ast.parse(text)))
