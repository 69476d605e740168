"""TIFFs that are broken or lie: an error that names the file, or what rasterio reads; in bounded memory and time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tiff_hostile
from tiff_hostile import HEIGHT, MIB, PIXELS, WIDTH

from geossl.data.index import Index

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

LIMIT_MIB = 32
"""What decoding an image may take; the pixels are nine KiB."""

# Runs by itself, as peak memory is a process's, and a crash is its end.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from geossl import _core

def memory(name):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name))
    return int(line.split()[1]) * 1024

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
names = sorted(path.name for path in folder.glob("*.tif"))
_core.read_image(folder / "plain.tif", max_image_bytes=limit)
Path("/proc/self/clear_refs").write_text("5")
before, told = memory("VmRSS"), {}
for name in names:
    print(name, file=sys.stderr)
    path, said = folder / name, []
    for options in ({}, {"window": (0, 0, 1, 1)}, {"shrink": 8}, {"nodata": 0}, {"bands": [None, 0]}):
        try:
            got = _core.read_image(path, max_image_bytes=limit, **options)["data"]
            said.append(None)
            if not options:
                np.save(path.with_suffix(".npy"), got)
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    told[name] = said
headers = _core.image_headers([folder / name for name in names], threads=2)
told = {name: [*said, header["error"]] for (name, said), header in zip(told.items(), headers, strict=True)}
print(json.dumps({"growth": memory("VmHWM") - before, "told": told}))
"""

LOAD = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Loader
from made_images import index_of

folder = Path(sys.argv[1])
paths = sorted(path.name for path in folder.glob("*.tif"))
source = Loader(
    index_of(folder, paths, [None] * len(paths)), rows=np.arange(len(paths)), batch=1, views=1, temporal=False,
    crop=CropConfig(size=16), color=None, seed=0, train=True,
    loader=LoaderConfig(threads=2, on_error="substitute", max_image_mib=int(sys.argv[3])),
    max_failures=1,
)
Path("/proc/self/clear_refs").write_text("5")
lines = Path("/proc/self/status").read_text().splitlines()
before = int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024
batches = sum(1 for _ in source)
lines = Path("/proc/self/status").read_text().splitlines()
peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
print(json.dumps({
    "batches": batches, "images": len(paths), "failures": source.failures(), "growth": peak - before,
    "bound": source.memory_bound,
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All the files, by their kind."""
    made = tmp_path_factory.mktemp("hostile")
    kinds = [tiff_hostile.plain(), tiff_hostile.broken(), tiff_hostile.odd(), tiff_hostile.damaged(made)]
    for files in kinds:
        for name, data in files.items():
            assert not (made / f"{name}.tif").exists()
            (made / f"{name}.tif").write_bytes(data)
    return made


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, list[str | None]]:
    """What was said about each file: None where it was read, by each way of reading, the header's last."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(LIMIT_MIB * MIB)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"the last file it said, and the error: {done.stderr[-1500:]}"
    answer = json.loads(done.stdout)
    # The pixels, a block and what the codecs hold beside them; a bomb would be 256 MiB and more.
    assert answer["growth"] < 3 * LIMIT_MIB * MIB, answer["growth"] / MIB
    said: dict[str, list[str | None]] = answer["told"]
    return said


def pixels(folder: Path, name: str) -> np.ndarray:
    """[h, w, bands] that our reader gave."""
    made: np.ndarray = np.load(folder / f"{name}.npy")
    return made


def rasterios(folder: Path, name: str) -> np.ndarray | None:
    """[h, w, bands]; None where it reads nothing."""
    try:
        with rasterio.open(folder / f"{name}.tif") as file:
            return file.read().transpose(1, 2, 0)
    except (rasterio.errors.RasterioError, UnicodeDecodeError):
        return None


def test_every_error_names_its_file(told: dict[str, list[str | None]]) -> None:
    for name, said in told.items():
        for error in said[:-1]:
            assert error is None or name in error, (name, error)
            assert error is None or "panic" not in error.lower(), (name, error)


def test_the_files_made_here_are_read(folder: Path, told: dict[str, list[str | None]]) -> None:
    for name in tiff_hostile.plain():
        assert told[f"{name}.tif"] == [None] * 6, name
        np.testing.assert_array_equal(pixels(folder, name), PIXELS, err_msg=name)


def test_broken_files_are_errors(told: dict[str, list[str | None]]) -> None:
    read = [name for name in tiff_hostile.broken() if told[f"{name}.tif"][0] is None]
    assert read == []


def test_odd_files_are_errors_or_rasterios_pixels(folder: Path, told: dict[str, list[str | None]]) -> None:
    wrong = {}
    for name in tiff_hostile.odd():
        if told[f"{name}.tif"][0] is not None:
            continue
        got, expected = pixels(folder, name), rasterios(folder, name)
        expected = PIXELS if expected is None else expected
        if got.shape != expected.shape or not np.array_equal(got, expected):
            wrong[name] = (got.shape, expected.shape)
    assert wrong == {}


def test_lies_about_other_things_do_not_matter(told: dict[str, list[str | None]]) -> None:
    """Overviews, masks, chains and places that are broken leave the pixels readable, as rasterio does."""
    for name in ("a long chain", "an absurd overview", "an overview of other bands", "geo keys cut", "scale of nan"):
        assert told[f"{name}.tif"][0] is None, told[f"{name}.tif"]


def test_cut_files_are_errors_or_whole(folder: Path, told: dict[str, list[str | None]]) -> None:
    whole = {}
    for name, data in tiff_hostile.layouts(folder):
        (folder / f"whole {name}.tif").write_bytes(data)
        whole[name] = rasterios(folder, f"whole {name}")
        (folder / f"whole {name}.tif").unlink()
    for name, expected in whole.items():
        for part in range(20):
            if told[f"cut {name} {part}.tif"][0] is None:
                np.testing.assert_array_equal(pixels(folder, f"cut {name} {part}"), expected)
        assert told[f"cut {name} 10.tif"][0] is not None
    assert {pixels.shape for pixels in whole.values() if pixels is not None} == {(HEIGHT, WIDTH, 3)}


def test_index_and_loader(folder: Path, told: dict[str, list[str | None]]) -> None:
    """The index lists what cannot be read; a loader that is given all of them puts others in their place."""
    listing, index = folder.parent / "hostile.csv", folder.parent / "hostile.parquet"
    names = sorted(f"{folder.name}/{path.name}" for path in folder.glob("*.tif"))
    listing.write_text("path\n" + "".join(f'"{name}"\n' for name in names))
    done = subprocess.run(
        [sys.executable, "-m", "geossl", "data", "index", str(listing), "-o", str(index)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    unread = {name for name, said in told.items() if said[-1] is not None}
    columns = (Index.read(index).table[name].to_pylist() for name in ("path", "width", "reader"))
    with_size = {path for path, width, reader in zip(*columns, strict=True) if width and reader is None}
    assert with_size == {f"{folder.name}/{name}" for name in told if name not in unread}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), str(Path(__file__).parent), str(LIMIT_MIB)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["batches"] == answer["images"]
    failed = {Path(path).name for path, _ in answer["failures"]}
    assert failed >= {f"{name}.tif" for name in tiff_hostile.broken()}
    assert failed.isdisjoint({f"{name}.tif" for name in tiff_hostile.plain()})
    assert len(told) == answer["images"]
    assert answer["growth"] <= answer["bound"]
