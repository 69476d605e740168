"""`geossl train --dry-run`, and what a run that cannot begin says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from geossl.cli import main
from geossl.config import make_config
from geossl.data.loader import Loader
from geossl.errors import Faults, UsageError
from geossl.training import train

SMALL = [
    "--crop.size",
    "32",
    "--model.backbone",
    "resnet18",
    "--batch",
    "16",
    "--device",
    "cpu",
    "--loader.threads",
    "1",
]


def dry_run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, str]:
    capsys.readouterr()
    assert main(["train", *map(str, words), "--dry-run"]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    return dict(rows)


def test_a_run_is_described_and_nothing_is_written(
    planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(planet.parent.rglob("*"))
    words = ["--recipe", "geo_tp", "--data", planet, "--out", tmp_path / "run", *SMALL, "--epochs", "3"]
    told = dry_run(capsys, *words, "--accumulate", "2")
    loader_rows = make_config({"arm": "geo_tp", "data": planet, "out": "x", "batch": 16})
    from geossl.training.data import read_data

    data = read_data(loader_rows)
    images, places = len(data.rows), len(set(data.index.places[data.rows].tolist()))
    assert told["images"] == f"{images} of {places} places"
    assert told["pairs"].startswith(f"{images - data.alone} images have another date; {data.alone} not")
    assert told["bands"] == "3 of 8 bits: red, green, blue"
    assert told["geo"] == "head  clusters: 8 clusters"
    assert told["batch"] == "16 images a step = 1 process x 2 micro-batches x 8; learning rate 0.03 for the whole batch"
    assert told["steps"] == f"{images // 16} an epoch, {images // 16 * 3} in 3 epochs"
    assert re.fullmatch(
        r"[\d.e-]+ s a step, [\d.e-]+ s a batch of the loader: \d+:\d\d:\d\d for \d+ steps", told["time"]
    )
    # ResNet-18 without its last layer, MoCo-v2's projection to 128, and a geo head of 8 clusters.
    parameters = 11_176_512 + (512 * 512 + 512) + (512 * 128 + 128) + (128 * 8 + 8)
    assert f"{parameters:,} trained parameters, queue of {images // 2 // 16 * 16} keys" in told["model"]
    assert list(tmp_path.iterdir()) == []
    assert sorted(planet.parent.rglob("*")) == before


def test_a_dry_run_of_a_run_that_goes_on(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", "moco", "--data", planet, "--out", tmp_path / "run", *SMALL, "--epochs", "2"]
    told = dry_run(capsys, *words)
    assert "pairs" not in told
    steps = int(told["steps"].split()[0])
    stopped = make_config({"arm": "moco", "data": planet, "out": tmp_path / "run", "batch": 16, "epochs": 2,
                           "device": "cpu", "crop": {"size": 32}, "model": {"backbone": "resnet18"}})  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        cut_power_in_the_second_epoch(patch)
        with pytest.raises(RuntimeError, match="power cut"):
            train(stopped)
    checkpoint = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    files = sorted(tmp_path.rglob("*"))
    told = dry_run(capsys, *words, "--resume", "auto")
    assert told["steps"] == f"{steps} an epoch, {2 * steps} in 2 epochs, {steps} of them done"
    assert told["time"].endswith(f"for {steps} steps")
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == checkpoint
    assert sorted(tmp_path.rglob("*")) == files


def cut_power_in_the_second_epoch(patch: pytest.MonkeyPatch) -> None:
    go_to = Loader.set_epoch

    def set_epoch(self: Loader, epoch: int) -> None:
        if epoch == 1:
            raise RuntimeError("power cut")
        go_to(self, epoch)

    patch.setattr(Loader, "set_epoch", set_epoch)


MEASURED = """
import torch
from geossl.training.dry_run import PeakMemory

big = torch.ones(60_000_000)  # 229 MiB, before
del big
held = torch.ones(10_000_000)
with PeakMemory(torch.device("cpu")) as peak:
    torch.ones(30_000_000).sum()  # 114 MiB
print(peak.bytes / 2**20)
"""


def test_peak_memory_is_that_of_the_block() -> None:
    # In a process of its own: in this one, memory that earlier tests have freed may be used again.
    done = subprocess.run([sys.executable, "-c", MEASURED], check=True, capture_output=True, text=True)
    assert 110 <= float(done.stdout) < 150


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.txt").touch()
    wrong = {
        "--out": "run: exists already",
        "--data": "none.parquet: no such index",
        "--device": "device: cuda:77 is not there",
        "--init-from": "weights.pth: no such run or checkpoint",
        "--loader.pack": "some.pack: no pack",
        "--model.backbone": "model.backbone: neither torchvision nor timm has a model resnet181",
        "--loader.clusters": "some.clusters: no clusters, which the arm geo needs",
    }
    words = [word for name, said in wrong.items() for word in (name, said.split(":")[0])]
    for name, value in {"--out": tmp_path / "run", "--device": "cuda:77", "--model.backbone": "resnet181"}.items():
        words[words.index(name) + 1] = str(value)
    for more in ([], ["--dry-run"]):
        assert main(["train", "--recipe", "geo", *words, *more]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert all(said in err for said in wrong.values()), err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "run"]


def test_faults_of_an_index_are_told_together(planet: Path, tmp_path: Path) -> None:
    settings = {"arm": "geo", "data": planet, "out": tmp_path / "run", "device": "cpu"}
    wrong = {"split": "tset", "clusters": tmp_path / "none.parquet"}
    with pytest.raises(UsageError, match=r"loader\.split: no split tset in .*; it has train, val; .*no clusters"):
        train(make_config(settings, {"loader": wrong}))


def test_noted_faults() -> None:
    faults = Faults()
    faults.tell()
    for message in ("one", "other", "one"):
        with faults.noted():
            raise UsageError(message)
    with pytest.raises(UsageError, match=r"^one; other$"):
        faults.tell()
    with pytest.raises(KeyError), faults.noted():
        raise KeyError
