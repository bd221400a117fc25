"""kernels.cpp is compiled where it can be, and where it cannot the reason is given."""

from __future__ import annotations

import platform
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gemtune.kernels import native


def test_a_build_knows_its_instruction_set(passes: None, request: pytest.FixtureRequest) -> None:
    sets = {"compiled for AVX2": "narrow", "compiled for tiles": "amx", "in PyTorch": None}
    name = request.node.callspec.params["passes"]
    assert native.instruction_set() == sets.get(name, native.instruction_set())


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a command the C++ compiler, with a cache folder of its own, which is returned."""

    def use(command: str) -> Path:
        monkeypatch.setenv("CXX", command)
        monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    return use


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_without_a_compiler_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert native.build(native.FLAGS) == (None, native.NO_COMPILER)


def test_a_compiler_that_fails_is_named(compiler: Callable[[str], Path]) -> None:
    folder = compiler("/bin/false")
    functions, why = native.build(native.FLAGS)
    assert functions is None and why.startswith("/bin/false cannot compile kernels.cpp here (no message): PyTorch does")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "command, why",
    [
        ("no-such-compiler -v", "no-such-compiler cannot be asked its version (No such file or directory); CXX names"),
        ('"g++', 'CXX is "g++, which is no command (No closing quotation): PyTorch does'),
        ("/etc", "/etc cannot be asked its version (Permission denied)"),
    ],
)
def test_a_compiler_that_cannot_be_run_is_no_traceback(compiler: Callable[[str], Path], command: str, why: str) -> None:
    compiler(command)
    functions, said = native.build(native.FLAGS)
    assert functions is None and said.startswith(why)


def test_a_compiler_may_be_a_command_with_arguments(compiler: Callable[[str], Path], tmp_path: Path) -> None:
    """As CXX="ccache g++" is."""
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found is None or native.compiled()[0] is None:
        pytest.skip("no compiler is here")
    wrapper = script(tmp_path / "wrapper", 'exec "$@"')
    folder = compiler(f"{wrapper} {found}")
    functions, why = native.build("-O1 -std=c++17 -fPIC")
    assert functions is not None, why
    assert [path.suffix for path in folder.iterdir()] == [".so"]


def test_a_function_that_the_library_lacks_is_no_reason_to_do_without_it(tmp_path: Path, compiler: Any) -> None:
    """PyTorch would do the work and nobody would see that kernels.cpp and native.py have come apart."""
    if native.compiled()[0] is None:
        pytest.skip("no compiler is here")
    compiler(shlex.join(native._compiler()))
    with pytest.raises(AttributeError, match="cast_fp32"):
        native.build("-O0 -std=c++17 -fPIC -Dcast_fp32=elsewhere")


def test_a_compiler_that_never_ends_is_left(
    compiler: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = script(tmp_path / "slow", "test $1 = --version || exec sleep 600")
    compiler(str(slow))
    monkeypatch.setattr(native, "TIME_LIMIT", 1.0)
    assert native.build(native.FLAGS) == (None, f"{slow} cannot compile kernels.cpp here within 1 s: {native.INSTEAD}")


def test_a_cache_folder_that_cannot_be_written_is_named(
    compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler("/bin/true")
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "file" / "cache"))
    functions, why = native.build(native.FLAGS)
    assert functions is None
    assert why.startswith(f"{tmp_path}/file/cache: Not a directory; GEMTUNE_CACHE names another")


def test_another_version_of_the_compiler_compiles_again(compiler: Callable[[str], Path], tmp_path: Path) -> None:
    """The stand-in writes what is no library: it is refused with a reason, and kept under a name of its version."""
    text = 'test "$1" = --version && echo {} || for last; do :; done; test "$1" = --version || touch "$last"'
    folder = tmp_path / "cache"
    names = []
    for version in ("12.2", "12.2", "13.1"):
        folder = compiler(str(script(tmp_path / "compiler", text.format(version))))
        functions, why = native.build(native.FLAGS)
        assert functions is None and why.endswith(native.INSTEAD)
        names.append({path.name for path in folder.iterdir()})
    assert len(names[0]) == 1 and names[0] == names[1] < names[2]


def test_without_gccs_openmp_the_reason_is_given(
    compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on macOS, where PyTorch brings LLVM's."""
    compiler("/bin/true")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libomp.dylib").touch()
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    functions, why = native.build(native.FLAGS)
    assert functions is None and f"for {platform.system()} brings libomp.dylib: PyTorch does" in why
