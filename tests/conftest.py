"""The longest files come first, so that processes that share the suite by file end together."""

LONGEST = (
    "test_pipeline",
    "test_sweep",
    "test_dry_runs",
    "test_training_phases",
    "test_compression",
    "test_cluster",
    "test_same_bits",
    "test_ranks",
    "test_codec",
    "test_pointwise",
    "test_base_model",
)


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))
