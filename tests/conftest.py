"""Which files come first, and which `make quick` leaves out."""

import pytest

#: Whole runs of the workflow and of training, most of the time of the suite.
SLOW = (
    "test_pipeline",
    "test_sweep",
    "test_dry_runs",
    "test_training_phases",
    "test_compression",
    "test_cluster",
    "test_ranks",
    "test_freq_training",
    "test_benchmarks",
    "test_reruns",
)
#: The longest files first, so that processes that share the suite by file end together.
LONGEST = (*SLOW, "test_same_bits", "test_codec", "test_fuzz", "test_effort", "test_pointwise")


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
