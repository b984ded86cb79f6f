"""A relay speaks with the voice of the model in charge, and works wherever a bundle works."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle, random_relay

from hissbt.errors import BundleError, StreamError
from hissbt.relay import Part, RelayBundle, load_model, parts_of
from hissbt.stream import RelayStream, Stream, cached_scan, open_stream

BORDERS = (50, 51, 120)  # bars whose closes begin the turns of the parts after the first
WARMUP = 20


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars[:150]


@pytest.fixture(scope="module")
def rows(bars):
    return bars.arrays()


@pytest.fixture(scope="module")
def relay(bars) -> RelayBundle:
    return random_relay(bars, BORDERS)


@pytest.fixture(scope="module")
def whole(relay, rows):
    return open_stream(relay).scan(rows)


def test_at_each_bar_the_model_in_charge_speaks_warm_from_its_first_bar_on(relay, rows, whole):
    turns = [0, *BORDERS, len(rows)]
    for part, first, stop in zip(relay.parts, turns, turns[1:], strict=False):
        own = Stream(part.bundle).scan(rows[max(0, first - WARMUP + 1) : stop])
        np.testing.assert_array_equal(whole[first:stop], own[-(stop - first) :])


def test_with_rewarm_a_model_is_warm_at_the_first_bar_of_its_turn(relay, rows):
    lines = RelayStream(relay, rewarm=True).scan(rows)
    assert np.isnan(lines).all(axis=1).nonzero()[0].tolist() == list(range(WARMUP - 1))


def test_a_scan_is_as_many_steps(relay, rows, whole):
    stream = open_stream(relay)
    np.testing.assert_array_equal([stream.step(row) for row in rows], whole)


@pytest.mark.parametrize("cut", [1, 49, 50, 51, 52, 100, 120, 121])
def test_a_scan_in_two_parts_is_one(relay, rows, whole, cut):
    stream = open_stream(relay)
    np.testing.assert_array_equal(np.vstack([stream.scan(rows[:cut]), stream.scan(rows[cut:])]), whole)


@pytest.mark.parametrize("cut", range(48, 54))
def test_a_snapshot_goes_on_across_a_border(relay, rows, whole, cut):
    stream = open_stream(relay)
    stream.scan(rows[:cut])
    other = open_stream(relay)
    other.scan(rows[:130])  # it is in another turn, and forgets it
    other.restore(stream.snapshot())
    np.testing.assert_array_equal(other.scan(rows[cut:]), whole[cut:])


@pytest.mark.parametrize("bar", [0, 30, 49, 50, 51, 52, 120])
def test_a_bar_that_is_revised_counts_once(relay, rows, whole, bar):
    stream = open_stream(relay)
    stream.scan(rows[:bar])
    forming = rows[bar].copy()
    forming[4] *= 1.01
    stream.step(forming)
    np.testing.assert_array_equal(stream.revise(rows[bar]), whole[bar])
    np.testing.assert_array_equal(stream.scan(rows[bar + 1 :]), whole[bar + 1 :])


def test_a_bar_that_forms_across_a_border_is_its_next_models(relay, rows, whole):
    stream = open_stream(relay)
    stream.scan(rows[:50])
    forming = rows[50].copy()
    forming[0] -= 1800.0
    stream.step(forming)
    np.testing.assert_array_equal(stream.revise(rows[50]), whole[50])
    np.testing.assert_array_equal(stream.scan(rows[51:]), whole[51:])
    backward = open_stream(relay)
    backward.scan(rows[:51])
    with pytest.raises(StreamError, match="never moves back"):
        backward.revise(forming)


def test_after_a_reset_it_begins_anew(relay, rows, whole):
    stream = open_stream(relay)
    stream.scan(rows)
    stream.reset()
    np.testing.assert_array_equal(stream.scan(rows), whole)


def test_of_bars_with_one_bad_none_is_taken(relay, rows, whole):
    stream = open_stream(relay)
    bad = rows.copy()
    bad[100, 4] = np.nan
    with pytest.raises(StreamError, match="no finite close"):
        stream.scan(bad)
    with pytest.raises(StreamError, match="does not come after"):
        stream.scan(rows[[3, 2]])
    np.testing.assert_array_equal(stream.scan(rows), whole)
    with pytest.raises(StreamError, match="does not come after"):
        stream.step(rows[-1])
    with pytest.raises(StreamError, match="no bar to revise"):
        open_stream(relay).revise(rows[0])


def test_the_snapshot_of_another_relay_is_refused(relay, bars, rows):
    other = open_stream(random_relay(bars, borders=(60,)))
    with pytest.raises(StreamError, match="another bundle"):
        other.restore(open_stream(relay).snapshot())


def test_regimes_are_in_the_same_order_in_every_model(bars, rows):
    relay = random_relay(bars, kind="m-gru", borders=(60,))
    relay.parts[1].bundle.metrics["regime_returns"] = [0.2, -0.1]
    lines = open_stream(relay, regimes=True).scan(rows)
    own = Stream(relay.parts[1].bundle, regimes=True).scan(rows[60 - WARMUP + 1 :])[WARMUP - 1 :]
    np.testing.assert_array_equal(lines[60:], own[:, [0, 1, 2, 4, 3]])


def test_the_cache_tells_relays_apart(relay, bars, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("HISSBT_CACHE", str(tmp_path))
    monkeypatch.setattr("hissbt.stream.cache.FEWEST_BARS", 1)
    for each in (relay, relay, random_relay(bars, borders=(60,))):
        np.testing.assert_array_equal(cached_scan(open_stream(each), rows), open_stream(each).scan(rows))
    assert len(list((tmp_path / "outputs").iterdir())) == 2


# --- the folder


@pytest.fixture
def folder(relay, tmp_path):
    relay.save(tmp_path / "relay")
    return tmp_path / "relay"


def test_what_is_saved_is_what_is_loaded(relay, folder, rows, whole):
    loaded = load_model(folder)
    assert loaded.sha256 == relay.sha256
    assert loaded.embargo == relay.embargo
    assert [part.since for part in loaded.parts] == [part.since for part in relay.parts]
    np.testing.assert_array_equal(open_stream(loaded).scan(rows), whole)
    assert len(parts_of(loaded)) == len(BORDERS) + 1
    relay.save(folder)  # in place of the one that is there
    assert load_model(folder, "hiss").sha256 == relay.sha256


def test_a_bundle_is_loaded_as_a_bundle(relay, tmp_path):
    bundle = relay.parts[0].bundle
    bundle.save(tmp_path / "bundle")
    assert load_model(tmp_path / "bundle").sha256 == bundle.sha256
    assert parts_of(bundle) == (bundle,)


def test_damage_is_noticed(relay, folder):
    text = (folder / "relay.json").read_text()
    content = json.loads(text)

    def refused(altered, match):
        (folder / "relay.json").write_text(altered if isinstance(altered, str) else json.dumps(altered))
        with pytest.raises(BundleError, match=match):
            load_model(folder)

    refused("{", "does not describe a relay")
    refused(content | {"embargo": -1}, "does not describe")
    refused(content | {"embargo": 1}, "was altered")
    refused(content | {"schema_version": 9}, "schema version 9")
    rows = [row | {"folder": "../elsewhere"} for row in content["parts"]]
    refused(content | {"parts": rows}, "does not describe")
    (folder / "relay.json").write_text(text)
    relay.parts[0].bundle.save(folder / "part-002")
    with pytest.raises(BundleError, match="another one's"):
        load_model(folder)
    relay.save(folder)
    with pytest.raises(BundleError, match="kind 'lstm'"):
        load_model(folder, "lstm")


def test_nothing_else_is_overwritten(relay, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BundleError, match="no relay"):
        relay.save(tmp_path / "mine")
    with pytest.raises(BundleError, match="is a file"):
        relay.save(tmp_path / "mine" / "letter.txt")


# --- what a relay must be like


def changed(relay, number, **fields) -> tuple[Part, ...]:
    parts = list(relay.parts)
    parts[number] = Part(fields.pop("since", parts[number].since), replace(parts[number].bundle, **fields))
    return tuple(parts)


@pytest.mark.parametrize(
    "fields",
    [{"horizon": 2}, {"timeframe": "4h"}, {"kind": "lstm"}, {"symbol": "X"}, {"targets": ("return",)}],
    ids=str,
)
def test_parts_must_be_alike(relay, fields):
    with pytest.raises(BundleError, match=f"has {next(iter(fields))}"):
        RelayBundle(changed(relay, 2, **fields), 0)


def test_turns_ascend(relay):
    with pytest.raises(BundleError, match="does not come after"):
        RelayBundle(relay.parts[::-1], 0)
    with pytest.raises(BundleError, match="without parts"):
        RelayBundle((), 0)


def test_no_model_has_seen_its_turn_or_the_embargo_before_it(relay, bars):
    after = bars.frame.index[BORDERS[1] + 1].isoformat()
    with pytest.raises(BundleError, match="reaches into its turn"):
        RelayBundle(changed(relay, 2, training_span={"start": after, "end": after}), 0)
    with pytest.raises(BundleError, match="embargo of 1 bars"):
        RelayBundle(relay.parts, 1)
    assert random_relay(bars, BORDERS, embargo=3).embargo == 3
    with pytest.raises(BundleError, match="embargo of 4 bars"):
        RelayBundle(random_relay(bars, BORDERS, embargo=3).parts, 4)


def test_latents_are_not_handed_over(bars):
    with pytest.raises(BundleError, match="use forecasters"):
        RelayBundle(
            (Part(pd.Timestamp("2030-01-01", tz="UTC"), replace(random_bundle(bars, kind="hvae"), targets=())),), 0
        )
