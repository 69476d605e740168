"""Dates from names, patterns, tags and tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geossl.data.dates import dates_of_names, dates_of_tags, read_dates
from geossl.data.table import instants
from geossl.errors import UsageError


def read(micros: np.ndarray) -> list[str | None]:
    return [
        None if date is None else date.isoformat(" ").removesuffix("+00:00") for date in instants(micros).to_pylist()
    ]


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("m_4709963_se_14_1_20090818.tif", "2009-08-18 00:00:00"),
        ("m_3809901_se_14_060_20190904_20191118.tif", "2019-09-04 00:00:00"),
        ("S2A_MSIL1C_20170105T013442_N0204_R031_T53NMJ_20170105T013443.jp2", "2017-01-05 01:34:42"),
        ("T53NMJ_20170105T013442_B02.jp2", "2017-01-05 01:34:42"),
        ("LC08_L2SP_039037_20150728_20200908_02_T1_SR_B4.TIF", "2015-07-28 00:00:00"),
        ("LC80390372015209LGN00_B4.TIF", "2015-07-28 00:00:00"),
        ("20200929_182110_ssc1_u0002_analytic.tif", "2020-09-29 18:21:10"),
        ("20180606_151515_0f17_3B_AnalyticMS.tif", "2018-06-06 15:15:15"),
        ("WV02_20110901210434_M1BS.tif", "2011-09-01 21:04:34"),
        ("MOD09GA.A2017006.h08v05.006.2017008033310.tif", "2017-01-06 00:00:00"),
        ("HLS.L30.T10SEH.2021001T183830.v2.0.B04.tif", "2021-01-01 18:38:30"),
        ("scene-2019-09-04.tif", "2019-09-04 00:00:00"),
        ("2019-09-04T10:11:12Z_made_20200101.tif", "2019-09-04 10:11:12"),
        ("1_2016_02_29.tif", "2016-02-29 00:00:00"),
        ("20200604T054639_20200604T054831_T43RCP/B1.tif", "2020-06-04 05:46:39"),
        ("2019-01-01/2020-02-02/B1.tif", "2020-02-02 00:00:00"),
        ("20200929_992110.tif", "2020-09-29 00:00:00"),  # no clock shows 99
        ("20201332_20200929.tif", "2020-09-29 00:00:00"),
        ("20190229.tif", None),
        ("19691231.tif", None),
        ("21010101.tif", None),
        ("2020-13-01.tif", None),
        ("tile_202001011.tif", None),  # nine digits are a number
        ("2020001.tif", None),  # so are seven without MODIS's A
        ("MOD09GA.A2017366.tif", None),
        ("img.tif", None),
    ],
)
def test_names(path, want):
    assert read(dates_of_names([path])) == [want]


def test_patterns():
    def date(pattern: str, path: str) -> str | None:
        return read(dates_of_names([path], pattern))[0]

    assert date("%Y%j", "x_2017006.tif") == "2017-01-06 00:00:00"
    assert date("%Y%j", "m_4709963_se_14_1_20090818.tif") is None
    assert date("%d%b%y", "13JUN16_x.tif") == "2016-06-13 00:00:00"
    assert date("%d.%m.%Y %H-%M", "a/04.09.2019 23-59/b.tif") == "2019-09-04 23:59:00"
    assert date("global_monthly_%Y_%m_mosaic", "global_monthly_2018_07_mosaic_L15.tif") == "2018-07-01 00:00:00"
    assert date("y%Y", "y2012.tif") == "2012-01-01 00:00:00"
    assert date("%Y%m%d", "2012-04-02.tif") is None
    assert date("%%%Y", "%2012.tif") == "2012-01-01 00:00:00"
    for pattern, why in [
        ("%Y%q", "%q is not one of %Y %y"),
        ("%Y%", "% is not one of"),
        ("%m%d", "it has no year"),
        ("%Y%Y", "a directive twice"),
    ]:
        with pytest.raises(UsageError, match=f"--date-pattern {pattern}: .*{why}"):
            date(pattern, "x")


@pytest.mark.parametrize(
    ("texts", "want"),
    [
        (["2020-05-06T07:08:09Z"], "2020-05-06 07:08:09"),
        (["2020-05-06T07:08:09+02:00"], "2020-05-06 05:08:09"),
        (["2020:05:06 07:08:09"], "2020-05-06 07:08:09"),
        (["20200506"], "2020-05-06 00:00:00"),
        (["never", "2020-13-06", "20200506T070809"], "2020-05-06 07:08:09"),
        (["1066-10-14", "0000:00:00 00:00:00"], None),
        ([], None),
    ],
)
def test_tags(texts, want):
    assert read(dates_of_tags([texts])) == [want]


def test_tables(tmp_path: Path):
    source = tmp_path / "dates.csv"
    paths = ["a/1.tif", "b/1.tif", "c.tif", "d.tif"]

    def dates(*rows: str) -> list[str | None]:
        source.write_text("\n".join(rows) + "\n")
        return read(read_dates(source, nulled).of(paths, tmp_path))

    nulled: list[tuple[str, str]] = []
    got = dates("timestamp,path", "2020-01-01,a/1.tif", f"2020-01-02,{tmp_path}/b/1.tif", "2020-01-03 04:05:06,c.tif")
    assert got == ["2020-01-01 00:00:00", "2020-01-02 00:00:00", "2020-01-03 04:05:06", None]
    assert dates("file,when", "1.tif,2020-01-01", "d.tif,soon") == ["2020-01-01 00:00:00"] * 2 + [None] * 2
    assert nulled == [("d.tif", "bad timestamp: soon (--dates)")]
    pd.DataFrame({"path": ["d.tif"], "timestamp": pd.to_datetime(["2020-01-01"])}).to_parquet(tmp_path / "d.parquet")
    assert read(read_dates(tmp_path / "d.parquet", []).of(paths, tmp_path))[3] == "2020-01-01 00:00:00"
    for rows, why in [
        (["path,timestamp", "x.tif,2020-01-01"], r"none of its 1 names \(e.g. x.tif\) is that of an image"),
        (["path,timestamp", "1.tif,2020-01-01", "1.tif,2020-01-02"], "it has two dates of 1.tif"),
        (["path", "1"], "it has one column; give path,timestamp"),
    ]:
        with pytest.raises(UsageError, match=why):
            dates(*rows)
    with pytest.raises(UsageError, match="no such file"):
        read_dates(tmp_path / "none.csv", [])
