"""From GeoTIFFs to a trained encoder on the command line: ten dates of four bands."""

import json
from pathlib import Path

import pytest
import torch

from geossl.cli import main
from geossl.models.weights import load_backbone

NAIP = Path(__file__).parents[3] / "shared" / "data" / "naip"
BANDS = "red,green,blue,nir"


@pytest.mark.skipif(not NAIP.is_dir(), reason="the NAIP scenes are not there")
def test_ten_dates_of_four_bands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, run = tmp_path / "naip.parquet", tmp_path / "run"
    assert main(["data", "index", str(NAIP), "--layout", "geotiff", "--tile", "128", "--bands", BANDS,
                 "-o", str(index)]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "350 images" in said or "350" in said
    assert main(["data", "stats", str(index)]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in BANDS.split(","))
    train = ["train", "--recipe", "tp", "--recipe", "laptop", "--data", str(index), "--out", str(run),
             "--epochs", "1", "--batch", "64", "--device", "cpu", "--crop.aligned", "0.1",
             "--loader.bands", "nir,red,green"]  # fmt: skip
    assert main(train) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(row["loss"] > 0 for row in rows)
    loaded = load_backbone(run)
    assert loaded.bands == 3
    assert loaded.module(torch.zeros(2, 3, 32, 32)).shape == (2, 512)
    stats = json.loads(index.with_suffix(".stats.json").read_text())
    assert stats, "the statistics that the run is normalised by"
    assert all(0 < mean < 1 for mean in loaded.mean)
