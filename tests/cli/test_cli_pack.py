"""Packs from the command line: the files may go, a run goes from one to the other, mistakes are one line."""

import json
import shutil
from pathlib import Path

import pytest
from test_cli import TINY, complaint, copy_of, run


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_goes_from_the_files_to_a_pack(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, pack = copy_of(planet, tmp_path / "planet"), tmp_path / "pack"
    train = ["train", "--recipe", "geo_tp", "--data", index, *TINY]
    assert run(*train, "--out", tmp_path / "files", "--epochs", "2") == 0
    assert run("data", "pack", index, "-o", pack, "--verify") == 0
    printed = capsys.readouterr().out
    assert "verified: every pixel is the file's" in printed
    assert f"--loader.pack {pack}" in printed
    shutil.rmtree(tmp_path / "planet" / planet.stem)

    assert "its images are not under" in complaint(capsys, *train, "--out", tmp_path / "gone", "--epochs", "1")
    assert run("data", "cluster", index, "-k", "8", "-o", tmp_path / "clusters.parquet") == 0
    assert run(*train, "--out", tmp_path / "packed", "--epochs", "2", "--loader.pack", pack) == 0
    assert losses(tmp_path / "packed") == losses(tmp_path / "files")
    assert run("probe", tmp_path / "packed", "--data", index, "--pack", pack, "--baselines", "none") == 0


def test_a_sized_pack_says_what_it_loses(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in [(["--quality", "80"], "dB PSNR"), (["--raw"], "every pixel is the resized file's")]:
        out = tmp_path / words[0].strip("-")
        assert run("data", "pack", planet, "-o", out, "--short-side", "24", *words, "--verify") == 0
        assert said in capsys.readouterr().out
    wrong = ["train", "--data", planet, "--out", tmp_path / "run", *TINY, "--loader.pack", out]
    assert "crop.context: " in complaint(capsys, *wrong, "--crop.no-context")


def test_parts_and_their_merge(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pack"
    assert run("data", "pack", planet, "-o", out, "--part", "2/2") == 0
    assert f"geossl data merge {out}" in capsys.readouterr().out
    assert "part 1 of 2 lacks" in complaint(capsys, "data", "merge", out)
    assert run("data", "pack", planet, "-o", out, "--part", "1/2") == 0
    assert run("data", "merge", out) == 0
    assert f"images -> {out}" in capsys.readouterr().out


def test_mistakes(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("3", "0/2", "3/2", "a/b", "1/2/3"):
        assert f"--part {part}" in complaint(capsys, "data", "pack", planet, "-o", tmp_path / "x", "--part", part)
    assert "give --short-side too" in complaint(capsys, "data", "pack", planet, "-o", tmp_path / "x", "--raw")
    assert "no pack" in complaint(capsys, "data", "merge", tmp_path)
    train = ["train", "--data", planet, "--out", tmp_path / "run", *TINY]
    assert "no pack" in complaint(capsys, *train, "--loader.pack", tmp_path)


def test_a_damaged_pack_is_found(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pack"
    assert run("data", "pack", planet, "-o", out) == 0
    shard = next(out.glob("part-*/*.shard"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    assert run("data", "pack", planet, "-o", out, "--verify") == 1
    assert "packed images are not the files'" in capsys.readouterr().err
