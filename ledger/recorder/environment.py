"""What a replay must equal before a difference refutes anything: versions, device, dtype, threads, backend flags.

Cheap to ask before every call: what cannot change is read once, the document is kept per combination of what can.
 torch and numpy are only asked if the program has loaded them.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ...schemas.record import Device, Environment

# psABI levels by the flags they need; the first that is not complete ends the climb
_X86_LEVELS = (
    ("x86-64-v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


@functools.cache
def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def _cpu() -> tuple[str, str]:
    """(model name, instruction set level) of this machine's CPU."""
    name, flags = "", set[str]()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and not name:
            name = value.strip()
        elif key.strip() in ("flags", "Features") and not flags:
            flags = set(value.split())
    machine = platform.machine() or "unknown"
    level = "x86-64-v1" if machine.lower() in ("x86_64", "amd64") else machine
    if level == "x86-64-v1":
        for known, needed in _X86_LEVELS:
            if not needed <= flags:
                break
            level = known
    return name or platform.processor() or machine, level


def _torch_flags(torch: Any, kind: str) -> tuple[tuple[str, Any], ...]:
    flags: list[tuple[str, Any]] = [
        ("deterministic", torch.are_deterministic_algorithms_enabled()),
        ("matmul_precision", torch.get_float32_matmul_precision()),
        ("mkldnn", bool(torch.backends.mkldnn.enabled)),
        ("denormals_flushed", _flushes_denormals()),
    ]
    if kind == "cuda":
        cudnn = torch.backends.cudnn
        flags += [
            ("cudnn", cudnn.version() if cudnn.enabled else None),
            ("cudnn_benchmark", bool(cudnn.benchmark)),
            ("cudnn_deterministic", bool(cudnn.deterministic)),
            ("cuda", torch.version.cuda),
        ]
    return tuple(flags)


def _flushes_denormals(one: float = 1.0) -> bool:
    # There is no getter. torch.set_flush_denormal acts on this thread's whole floating point unit, Python's included;
    # the factor is an argument so that nothing folds the product beforehand.
    return 5e-324 * one == 0.0


@functools.lru_cache(maxsize=64)
def _document(
    torch: str | None,
    device: str,
    isa: str,
    threads: int | None,
    dtype: str,
    flags: tuple[tuple[str, Any], ...],
) -> Environment:
    return Environment(
        device=Device(isa=isa, name=device, threads=threads),
        dtype=dtype,
        flags=dict(flags),
        numpy=_package("numpy"),
        plausible=_package("plausible-deniability"),
        python=platform.python_version(),
        torch=torch,
    )


def environment(device: Any = None, dtype: str = "float32") -> Environment:
    """The environment of a computation on `device` ("cpu", "cuda:0", a torch.device; default CPU) now."""
    torch = sys.modules.get("torch")
    kind = str(device).partition(":")[0] if device is not None else "cpu"
    if torch is None or not hasattr(torch, "get_num_threads"):
        name, isa = _cpu()
        return _document(None, name, isa, os.cpu_count(), dtype, ())
    flags = _torch_flags(torch, kind)
    if kind == "cuda":
        name, isa = _cuda(str(device))
        return _document(torch.__version__, name, isa, None, dtype, flags)
    version, name, isa = _torch_cpu()
    return _document(version, name, isa, torch.get_num_threads(), dtype, flags)


@functools.cache
def _torch_cpu() -> tuple[str, str, str]:
    torch = sys.modules["torch"]
    name, level = _cpu()
    # torch picks its kernels once, by what it finds or by ATEN_CPU_CAPABILITY
    return str(torch.__version__), name, f"{level} {torch.backends.cpu.get_cpu_capability()}"


@functools.cache
def _cuda(device: str) -> tuple[str, str]:
    torch = sys.modules["torch"]
    major, minor = torch.cuda.get_device_capability(device)
    return torch.cuda.get_device_name(device), f"sm_{major}{minor}"
