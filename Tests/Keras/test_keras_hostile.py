"""Acceptance: hostile and damaged Keras files get a typed error within two seconds, in little memory, and do nothing.

Every file goes through the real daemon, by inspect and compress alike; the daemon runs in a folder of its own, where
what a payload would make would show.
"""

import os

import pytest

import hostile_corpus
import hostile_keras_corpus
from make_hostile_keras import FILES

SECONDS = 2.0
# The network is narrower than the usual minima.
REQUEST = {"recommendation_ratio": 0.5, "options": {"step_size": 1, "min_num_of_value": 1}}


@pytest.mark.parametrize("suffix", hostile_keras_corpus.FORMS)
def test_the_good_file_is_taken(watched_daemon, tmp_path, suffix):
    """Or all that follows would prove nothing."""
    path = tmp_path / f"model{suffix}"
    path.write_bytes(hostile_keras_corpus.good(suffix))
    assert watched_daemon.client.inspect(path).parameters > 0
    output = tmp_path / f"output{suffix}"
    watched_daemon.client.compress(path, output, **REQUEST)
    assert output.stat().st_size < path.stat().st_size


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file(watched_daemon, tmp_path, name):
    watched_daemon.hold(tmp_path, FILES[name], SECONDS, REQUEST, {})
    assert not os.path.exists(hostile_corpus.MARK)


def test_the_corpus_is_large_and_reaches_every_layer():
    assert sum(file.must_fail for file in FILES.values()) >= 400
    for start in ("zip_", "metadata_", "json_", "hdf5_", "hdf5_bytes_", "hdf5_legacy_", "cut_", "noise_"):
        assert sum(name.startswith(start) for name in FILES) > 5, start
