"""TIFFs that are broken, or lie, byte by byte."""

import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from made_images import smooth
from tiff_matrix import write_gdal

WIDTH, HEIGHT, ROWS = 64, 48, 16
PIXELS = smooth(HEIGHT, WIDTH, 3, seed=1)
BYTE, ASCII, SHORT, LONG, RATIONAL, FLOAT, DOUBLE, LONG8, IFD8 = 1, 2, 3, 4, 5, 11, 12, 16, 18
FORMS = {BYTE: "B", SHORT: "H", LONG: "I", FLOAT: "f", DOUBLE: "d", LONG8: "Q", IFD8: "Q"}
MIB = 1 << 20

Entry = tuple[int, list[int] | list[float] | bytes] | tuple[int, list[int] | list[float] | bytes, int]
"""Type, values, and where it lies, the count."""


@dataclass
class Page:
    """A directory and its blocks: tags by number, None for one that is left out."""

    blocks: list[bytes]
    tags: dict[int, Entry | None] = field(default_factory=dict)
    tiled: bool = False


def rows(pixels: np.ndarray = PIXELS, encode: Callable[[bytes], bytes] = bytes) -> list[bytes]:
    """The strips."""
    return [encode(pixels[y : y + ROWS].tobytes()) for y in range(0, len(pixels), ROWS)]


def page(
    tags: dict[int, Entry | None] | None = None, blocks: list[bytes] | None = None, tile: int | None = None
) -> Page:
    """64 x 48 RGB pixels in strips of 16 rows, or tiles, with some tags changed."""
    blocks = rows() if blocks is None else blocks
    usual: dict[int, Entry | None] = {
        256: (LONG, [WIDTH]),
        257: (LONG, [HEIGHT]),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, [1]),
        262: (SHORT, [2]),
        277: (SHORT, [3]),
        284: (SHORT, [1]),
    }
    usual |= {278: (LONG, [ROWS])} if tile is None else {322: (LONG, [tile]), 323: (LONG, [tile])}
    return Page(blocks, usual | (tags or {}), tile is not None)


def tiff(*pages: Page, order: str = "<", big: bool = False, after: Callable[[list[int]], int] = lambda _: 0) -> bytes:
    """The file; `after` gives the offset that the last directory names as the next, from all directories' offsets."""
    size, word = (8, "Q") if big else (4, "I")
    head = (b"II" if order == "<" else b"MM") + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    )
    starts, out = [], bytearray(head)
    for number, one in enumerate(pages):
        starts.append(len(out))
        offsets: Entry = (LONG8 if big else LONG, [0] * len(one.blocks))
        lengths: Entry = (LONG8 if big else LONG, [len(block) for block in one.blocks])
        where = (324, 325) if one.tiled else (273, 279)
        tags = {where[0]: offsets, where[1]: lengths} | one.tags
        for final in (False, True):  # once for the sizes, once with the offsets in place
            entries = {tag: entry for tag, entry in sorted(tags.items()) if entry is not None}
            at = starts[-1] + (8 if big else 2) + len(entries) * (20 if big else 12) + size
            directory, beside = bytearray(struct.pack(order + ("Q" if big else "H"), len(entries))), bytearray()
            for tag, entry in entries.items():
                kind, values = entry[0], entry[1]
                raw = (
                    values if isinstance(values, bytes) else struct.pack(f"{order}{len(values)}{FORMS[kind]}", *values)
                )
                count = entry[2] if len(entry) == 3 else len(values)
                directory += struct.pack(order + "HH" + word, tag, kind, count)
                if len(raw) <= size:
                    directory += raw.ljust(size, b"\0")
                else:
                    directory += struct.pack(order + word, at + len(beside))
                    beside += raw + b"\0" * (len(raw) % 2)
            data = at + len(beside)
            if not final and tags[where[0]] is offsets:
                ends = np.cumsum([0, *lengths[1]])[:-1]
                tags[where[0]] = (offsets[0], [data + int(end) for end in ends])
        end = data + sum(len(block) for block in one.blocks)
        following = end + end % 2 if number + 1 < len(pages) else after(starts)
        out += directory + struct.pack(order + word, following) + beside + b"".join(one.blocks) + b"\0" * (end % 2)
    return bytes(out)


@cache
def zeros(count: int) -> bytes:
    """Deflated zeros, a thousandth of them."""
    packer = zlib.compressobj(9)
    made = [packer.compress(bytes(MIB)) for _ in range(count // MIB)]
    return b"".join(made) + packer.flush()


@cache
def zstd_zeros(count: int) -> bytes:
    """Frames of zstd, of 64 MiB each."""
    return zstd(bytes(64 * MIB)) * (count // (64 * MIB))


def zstd(data: bytes) -> bytes:
    """A frame of zstd."""
    packed: bytes = pa.Codec("zstd", compression_level=3).compress(data, asbytes=True)
    return packed


@cache
def lzw(count: int) -> bytes:
    """About `count` zeros as LZW: each code is the string before and one more zero."""
    bits, codes, length, made = [], 0, 1, 0
    width, following = 9, 258
    out: list[tuple[int, int]] = [(256, 9), (0, 9)]
    while made < count:
        out.append((following, width))
        made += length + 1
        length += 1
        following += 1
        codes += 1
        if following + 1 >= 1 << width and width < 12:
            width += 1
        if following == 4093:
            out += [(256, width), (0, 9)]
            width, following, length = 9, 258, 1
    out.append((257, width))
    for code, size in out:
        bits.append(f"{code:0{size}b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def single(value: int, kind: int = LONG) -> Entry:
    """One number."""
    return (kind, [value])


def lists(tag: int, blocks: list[bytes] | None = None, tile: int | None = None) -> dict[str, bytes]:
    """Lists of this tag that claim to be the longest there are."""
    made = {
        f"list {tag} of {kind}, 2^32 - 1": tiff(page({tag: (kind, b"\x08\0\0\0", 2**32 - 1)}, blocks, tile))
        for kind in (BYTE, ASCII, SHORT, LONG, DOUBLE, 99)
    }
    return made | {f"list {tag} of 2^63": tiff(page({tag: (LONG, b"\x08" + bytes(7), 2**63)}, blocks, tile), big=True)}


def plain() -> dict[str, bytes]:
    """Files that are well, so that what is built here is known to be read."""
    deflated = rows(encode=zlib.compress)
    return {
        "plain": tiff(page()),
        "plain big endian": tiff(page(), order=">"),
        "plain bigtiff": tiff(page(), big=True),
        "plain bigtiff big endian": tiff(page(), order=">", big=True),
        "plain deflate": tiff(page({259: single(8)}, deflated)),
        "plain zstd": tiff(page({259: single(50000)}, rows(encode=zstd))),
        "plain one strip": tiff(page({278: single(2**32 - 1)}, [PIXELS.tobytes()])),
        "plain without rows": tiff(page({278: None}, [PIXELS.tobytes()])),
        "plain two pages": tiff(page(), page()),
    }


def broken() -> dict[str, bytes]:
    """Files that cannot be read."""
    side = 2**31
    many = 2**32 - 1
    made = {
        "empty directory": tiff(Page([], {273: None, 279: None})),
        "no directory": b"II*\0" + bytes(4),
        "directory past the end": b"II*\0" + struct.pack("<I", 10_000),
        "directory of 65535": tiff(page())[:8] + b"\xff\xff" + tiff(page())[10:],
        "header only": b"II*\0",
        "half a header": b"II*\0\x08\0",
        "two bytes": b"II",
        "big header only": b"II+\0\x08\0\0\0",
        "big with short offsets": b"II+\0\x04\0\0\0" + tiff(page(), big=True)[8:],
        "big directory beyond 2^63": b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63 + 16) + tiff(page(), big=True)[16:],
        "big directory at the end of numbers": b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**64 - 1) + bytes(64),
        "big directory of 2^64": tiff(page(), big=True)[:16] + b"\xff" * 8 + tiff(page(), big=True)[24:],
        "offsets beyond 2^63": tiff(page({273: (LONG8, [2**63 + 5] * 3)}), big=True),
        "offsets at the end of numbers": tiff(page({273: (LONG8, [2**64 - 1] * 3)}), big=True),
        "offsets past the end": tiff(page({273: (LONG, [2**31] * 3)})),
        "offsets at the end of 32 bits": tiff(page({273: (LONG, [2**32 - 1] * 3)})),
        "no offsets": tiff(page({273: None})),
        "no offsets or lengths": tiff(page({273: None, 279: None})),
        "no tile offsets": tiff(page({324: None}, tile=16, blocks=[bytes(768)] * 12)),
        "no width": tiff(page({256: None})),
        "no height": tiff(page({257: None})),
        "width 0": tiff(page({256: single(0)})),
        "height 0": tiff(page({257: single(0)})),
        "absurd": tiff(page({256: single(side), 257: single(side), 278: single(side)})),
        "absurd in tiles": tiff(page({256: single(side), 257: single(side)}, tile=256, blocks=[bytes(10)])),
        "absurd width": tiff(page({256: single(many)})),
        "absurd height": tiff(page({257: single(many), 278: single(many)})),
        "absurd and sparse": tiff(
            page({256: single(60_000), 257: single(60_000), 273: (LONG, [0]), 279: (LONG, [0]), 278: single(60_000)})
        ),
        "tiles of 0": tiff(page(tile=0, blocks=[bytes(10)])),
        "tiles of no width": tiff(page({322: single(0)}, tile=16, blocks=[bytes(768)] * 12)),
        "tiles of no height": tiff(page({323: single(0)}, tile=16, blocks=[bytes(768)] * 12)),
        "tiles without a height": tiff(page({323: None}, tile=16, blocks=[bytes(768)] * 12)),
        "tiles of 2^31": tiff(page(tile=side, blocks=[bytes(10)])),
        "tiles of 2^32 - 16": tiff(page(tile=2**32 - 16, blocks=[bytes(10)])),
        "tile of 65520": tiff(page(tile=65_520, blocks=[bytes(10)])),
        "deflated tile of 65520": tiff(page({259: single(8)}, tile=65_520, blocks=[zeros(512 * MIB)])),
        "lengths too large": tiff(page({259: single(8), 279: (LONG, [many] * 3)}, rows(encode=zlib.compress))),
        "deflate cut": tiff(page({259: single(8), 279: (LONG, [40] * 3)}, rows(encode=zlib.compress))),
        "deflate of something else": tiff(page({259: single(8)}, rows())),
        "zstd of something else": tiff(page({259: single(50000)}, rows())),
        "lzw of something else": tiff(page({259: single(5)}, [b"\xff" * 500] * 3)),
        "lzw of nothing": tiff(page({259: single(5)}, [b"\x80\x80"] * 3)),
        "packbits cut": tiff(page({259: single(32773)}, [b"\x7f" + bytes(50)] * 3)),
        "jpeg of something else": tiff(page({259: single(7)}, rows())),
        "webp of something else": tiff(page({259: single(50001)}, rows())),
        "too little deflated": tiff(page({259: single(8)}, [zlib.compress(bytes(100))] * 3)),
        "too little zstd": tiff(page({259: single(50000)}, [zstd(bytes(100))] * 3)),
        # What is over the block's end is not made: 1 GiB each, of a megabyte.
        "huge deflated": tiff(
            page(
                {256: single(32_768), 257: single(10_923), 278: single(10_923), 259: single(8)},
                [zeros(512 * MIB)],
            )
        ),
        "huge zstd": tiff(
            page(
                {256: single(32_768), 257: single(10_923), 278: single(10_923), 259: single(50000)},
                [zstd_zeros(1024 * MIB)],
            )
        ),
        "huge lzw": tiff(
            page({256: single(32_768), 257: single(10_923), 278: single(10_923), 259: single(5)}, [lzw(16 * MIB)])
        ),
        "bits 8, 16, 8": tiff(page({258: (SHORT, [8, 16, 8])})),
        "bits 0": tiff(page({258: (SHORT, [0, 0, 0])})),
        "bits 65535": tiff(page({258: (SHORT, [65_535] * 3)})),
        "formats 1, 3, 1": tiff(page({339: (SHORT, [1, 3, 1])})),
        "float of 8 bits": tiff(page({339: (SHORT, [3, 3, 3])})),
        "format 9": tiff(page({339: (SHORT, [9, 9, 9])})),
        "65535 bands": tiff(page({277: single(65_535, SHORT), 258: (SHORT, [8])})),
        "no bands": tiff(page({277: single(0, SHORT)})),
        "compression 0": tiff(page({259: single(0)})),
        "compression 99": tiff(page({259: single(99)})),
        "predictor 3 of integers": tiff(page({259: single(8), 317: single(3)}, rows(encode=zlib.compress))),
        "predictor 77": tiff(page({259: single(8), 317: single(77)}, rows(encode=zlib.compress))),
        "jpeg with absurd tables": tiff(page({259: single(7), 347: (BYTE, [0xFF] * 40)}, rows())),
        "width as text": tiff(page({256: (ASCII, b"64\0")})),
        "width of type 99": tiff(page({256: (99, b"@\0\0\0", 1)})),
        "width of type 0": tiff(page({256: (0, b"@\0\0\0", 1)})),
        "bands as a fraction": tiff(page({277: (RATIONAL, bytes(8), 1)})),
    }
    for tag in (256, 258):
        made |= lists(tag)
    return made


def odd() -> dict[str, bytes]:
    """Files that rasterio reads some way, or whose lies are not about the pixels."""
    many = 2**32 - 1
    small = Page(rows(PIXELS[:24, :32].copy()), page({254: single(1), 256: single(32), 257: single(24)}).tags)
    made = {
        "no lengths": tiff(page({279: None})),
        "planar 3": tiff(page({284: single(3)})),
        "cyclic": tiff(page(), after=lambda starts: starts[0]),
        "cyclic of two": tiff(page(), page(), after=lambda starts: starts[0]),
        "endless": tiff(page(), page(), after=lambda starts: starts[1]),
        "next past the end": tiff(page(), after=lambda _: 2**31),
        "too few offsets": tiff(page({273: (LONG, [8])})),
        "lengths too small": tiff(page({279: (LONG, [100] * 3)})),
        "lengths of 0": tiff(page({279: (LONG, [0, 0, 3072])})),
        "palette without colours": tiff(
            page({262: single(3), 277: single(1), 258: (SHORT, [8])}, rows(PIXELS[..., 0].copy()))
        ),
        "palette cut short": tiff(
            page(
                {262: single(3), 277: single(1), 258: (SHORT, [8]), 320: (SHORT, [7] * 30)}, rows(PIXELS[..., 0].copy())
            )
        ),
        "offsets as text": tiff(page({273: (ASCII, b"12, 13, 14\0")})),
        "offsets as doubles": tiff(page({273: (DOUBLE, [1e300, float("nan"), -5.0])})),
        "fewer bits than bands": tiff(page({258: (SHORT, [8])})),
        "no bits": tiff(page({258: None})),
        "no photometric": tiff(page({262: None})),
        "photometric 99": tiff(page({262: single(99)})),
        "fill order 2": tiff(page({266: single(2)})),
        "rows 0": tiff(page({278: single(0)})),
        "width as a float": tiff(page({256: (FLOAT, [64.0])})),
        "width as a byte": tiff(page({256: single(64, BYTE)})),
        "offsets as bytes": tiff(page({273: (BYTE, [200, 201, 202])})),
        "missing strip": tiff(page({273: (LONG, [0, 300, 300]), 279: (LONG, [0, 3072, 3072])})),
        "strips in the header": tiff(page({273: (LONG, [0, 1, 2])})),
        "lengths too large by far": tiff(page({279: (LONG, [many] * 3)})),
        "deflate bomb": tiff(page({259: single(8)}, [zeros(512 * MIB)] * 3)),
        "zstd bomb": tiff(page({259: single(50000)}, [zstd_zeros(1024 * MIB)] * 3)),
        "lzw bomb": tiff(page({259: single(5)}, [lzw(16 * MIB)] * 3)),
        "packbits bomb": tiff(page({259: single(32773)}, [b"\x81\0" * 200_000] * 3)),
        "an overview": tiff(page(), small),
        "an overview of no size": tiff(page(), Page(small.blocks, small.tags | {256: single(0)})),
        "an overview that is larger": tiff(page(), Page(small.blocks, small.tags | {256: single(640)})),
        "an absurd overview": tiff(page(), Page(small.blocks, small.tags | {256: single(many), 257: single(many)})),
        "an overview of other bands": tiff(page(), Page(small.blocks, small.tags | {277: single(1)})),
        "an overview of other bits": tiff(page(), Page(small.blocks, small.tags | {258: (SHORT, [16] * 3)})),
        "an overview without blocks": tiff(page(), Page(small.blocks, small.tags | {273: None})),
        "a mask of another size": tiff(page(), Page(small.blocks, small.tags | {254: single(4)})),
        "a mask of three bands": tiff(page(), Page(rows(), page({254: single(4)}).tags)),
        "a mask without blocks": tiff(page(), Page(rows(), page({254: single(4), 273: None, 277: single(1)}).tags)),
        "a deflate bomb of a mask": tiff(
            page(),
            Page(
                [zeros(512 * MIB)],
                page(
                    {
                        254: single(4),
                        258: single(1, SHORT),
                        259: single(8),
                        262: single(4),
                        277: single(1),
                        278: single(48),
                    }
                ).tags,
            ),
        ),
        "a long chain": tiff(page(), *[Page([], {254: single(1), 273: None, 279: None}) for _ in range(70_000)]),
        "nodata of a megabyte": tiff(page({42113: (ASCII, b"7" * MIB)})),
        "nodata of bytes": tiff(page({42113: (ASCII, bytes(range(1, 256)) + b"\0")})),
        "metadata of bytes": tiff(page({42112: (ASCII, bytes(range(128, 256)) + b"\0")})),
        "geo keys past the end": tiff(page({34735: (SHORT, [1, 1, 0, 4000, 3072, 34736, 9000, 9000])})),
        "geo keys cut": tiff(page({34735: (SHORT, [1, 1])})),
        "scale of nan": tiff(
            page({33550: (DOUBLE, [float("nan")] * 3), 33922: (DOUBLE, [float("inf")] * 6)}),
        ),
        "tie point cut": tiff(page({33550: (DOUBLE, [1.0]), 33922: (DOUBLE, [1.0, 2.0])})),
        "65535 extra samples": tiff(page({338: (SHORT, [2] * 65_535)})),
    }
    for tag in (273, 279, 306, 320, 330, 338, 339, 347, 33550, 33922, 34735, 42112, 42113):
        made |= lists(tag)
    for tag in (324, 325):
        made |= lists(tag, [bytes(768)] * 12, 16)
    made["cyclic SubIFDs"] = tiff(page({330: (LONG, [8])}))
    return made


def layouts(folder: Path) -> Iterable[tuple[str, bytes]]:
    """Well-formed files of the codecs, to be cut and damaged; with overviews and a mask where GDAL makes these."""
    image = np.ascontiguousarray(PIXELS.transpose(2, 0, 1))
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 16}
    kinds = {
        "none": {},
        "packbits": {"compress": "packbits", "blockysize": 7},
        "lzw": {"compress": "lzw", "predictor": 2, "interleave": "band"},
        "deflate": {"compress": "deflate", "predictor": 2} | tiles,
        "zstd": {"compress": "zstd", "bigtiff": "YES"} | tiles,
        "jpeg": {"compress": "jpeg", "photometric": "YCBCR"} | tiles,
        "webp": {"compress": "webp", "webp_lossless": "YES"} | tiles,
    }
    for name, options in kinds.items():
        path = folder / f"layout {name}.tif"
        write_gdal(path, image, **({"photometric": "RGB"} | options))
        yield name, path.read_bytes()
        path.unlink()


def damaged(folder: Path) -> dict[str, bytes]:
    """Cut at every twentieth; bytes changed at random, most in the directory; and noise behind a TIFF's first bytes."""
    rng, made = np.random.default_rng(0), {}
    for name, data in layouts(folder):
        for part in range(20):
            made[f"cut {name} {part}"] = data[: len(data) * part // 20]
        for number in range(40):
            changed = bytearray(data)
            reach = 600 if number % 2 else len(data)
            for at in rng.integers(4, min(reach, len(data)), rng.integers(1, 5)):
                changed[at] = rng.integers(256)
            made[f"changed {name} {number}"] = bytes(changed)
    for number in range(60):
        start = [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0"][number % 3]
        made[f"noise {number}"] = start + b"\x09\0" * (number % 2) + rng.bytes(400)
    return made
