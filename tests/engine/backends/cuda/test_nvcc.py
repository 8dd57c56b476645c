"""kernels.cu passes CUDA's own compilers, without warnings, for the architectures it is meant for."""

import shutil
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from wn.engine.backends.cuda.kernels import NAMES_OF_TYPES, SOURCE, compiled

NVCC = shutil.which("nvcc")
ARCHITECTURES = ("sm_80", "sm_90")


def check_noise(ptx: str) -> None:
    """Assert that the noise is rounded as NumPy does: after each product and sum, small numbers too."""
    for name in ("standard_draws", "apply_draws"):
        noise = ptx[ptx.index(f".entry {name}(") :]
        noise = noise[: noise.index("\n}")]
        assert "mul.rn.f32" in noise
        assert "fma" not in noise  # it would round once where NumPy rounds twice
        assert "ftz" not in noise  # it would make 0 of numbers below 2^-126


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed: kernels.cu is built by a C++ compiler alone")
@pytest.mark.parametrize("real", NAMES_OF_TYPES.values())
def test_the_kernels_compile_for_gpus(real: str, tmp_path: Path) -> None:
    for architecture in ARCHITECTURES:
        out = tmp_path / f"{architecture}.ptx"
        options = ["-ptx", "-std=c++17", f"-DREAL={real}", f"-arch={architecture}", "-Werror", "all-warnings"]
        done = subprocess.run(
            [str(NVCC), *options, "-o", str(out), str(SOURCE)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        text = out.read_text(encoding="utf-8")
        assert f".target {architecture}" in text
        assert text.count(".entry ") > 20
        check_noise(text)


# ---- NVRTC, as CuPy has it: it compiles without a GPU -----------------------------------------------------


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    """NVRTC."""
    if find_spec("cupy") is None:
        pytest.skip("CuPy is not installed: its compiler, NVRTC, does not see kernels.cu")
    try:
        found = import_module("cupy").cuda.nvrtc
        found.getVersion()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"CuPy does not find NVRTC: {str(error).partition(chr(10))[0]}")
    return found


@pytest.mark.parametrize("dtype", NAMES_OF_TYPES)
def test_nvrtc_makes_code_for_gpus_it_knows(dtype: str, nvrtc: Any) -> None:
    assert compiled(nvrtc, dtype, 90).startswith(b"\x7fELF")


@pytest.mark.parametrize("dtype", NAMES_OF_TYPES)
def test_nvrtc_makes_ptx_for_gpus_that_came_later(dtype: str, nvrtc: Any) -> None:
    text = compiled(nvrtc, dtype, 9999).decode()
    assert f".target sm_{max(nvrtc.getSupportedArchs())}" in text
    check_noise(text)


def test_gpus_too_old_for_nvrtc_are_named_by_its_own_words(nvrtc: Any) -> None:
    with pytest.raises(RuntimeError, match=r"NVRTC does not compile .*gpu-architecture"):
        compiled(nvrtc, "float32", 20)
