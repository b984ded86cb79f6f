"""Outputs are computed once, and again as soon as anything that they depend on has changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import random_bundle

from hissbt.stream import Stream, cached_scan
from hissbt.stream import cache as cache_module


@pytest.fixture(scope="module")
def rows(hourly_bars) -> np.ndarray:
    once = hourly_bars[:1000].arrays()
    rows = np.concatenate([once] * 10)
    rows[:, 0] = once[0, 0] + 3600.0 * np.arange(len(rows))
    return rows


@pytest.fixture(scope="module")
def bundle(hourly_bars):
    return random_bundle(hourly_bars[:300])


@pytest.fixture
def entry(rows, bundle, tmp_path, monkeypatch) -> Path:
    """The entry of these rows and this bundle, exchanged for a mark, so that one sees when it is read."""
    monkeypatch.setenv("HISSBT_CACHE", str(tmp_path))
    cached_scan(Stream(bundle), rows)
    (path,) = cache_module.cache_folder().iterdir()
    cache_module._write(path, np.full((len(rows), 3), 7.0))
    return path


def is_read(bundle, rows, *rule) -> bool:
    return bool((cached_scan(Stream(bundle, *rule), rows) == 7.0).all())


def test_the_same_model_over_the_same_bars_is_read(entry, bundle, rows):
    assert is_read(bundle, rows)


def test_what_is_read_is_what_was_computed(rows, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("HISSBT_CACHE", str(tmp_path))
    first = cached_scan(Stream(bundle), rows)
    np.testing.assert_array_equal(cached_scan(Stream(bundle), rows), first)
    np.testing.assert_array_equal(Stream(bundle).scan(rows), first)


@pytest.mark.parametrize("column", range(6))
def test_one_changed_bit_of_the_bars_is_computed_again(entry, bundle, rows, column):
    changed = rows.copy()
    changed[-1, column] = np.nextafter(changed[-1, column], np.inf)
    assert not is_read(bundle, changed)


def test_one_changed_bit_of_the_weights_is_computed_again(entry, bundle, rows):
    weights = dict(bundle.weights)
    name = sorted(weights)[0]
    weights[name] = weights[name].copy()
    weights[name].flat[0] = np.nextafter(weights[name].flat[0], np.float32(np.inf))
    assert not is_read(replace(bundle, weights=weights), rows)


def test_another_scale_of_the_targets_is_computed_again(entry, bundle, rows):
    assert not is_read(replace(bundle, target_scale={**bundle.target_scale, "return_mean": 0.5}), rows)


def test_another_reset_rule_is_computed_again(entry, bundle, rows):
    assert not is_read(bundle, rows, "session")
    assert not is_read(bundle, rows, None, True)
    first, last = rows[[0, -1], 0]
    assert not is_read(bundle, rows, None, False, [first])
    assert is_read(bundle, rows, None, False, [last, last + 86_400])  # sessions to come


@pytest.mark.parametrize("module", ["features", "targets", "kernels", "networks", "plan"])
def test_one_changed_byte_of_the_code_is_computed_again(entry, bundle, rows, module, tmp_path, monkeypatch):
    code = getattr(cache_module, module)
    edited = tmp_path / "edited.py"
    edited.write_bytes(Path(code.__file__).read_bytes() + b"#")
    monkeypatch.setattr(code, "__file__", str(edited))
    cache_module.stream_version.cache_clear()
    try:
        assert not is_read(bundle, rows)
    finally:
        cache_module.stream_version.cache_clear()


@pytest.mark.parametrize("at", [0, 60, -1])
def test_a_damaged_entry_is_computed_again(entry, bundle, rows, at):
    damaged = bytearray(entry.read_bytes())
    damaged[at] ^= 1
    entry.write_bytes(damaged)
    assert not is_read(bundle, rows)
    np.testing.assert_array_equal(cached_scan(Stream(bundle), rows), Stream(bundle).scan(rows))


def test_few_bars_leave_no_entry(bundle, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("HISSBT_CACHE", str(tmp_path))
    cached_scan(Stream(bundle), rows[:500])
    assert list(tmp_path.iterdir()) == []


def test_the_entries_used_longest_ago_go_first(rows, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("HISSBT_CACHE", str(tmp_path))
    cached_scan(Stream(bundle), rows)
    (old,) = cache_module.cache_folder().iterdir()
    monkeypatch.setattr(cache_module, "MOST_BYTES", old.stat().st_size + 1)
    cached_scan(Stream(bundle), rows * np.array([1, 2, 2, 2, 2, 1]))
    (left,) = cache_module.cache_folder().iterdir()
    assert left != old


def test_a_cache_that_cannot_be_written_costs_only_time(rows, bundle, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HISSBT_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(cached_scan(Stream(bundle), rows), Stream(bundle).scan(rows))
