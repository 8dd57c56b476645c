"""kernels.cu passes CUDA's own compiler, without warnings, for the architectures it is meant for."""

import shutil
import subprocess
from pathlib import Path

import pytest

from wn.backends.cuda_kernels import NAMES_OF_TYPES, SOURCE

NVCC = shutil.which("nvcc")
ARCHITECTURES = ("sm_80", "sm_90")


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
        noise = text[text.index(".entry normals(") :]
        noise = noise[: noise.index("\n}")]
        assert "mul.rn.f32" in noise
        assert "fma" not in noise  # it would round once where NumPy rounds twice
