"""What the machine is, whether the tests of a GPU pass there, and how near a step is to the CPU's."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import platform
import shutil
import subprocess
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_steps.bench import ROOT, TINY, Bench, product_tflops, seconds_of
from benchmarks.gpu_steps.speed import WORKLOADS, gemtune_arm, random_rows
from gemtune.hardware import device_name, installed_versions
from gemtune.models.adapters import attach_adapters
from gemtune.models.families.gemma3 import TEXT
from gemtune.models.loading import DTYPES, load_model
from gemtune.models.patching import install_kernels
from gemtune.recipe.schema import Lora
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from gemtune.training.planner import ModelShape

# Of two sizes: as the tests have it, and with the heads of 270M, which the flash kernel takes.
PARITY = {"tiny": TINY, "270m, 3 layers": ModelShape(640, 2048, 3, 4, 1, 256, vocab=2_048)}
SCALE = 1024.0  # of a loss in fp16, as GradScaler would


def machine(bench: Bench) -> None:
    """Names, versions, the packed kernel's parameters, and the two ceilings."""
    device = bench.device
    bench.record(device=device_name(device), python=platform.python_version(), **installed_versions())
    if device == "cuda":
        free, total = (number / 1e9 for number in torch.cuda.mem_get_info())
        capability = ".".join(map(str, torch.cuda.get_device_capability()))
        bench.record(capability=capability, gpus=torch.cuda.device_count(), free_gb=free, total_gb=total)
    if smi := shutil.which("nvidia-smi"):
        query = [smi, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        bench.record(driver=subprocess.run(query, capture_output=True, text=True, check=False).stdout)  # noqa: S603
    if importlib.util.find_spec("torch.nn.attention.varlen"):
        from torch.nn.attention.varlen import varlen_attn

        bench.record(varlen_attn=str(inspect.signature(varlen_attn)))
    source = torch.empty(1 << (20 if bench.dry else 31), dtype=torch.uint8, device=device)
    there = torch.empty_like(source)
    seconds = seconds_of(lambda: there.copy_(source), device, times=5)
    bench.record(copy_gb_per_s=2 * source.numel() / seconds / 1e9)
    for precision, dtype in DTYPES.items():
        bench.record(product=precision, tflops=product_tflops(device, dtype, 256 if bench.dry else 8192))


def tests(bench: Bench) -> None:
    """Every test that is marked gpu, each recorded as it ends."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8")]
    options = ["-m", "gpu", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    code = pytest.main([*options, *map(str, sorted(files))], plugins=[_Recorder(bench)])
    if code:
        bench.failures.append(f"pytest ended with {code}")


class _Recorder:
    """A plugin of pytest that records every test."""

    def __init__(self, bench: Bench):
        self.bench = bench

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else _crash(report)
            name = report.nodeid.rsplit("/", 1)[-1]
            self.bench.record(test=name, outcome_of_test=report.outcome, test_s=report.duration, why=why)


def _crash(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return f"{Path(crash.path).name}:{crash.lineno}: {crash.message}"[:600] if crash else ""


def parity(bench: Bench) -> None:
    """Loss and gradients of one micro-batch in each precision, relative to fp32 on the CPU; and two runs of it."""
    for name, shape in list(PARITY.items())[: 1 if bench.dry else None]:
        folder = bench.folder(name.split(",")[0], shape, torch.float32)
        loss, wanted = _gradients(folder, "cpu", "fp32")
        for precision in DTYPES if bench.device == "cuda" else ("fp32", "bf16"):
            with bench.attempt(model=name, precision=precision):
                near, gradients = _gradients(folder, bench.device, precision)
                _, again = _gradients(folder, bench.device, precision)
                errors = {key: _error(gradients[key], wanted[key]) for key in wanted}
                bench.record(
                    model=name,
                    precision=precision,
                    loss=near,
                    loss_error=abs(near / loss - 1),
                    gradient_error=_error(
                        *(torch.cat([g[key].flatten() for key in wanted]) for g in (gradients, wanted))
                    ),
                    worst_gradient=max(errors.values()),
                    worst=max(errors, key=errors.__getitem__),
                    two_runs_alike=all(gradients[key].equal(again[key]) for key in wanted),
                )


def _error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _gradients(folder: Path, device: str, precision: str) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss a token of one micro-batch, and the gradient of every LoRA matrix, with a B that is not zero."""
    base = load_model(folder, device=device, precision=precision)
    model = install_kernels(attach_adapters(base, Lora(token_rows="none"), TEXT, [], seed=0)).train()  # noqa: S106
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 100)
    micro = micro_batch(random_rows((5, 70, 33, 128, 300, 2), vocab=1_000)).to(device)
    is_cast = precision == "fp16" and base.dtype == torch.float32
    scale = SCALE if precision == "fp16" else 1.0
    with torch.autocast(device, torch.float16) if is_cast else contextlib.nullcontext():
        loss, _ = labelled_loss(model, micro)
    (loss * scale / micro.labelled).backward()
    gradients = {name: p.grad.float().cpu() / scale for name, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()) / micro.labelled, gradients


def waits(bench: Bench) -> None:
    """Where one step makes the CPU wait for the GPU, by file and line, as PyTorch warns of it."""
    if not hasattr(torch._C, "_cuda_set_sync_debug_mode"):
        return bench.lacks("needs PyTorch with CUDA")
    take = gemtune_arm(bench.shape("270m"), WORKLOADS["16 x 512"] if not bench.dry else (4, 24), bench.device)
    take()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        take()
    torch.cuda.set_sync_debug_mode("default")
    places = Counter(f"{Path(warning.filename).name}:{warning.lineno}" for warning in said)
    bench.record(waits_a_step=sum(places.values()))
    for place, count in places.most_common(15):
        bench.record(place=place, waits=count)
    return None
