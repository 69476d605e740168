"""When an image was taken: by its name, by its tags, or by a table."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from geossl import _core
from geossl.data.listing import read_columns, timestamps
from geossl.data.table import NO_INSTANT
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

YEARS = range(1970, 2101)
"""Years of an image; another number is no year."""

_DATE = r"(?P<Y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"
_DASHED = r"(?P<Y>\d{4})(?P<sep>[-_.:])(?P<m>\d{2})(?P=sep)(?P<d>\d{2})"
_TIME = r"(?P<H>\d{2})(?P<M>\d{2})(?P<S>\d{2})(?!\d)"
_DAY = r"(?P<Y>\d{4})(?P<j>\d{3})"
_KNOWN = [
    [re.compile(pattern) for pattern in patterns]
    for patterns in (
        [rf"(?:^|[._])A{_DAY}(?!\d)"],  # MODIS and VIIRS: MOD09GA.A2017006.h08v05.006
        [rf"(?<!\d){_DAY}T{_TIME}"],  # HLS: HLS.L30.T10SEH.2021001T183830
        [rf"^L[CEMOT]\d{{7}}{_DAY}[A-Z]{{3}}\d"],  # Landsat before collections: LC80390372015209LGN00
        # Sentinel, Landsat, PlanetScope, NAIP: 20170105T013442, 20150728_20200908, 20200929_182110_ssc1, 2019-09-04
        [
            rf"(?<!\d){_DATE}(?:[T_-]?{_TIME}|(?!\d))",
            rf"(?<!\d){_DASHED}(?:[T_ -](?P<H>\d{{2}})[-_.:]?(?P<M>\d{{2}})[-_.:]?(?P<S>\d{{2}})(?!\d)|(?!\d))",
        ],
    )
]
"""Patterns, the most telling first; of those beside each other the leftmost match is taken."""
_DIRECTIVES = {
    "Y": r"(?P<Y>\d{4})",
    "y": r"(?P<y>\d{2})",
    "m": r"(?P<m>\d{2})",
    "d": r"(?P<d>\d{2})",
    "j": r"(?P<j>\d{3})",
    "b": r"(?P<b>[A-Za-z]{3})",
    "H": r"(?P<H>\d{2})",
    "M": r"(?P<M>\d{2})",
    "S": r"(?P<S>\d{2})",
    "%": "%",
}
_MONTHS = {name.lower(): i for i, name in enumerate(
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
)}  # fmt: skip


def dates_of_names(paths: Sequence[str], pattern: str | None = None) -> np.ndarray:
    """When images were taken by their file names, else their folders' from the innermost out.

    Args:
        paths: '/'-separated.
        pattern: what the date looks like, in strptime's directives; by default the known patterns.

    Returns:
        int64 [N], microseconds since 1970; the least int64 where a path tells none.

    Raises:
        UsageError: a pattern without a year, or with an unknown directive.

    """
    patterns = _KNOWN if pattern is None else [[_compiled(pattern)]]
    seen: dict[str, int] = {}

    def date(path: str) -> int:
        for part in reversed(path.split("/")):
            if part not in seen:
                seen[part] = _first_date(part, patterns)
            if seen[part] != NO_INSTANT:
                return seen[part]
        return NO_INSTANT

    return np.array([date(path) for path in paths], np.int64)


def dates_of_tags(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """The first date among the texts of each image; int64 [N] as of `dates_of_names`."""

    def date(options: Sequence[str]) -> int:
        isos = _core.index_parse_timestamps(list(options)).tolist() if options else []
        for text, iso in zip(options, isos, strict=True):
            known = iso if 0 <= iso < _END else _first_date(text, _KNOWN[-1:])
            if known != NO_INSTANT:
                return known
        return NO_INSTANT

    return np.array([date(options) for options in texts], np.int64)


@dataclass(frozen=True)
class DateTable:
    """Dates of images by their paths or file names."""

    source: Path
    dates: dict[str, int]
    """Microseconds since 1970."""

    def of(self, paths: Sequence[str], root: Path) -> np.ndarray:
        """The dates of images, by path below `root`, whole path or file name; int64 [N] as of `dates_of_names`.

        Raises UsageError if it has none of the images.
        """
        found = [
            next((self.dates[key] for key in keys if key in self.dates), NO_INSTANT)
            for keys in ((path, f"{root.as_posix()}/{path}", path.rsplit("/", 1)[-1]) for path in paths)
        ]
        if all(date == NO_INSTANT for date in found):
            raise UsageError(
                f"--dates {self.source}: none of its {len(self.dates):,} names (e.g. {next(iter(self.dates), 'none')}) "
                f"is that of an image (e.g. {paths[0]}); give file names, or paths from {root}"
            )
        return np.array(found, np.int64)


def read_dates(source: Path, nulled: list[tuple[str, str]]) -> DateTable:
    """The table of dates in a CSV or Parquet file; bad timestamps are added to `nulled`.

    The columns are `path` and `timestamp`, else the first two.

    Raises UsageError for a file that cannot be read, has one column, or gives an image two dates.
    """
    if not source.is_file():
        raise UsageError(f"--dates {source}: no such file")
    columns = read_columns(source)
    if len(columns) < 2:
        raise UsageError(f"--dates {source}: it has one column; give path,timestamp")
    first, second = list(columns)[:2]
    named = {"path", "timestamp"} <= columns.keys()
    names = columns["path" if named else first].cast(pa.string()).fill_null("").to_pylist()

    def null(bad: np.ndarray, reason: Callable[[int], str]) -> None:
        nulled.extend((names[i], f"{reason(i)} (--dates)") for i in np.flatnonzero(bad).tolist())

    column = timestamps(source, columns["timestamp" if named else second], null)
    dates: dict[str, int] = {}
    for name, date in zip((name.strip() for name in names), column.cast(pa.int64()).to_pylist(), strict=True):
        if date is not None and dates.setdefault(name, date) != date:
            raise UsageError(f"--dates {source}: it has two dates of {name}; give the paths of files of one name")
    return DateTable(source, dates)


def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, which no digit may stand beside."""
    parts = re.split(r"%(.)", pattern)
    unknown = [f"%{name}" for name in parts[1::2] if name not in _DIRECTIVES]
    names = [name for name in parts[1::2] if name != "%"]
    if unknown or pattern.replace("%%", "").endswith("%"):
        known = " ".join(f"%{name}" for name in _DIRECTIVES)
        raise UsageError(f"--date-pattern {pattern}: {unknown[0] if unknown else '%'} is not one of {known}")
    if len(set(names)) < len(names):
        raise UsageError(f"--date-pattern {pattern}: it has a directive twice")
    if not {"Y", "y"} & set(names):
        raise UsageError(f"--date-pattern {pattern}: it has no year, %Y")
    text = "".join(_DIRECTIVES[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile(rf"(?<!\d){text}(?!\d)")


def _first_date(text: str, known: Sequence[Sequence[re.Pattern[str]]]) -> int:
    """The first date that the calendar has; NO_INSTANT without."""
    for patterns in known:
        matches = sorted((match for pattern in patterns for match in pattern.finditer(text)), key=re.Match.start)
        for match in matches:
            instant = _instant(match.groupdict())
            if instant is not None:
                return instant
    return NO_INSTANT


def _instant(fields: dict[str, str | None]) -> int | None:
    """Microseconds since 1970, or None if the calendar has no such day; a time that no clock shows is midnight."""
    number = {name: int(text) for name, text in fields.items() if text and name in "YymdjHMS"}
    # As strptime: 69 to 99 are of the last century.
    year = number.get("Y", number.get("y", 0) + (2000 if number.get("y", 0) < 69 else 1900))
    month = _MONTHS.get((fields.get("b") or "").lower()) if fields.get("b") else number.get("m", 1)
    if year not in YEARS or month is None:
        return None
    if "j" in number:
        if not 1 <= number["j"] <= 365 + calendar.isleap(year):
            return None
        days = datetime(year, 1, 1, tzinfo=UTC).toordinal() + number["j"] - 1
    else:
        if not (1 <= month <= 12 and 1 <= number.get("d", 1) <= calendar.monthrange(year, month)[1]):
            return None
        days = datetime(year, month, number.get("d", 1), tzinfo=UTC).toordinal()
    hour, minute, second = (number.get(name, 0) for name in "HMS")
    seconds = (hour * 60 + minute) * 60 + second if hour < 24 and minute < 60 and second < 61 else 0
    return ((days - _DAY_0) * 86_400 + seconds) * 1_000_000


_DAY_0 = datetime(YEARS[0], 1, 1, tzinfo=UTC).toordinal()
_END = (datetime(YEARS[-1] + 1, 1, 1, tzinfo=UTC).toordinal() - _DAY_0) * 86_400_000_000
