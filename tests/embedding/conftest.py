"""Fixtures of the embedding tests."""

from pathlib import Path

import pytest
from embedding_data import BATCH, make_index, make_run

from geossl.embedding.embed import embed


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder."""
    return make_run(tmp_path_factory.mktemp("encoder") / "run")


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 60 images, not to be changed."""
    return make_index(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def features(run: Path, index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embeddings of `index`, in several row groups."""
    out = tmp_path_factory.mktemp("features") / "features.parquet"
    with pytest.MonkeyPatch.context() as patch:
        from embedding_data import small_pieces

        small_pieces(patch)
        embed(run, data=index, out=out, batch=BATCH, device="cpu", threads=2)
    return out
