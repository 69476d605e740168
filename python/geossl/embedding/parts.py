"""The folder in which embeddings wait for their file: one part after the other, each written whole."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geossl.embedding.job import differences
from geossl.embedding.vectors import least_cosine, quantize, vector_array
from geossl.errors import GeosslError, UsageError
from geossl.files import naming_full_disk, remove_temporary, replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.embedding.encode import Encoded
    from geossl.embedding.job import Dtype

PART_ROWS = 2048
"""Images of a part: what is lost by a kill, and what waits in memory."""
JOB = "job.json"
PART_NAMES = "[0-9][0-9][0-9][0-9][0-9][0-9].parquet"
METADATA_KEY = b"geossl.part"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a finished part tells of itself."""

    rows: NDArray[np.int64]
    """Rows of the index that have an embedding, in order, int64 [n]."""
    failures: list[tuple[int, str]]
    """(row, reason) of those that could not be read."""
    least_cosine: float | None
    """Least cosine between a vector and its int8 form; None for float32."""


class Parts:
    """The parts of one job. Part i has `part_rows` of its rows, from the i-th times that on; the last has the rest."""

    def __init__(self, folder: Path, *, job: Mapping[str, Any]) -> None:
        self.folder = folder
        self.dtype: Dtype = job["features"]["dtype"]
        self.dimensions: int = job["features"]["dimensions"]
        batch = job["features"]["batch"]
        # Whole batches, so that each image is in the same one whenever the work was interrupted.
        self.part_rows = max(PART_ROWS // batch, 1) * batch
        self._job = json.loads(json.dumps(job))

    def begin(self) -> int:
        """Make the folder, or find it as an earlier call left it; returns the number of finished parts.

        Raises UsageError if it holds the parts of another job.
        """
        path = self.folder / JOB
        if not path.exists():
            # Parts without it are of work whose folder was being removed.
            self._clear()
            with naming_full_disk(path), replacing(path) as file:
                file.write(json.dumps(self._job).encode())
        if other := self._other():
            raise UsageError(
                f"{self.folder}: holds the unfinished work of another command ({', '.join(other)} differ): finish it "
                "with that command, give another -o, or delete the folder to begin anew"
            )
        done = 0
        while self._path(done).is_file():
            done += 1
        return done

    def write(self, number: int, encoded: Sequence[Encoded]) -> None:
        """Write a part, whole or not at all."""
        full = [one for one in encoded if len(one.rows)]
        x = np.concatenate([one.x for one in full]) if full else np.empty((0, self.dimensions), np.float32)
        rows = np.concatenate([one.rows for one in full]) if full else np.empty(0, np.int64)
        columns: dict[str, Any] = {"row": rows}
        values: NDArray[Any] = x
        about: dict[str, Any] = {"failures": [failure for one in encoded for failure in one.failures]}
        if self.dtype == "int8":
            values, columns["scale"] = quantize(x)
            about["least_cosine"] = least_cosine(x, values)
        columns["embedding"] = vector_array(values)
        table = pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(about)})
        path = self._path(number)
        with naming_full_disk(path), replacing(path) as file:
            pq.write_table(table, file, compression="none", use_dictionary=False, write_page_checksum=True)

    def about(self, number: int) -> Part:
        """What a part has, without its embeddings."""
        with self._open(number) as file:
            about = json.loads(file.schema_arrow.metadata[METADATA_KEY])
            return Part(
                rows=file.read(columns=["row"])["row"].to_numpy(),
                failures=[(row, reason) for row, reason in about["failures"]],
                least_cosine=about.get("least_cosine"),
            )

    def tables(self, count: int) -> Iterator[pa.Table]:
        """The parts one by one: row int64, of int8 scale float32, embedding."""
        for number in range(count):
            with self._open(number) as file:
                try:
                    yield file.read().replace_schema_metadata(None)
                except (OSError, pa.ArrowException) as e:
                    raise self._damaged(number, e) from e

    def remove(self) -> None:
        """Remove the folder, if it is of this job; what else lies in it stays."""
        if self.folder.is_dir() and not self._other():
            (self.folder / JOB).unlink(missing_ok=True)
            self._clear()
            with suppress(OSError):
                self.folder.rmdir()

    def _other(self) -> list[str]:
        """What the folder's job has otherwise than this one."""
        path = self.folder / JOB
        try:
            had = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as e:
            raise UsageError(f"{path}: cannot be read: delete the folder {self.folder} to begin anew") from e
        return differences(had, self._job)

    def _clear(self) -> None:
        if self.folder.is_dir():
            remove_temporary(self.folder)
            for path in self.folder.glob(PART_NAMES):
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.parquet"

    def _open(self, number: int) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path(number), page_checksum_verification=True)
        except (OSError, pa.ArrowException) as e:
            raise self._damaged(number, e) from e

    def _damaged(self, number: int, error: Exception) -> GeosslError:
        path, said = self._path(number), " ".join(str(error).split())
        return GeosslError(f"{path}: damaged ({said}): delete it, and give the same command again")
