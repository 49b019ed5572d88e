"""Where and how numbers are computed: the device, the precision, determinism, and a record of them.

Training on a CPU is deterministic: the same software, processor and number of threads give the same bits. Training on
a GPU is not promised to be.
"""

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

from headrace.pipeline.errors import RecipeError


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device; `auto` is CUDA where there is one, else the CPU.

    Raises:
        RecipeError: torch knows no such device, or this machine has none; `run.device` is the key of a run file.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        _require(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        what = str(error).partition("\n")[0].rstrip(".")
        raise RecipeError(
            f'run.device = {name!r}: cannot be used here ({what}); write "auto", which takes CUDA where there is one, '
            'or "cpu"'
        ) from None
    return device


def _require(device: torch.device) -> None:
    """Raise what torch raises where nothing can be computed on a device.

    CUDA is only counted: each of several processes would else hold memory of the first GPU, whichever it computes on.
    """
    if device.type != "cuda":
        torch.zeros((), device=device).item()
    elif (device.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(f"torch sees {torch.cuda.device_count()} CUDA devices")


def choose_bf16(wish: Literal["auto"] | bool, device: torch.device) -> bool:
    """Return whether to compute matrix products in bfloat16; `auto` does where the device has instructions for it.

    A CPU with AVX-512 bf16 or AMX trains 2.5 times as fast; one without emulates it, slower than float32.
    """
    if wish != "auto":
        return wish
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[Any]:
    """Return the context of a forward pass; parameters and the residual stream stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, allow deterministic kernels only; what was set before is put back at the end."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return what a rerun needs to be the same to the bit: versions, processor, threads."""
    cpu = torch.cpu.get_capabilities()
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(cpu.get("cpu_name", "cpu")),
        "threads": torch.get_num_threads(),
    }
