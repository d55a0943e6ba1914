import pytest
from search_fakes import FakeEmbedder

from jaspertc.search.index import SearchIndex


@pytest.fixture
def embedder():
    return FakeEmbedder()


@pytest.fixture
def index(tmp_path, embedder):
    with SearchIndex.create_or_open(tmp_path / "a.db", embedder) as opened:
        yield opened
