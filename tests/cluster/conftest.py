"""What tests of the cluster room share: a corpus, and one Ray cluster for all tests of a process."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_corpus import rows_of, write_lines


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[[int], Path]:
    """A file of so many sound texts."""
    return lambda count: write_lines(tmp_path / "texts.jsonl", rows_of(count))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A cluster of two cores here."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from jaspertc.cluster.session import require_ray

    ray = require_ray()
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 << 20,
    )
    yield ray
    ray.shutdown()
