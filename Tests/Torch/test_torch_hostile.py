"""Acceptance: hostile and damaged PyTorch files get a typed error within a second, in little memory, and do nothing.

Every file goes through the real daemon, by inspect and compress alike; the daemon runs in a folder of its own, where
what a payload would make would show.
"""

import os

import pytest

import hostile_corpus
from make_hostile import FILES

SECONDS = 1.0
# The network is narrower than the usual minima.
REQUEST = {
    "recommendation_ratio": 0.5,
    "options": {"step_size": 1, "min_num_of_value": 1},
    "input_shapes": [{"shape": hostile_corpus.SHAPE}],
}
INPUTS = [{"shape": hostile_corpus.SHAPE}]


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_the_good_file_is_taken(watched_daemon, tmp_path, suffix):
    """Or all that follows would prove nothing."""
    path = tmp_path / f"model{suffix}"
    path.write_bytes(hostile_corpus.good(suffix))
    assert watched_daemon.client.inspect(path, input_shapes=INPUTS).parameters > 0
    output = tmp_path / f"output{suffix}"
    watched_daemon.client.compress(path, output, **REQUEST)
    assert output.stat().st_size < path.stat().st_size


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file(watched_daemon, tmp_path, name):
    watched_daemon.hold(tmp_path, FILES[name], SECONDS, REQUEST, {"input_shapes": INPUTS})
    assert not os.path.exists(hostile_corpus.MARK)


def test_the_corpus_is_large_and_reaches_every_layer():
    assert sum(file.must_fail for file in FILES.values()) >= 200
    starts = (
        "zip_",
        "pickle_",
        "pickle_code_",
        "pickle_imports_",
        "pickle_weight_",
        "json_",
        "json_weights_",
        "samples_",
    )
    for start in starts:
        assert sum(name.startswith(start) for name in FILES) > 1, start
