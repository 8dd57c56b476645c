"""The commands around walks: networks on disk, lists of networks and data sets."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.cli.command_line import one_line, run
from wn.cli import commands

# ---- networks on disk -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained by `wn train`."""
    path = tmp_path_factory.mktemp("train") / "deep" / "network.safetensors"
    line = (
        f"train -m mlp-8 --epochs 1 --train-limit 300 --test-limit 200 --noise additive --sigma 2 -o {path}"
    )
    assert run(*line.split()).code == 0
    return path


def test_train_writes_a_network(network: Path) -> None:
    tensors = load_file(network)
    assert tensors["fc1.weight"].shape == (1, 8, 784)
    assert os.listdir(network.parent) == [network.name]
    refused = run("train", "--epochs", "1", "--train-limit", "300", "-o", network)
    assert refused.code == 2
    assert "exists: choose another --out, or --overwrite" in one_line(refused)
    before = network.read_bytes()
    line = "train -m mlp-8 --epochs 1 --train-limit 300 --test-limit 200 --noise additive --sigma 2"
    code, out, err = run(*line.split(), "-o", network, "--overwrite")
    assert code == 0
    assert load_file(network)["fc1.weight"].tobytes() == tensors["fc1.weight"].tobytes()
    assert len(before) > 8 * 784 * 4
    assert [row.split("│")[1].strip() for row in out.splitlines() if "200" in row] == ["clean", "noisy"]
    assert "training: 100 %" in err


def test_networks_go_to_pytorch_and_come_back(network: Path, tmp_path: Path) -> None:
    member = tmp_path / "member"
    outcome = run("export", network, "-o", member)
    assert outcome == (0, f"Wrote {member}\n", "")
    state = load_file(member)
    assert state["fc1.weight"].shape == (8, 784)
    assert state["logits.bias"].shape == (10,)
    assert "exists" in one_line(run("export", network, "-o", member))
    assert run("export", network, "-o", member, "--overwrite").code == 0
    back = tmp_path / "back"
    code, out, _ = run("import", member, member, "--model", "mlp-8", "-o", back)
    assert code == 0
    assert out == f"Wrote {back}: mlp-8 (batch norm none, input 1×28×28, 10 classes), 2 members\n"
    tensors = load_file(back)
    assert tensors["fc1.weight"].shape == (2, 8, 784)
    assert tensors["fc1.weight"][1].tobytes() == load_file(network)["fc1.weight"][0].tobytes()
    assert run("export", back, "--all", "-o", tmp_path / "all").code == 0
    assert sorted(os.listdir(tmp_path / "all")) == ["member-0.safetensors", "member-1.safetensors"]
    assert "member 2: allowed are 0 to 1" in one_line(run("export", back, "--member", "2"))
    assert "fc1.weight" in one_line(run("import", member, "--model", "mlp-16", "-o", tmp_path / "no"))
    assert "exists" in one_line(run("import", member, "--model", "mlp-8", "-o", back))


def test_export_names_its_files_after_the_source(network: Path) -> None:
    folder = network.parent
    assert run("export", network).code == 0
    assert run("export", network, "--all").code == 0
    assert sorted(os.listdir(folder)) == [
        "network-member-0.safetensors",
        "network-members",
        "network.safetensors",
    ]
    one, other = folder / "network-member-0.safetensors", folder / "network-members" / "member-0.safetensors"
    assert one.read_bytes() == other.read_bytes()
    one.unlink()
    other.unlink()
    other.parent.rmdir()


# ---- lists ----------------------------------------------------------------------------------------------


def test_lists_are_legible_at_80_columns() -> None:
    code, out, err = run("data", "list")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "\x1b" not in out
    for name in ("fashion-mini", "fashion-mnist", "mnist", "cifar10", "svhn", "speech-commands"):
        assert re.search(rf"│ {name} +│", out)
        assert re.search(rf"^{name}: .*licence", out, re.MULTILINE)
    assert re.search(r"│ fashion-mini +│ 1×28×28 │ +10 │ +10,000 │ +2,000 │ with wn +│", out)


def test_models_lists_networks() -> None:
    code, out, err = run("models")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"│ mlp-64 +│ none +│ 1×28×28 +│ +59,210 │ +59,008 │ +8 │", out)
    assert re.search(r"│ lenet5 +│ sites +│ 1×28×28 +│ +44,878 │ +281,640 │ +16 │", out)
    assert "tfc = mlp-64" in out
    only = run("models", "--batch-norm", "hidden").out
    assert "hidden" in only
    assert "sites " not in only.split("Other names")[0].replace("sites ┃", "")


def test_models_lists_the_sites_of_one() -> None:
    code, out, err = run("models", "lenet5")
    assert (code, err) == (0, "")
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")
    ]
    assert len(rows) == 12 + 16
    assert rows[0] == ["0", "input", "1×28×28", "784"]
    assert rows[4] == ["4", "conv2", "16×8×8", "1,024"]
    assert rows[12 + 15] == ["15", "logits", "10", "10"]
    assert "hidden" in out
    out = run("models", "mlp", "--batch-norm", "sites", "--input-shape", "3,32,32", "--classes", "7").out
    assert re.search(r"│ +0 │ input +│ 3×32×32 │ +3,072 │", out)
    assert re.search(r"│ +10 │ logits +│ 7 +│ +7 │", out)
    assert "none" not in out


def test_data_of_the_package_are_here() -> None:
    code, out, _ = run("data", "fetch", "fashion-mini")
    paths = [Path(line) for line in out.splitlines()]
    assert code == 0
    assert len(paths) == 4
    assert all(path.is_file() for path in paths)
    code, out, _ = run("data", "check", "fashion-mini")
    assert code == 0
    assert [line.rsplit(": ", 1)[1] for line in out.splitlines()] == ["original"] * 4


def test_data_that_are_not_the_original_have_code_1(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"nothing")
    code, out, err = run("data", "check", "mnist", "--data-dir", tmp_path)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path / 'train-images-idx3-ubyte'}: not the original: its checksum differs"
    assert [line.rsplit(": ", 1)[1] for line in lines[1:]] == ["missing"] * 3


def test_downloads_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, data_dir: Any, progress: Any) -> tuple[Path, ...]:
        bar = progress(f"{name}.gz")  # what pooch does with it
        bar.total = 100
        bar.update(60)
        bar.reset()
        bar.update(100)
        bar.close()
        assert bar.total == 100
        return (Path(f"/data/[{name}].gz"),)

    monkeypatch.setattr("wn.data.catalogue.fetch", fetch)
    assert run("data", "fetch", "mnist") == (0, "/data/[mnist].gz\n", "downloading mnist.gz\n")


def test_output_and_messages_go_where_they_belong() -> None:
    assert (commands.output.stderr, commands.messages.stderr) == (False, True)
