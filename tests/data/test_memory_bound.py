"""Peak memory on images that claim more than they should: never over `Loader.memory_bound`."""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

# Runs by itself, as peak memory is a process's. The growth is counted from what the process holds before the loader
# is made; its peak (VmHWM) is set back there.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from made_images import index_of
from geossl.config import CropConfig, LoaderConfig
from geossl.data.loader import Loader

def memory(name):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name))
    return int(line.split()[1]) * 1024

def load(paths):
    source = Loader(
        index_of(Path(sys.argv[1]), paths, [None] * len(paths)), rows=np.arange(len(paths)), batch=2, views=1,
        temporal=False, crop=CropConfig(size=32), color=None, seed=0, train=True,
        loader=LoaderConfig(threads=2, on_error="skip", max_image_mib=64),
        max_failures=1,
    )
    rows = [int(row) for batch in source for row in batch.rows[0]]
    return rows, source

load(["good.jpg"] * 4)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
rows, source = load(json.loads(sys.argv[3]))
print(json.dumps({
    "growth": memory("VmHWM") - before, "bound": source.memory_bound, "failures": source.failures(), "rows": rows,
}))
"""
MIB = 1 << 20


def jpeg(side: int, **options: bool) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 99, np.uint8)).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def claiming(data: bytes, side: int) -> bytes:
    """The JPEG with another size in its frame header."""
    at = max(data.find(b"\xff\xc0\x00\x11"), data.find(b"\xff\xc2\x00\x11"))
    return data[: at + 5] + struct.pack(">HH", side, side) + data[at + 9 :]


def repeated_scan(data: bytes, times: int) -> bytes:
    """The JPEG with its last scan over and over."""
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * times + data[-2:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """RGB, 8 bits, no pixels to speak of."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def tiff(width: int, height: int, tile: int | None = None, count: int = 1) -> bytes:
    """Three bands, 8 bits, uncompressed: a strip of all rows, or tiles; offsets and lengths of bytes."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 3)]
    if tile is None:
        tags += [(273, 1, count, 8), (278, 4, 1, height), (279, 1, count, 8)]
    else:
        tags += [(322, 4, 1, tile), (323, 4, 1, tile), (324, 1, count, 8), (325, 1, count, 8)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + max(count, 100))


def test_peak_memory_stays_under_the_printed_bound(tmp_path: Path) -> None:
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(100 * MIB), 1))
    hostile = {
        "huge.jpg": (claiming(jpeg(64), 65_500), "12274 MiB to decode"),
        "huge progressive.jpg": (claiming(jpeg(64, progressive=True), 65_500), "12274 MiB to decode"),
        # 48 MB of pixels, 96 MB of coefficients.
        "coefficients.jpg": (claiming(jpeg(64, progressive=True), 4000), "coefficients"),
        "scans.jpg": (repeated_scan(jpeg(1500, progressive=True), 1000), "more than 100 scans"),
        "huge.png": (png(65_500, 65_500), "12274 MiB to decode"),
        "profile.png": (png(64, 64, profile), "broken or cut short"),
        "huge.tif": (tiff(2**31 - 1, 2**31 - 1), "to decode"),
        "tile.tif": (tiff(64, 64, tile=65_520), "fewer bytes than its samples take"),
        "list.tif": (tiff(64, 64, count=8_000_000)[:200], "its list claims 8000000"),
    }
    (tmp_path / "good.jpg").write_bytes(jpeg(64))
    # 57 MB of pixels, as large as it gets.
    Image.fromarray(np.zeros((4300, 4400, 3), np.uint8)).save(tmp_path / "large.jpg")
    for name, (data, _) in hostile.items():
        (tmp_path / name).write_bytes(data)
    paths = [*hostile, "good.jpg", "large.jpg", "large.jpg"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent), json.dumps(paths)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    reasons = {Path(path).name: reason for path, reason in told["failures"]}
    assert reasons.keys() == hostile.keys()
    for name, (_, reason) in hostile.items():
        assert reason in reasons[name], (name, reasons[name])
    assert {paths[row] for row in told["rows"]} == {"good.jpg", "large.jpg"}
    # The large image is whole in memory at least once; and nothing breaks the promise.
    assert 50 * MIB < told["growth"] <= told["bound"] < 400 * MIB, told
