"""Memory is bounded by parts and row groups, not by the number of images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from embedding_data import make_index, make_run

# Runs by itself, as peak memory (VmHWM) is a process's. The encoder is replaced by one that is quick and gives wide
# features, so that they are what takes memory.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from geossl.embedding import embed as job, geoparquet, parts
from geossl.embedding.file import EmbeddingFile
from geossl.embedding.search import query_like, search

WIDE = 8192
run, data, out = map(Path, sys.argv[1:])

class Wide(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.num_features = inner, WIDE
    def forward(self, images):
        return images.flatten(1)[:, :1] + torch.arange(WIDE)

def load(run, **_):
    from dataclasses import replace
    found = load_backbone(run)
    return replace(found, module=Wide(found.module).eval())

load_backbone, job.load_backbone = job.load_backbone, load
parts.PART_ROWS = 128
geoparquet.ROW_GROUP_BYTES = 8 << 20

def peak():
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

def work(out, split):
    job.embed(run, data=data, out=out, split=split, batch=32, device="cpu", threads=1)
    after = peak()
    file = EmbeddingFile(out)
    search(file, query_like(file, 0))
    return after, peak()

few, all_ = work(out.with_name("few.parquet"), "few"), work(out, None)
print(json.dumps({"few": few, "all": all_}))
"""
MIB = 1 << 20
FEW, ALL = 1000, 4000


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads its peak memory from /proc")
def test_four_times_the_images_take_no_more_memory(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    # A few files, again and again.
    columns = {"path": [f"{i % 4:03}.jpg" for i in range(ALL)]} | {f"box_{s}": [None] * ALL for s in "xywh"}
    split = ["few" if i < FEW else "rest" for i in range(ALL)]
    data = make_index(tmp_path, ALL, files=4, split=split, **columns)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(run), str(data), str(tmp_path / "f.parquet")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # The features of all images are 125 MiB, those of the few 31 MiB.
    assert told["all"][1] - told["few"][1] < 20 * MIB, told
