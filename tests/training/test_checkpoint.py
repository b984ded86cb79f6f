"""Checkpoints hold what Lightning needs, without pickle."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hissbt.errors import TrainingError
from hissbt.training.checkpoint import SafeCheckpointIO, _decode, _encode

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back_with_their_types(value):
    assert _decode(_encode(value, {}), {}) == value


def test_tensors_come_back_with_shape_and_type_even_if_they_share_memory(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    checkpoint = {"state": {0: shared, 1: shared.T}, "step": torch.tensor(3, dtype=torch.int64)}
    store = SafeCheckpointIO()
    store.save_checkpoint(checkpoint, tmp_path / "c.ckpt")
    loaded = store.load_checkpoint(tmp_path / "c.ckpt")
    torch.testing.assert_close(loaded["state"][0], shared)
    torch.testing.assert_close(loaded["state"][1], shared.T)
    assert loaded["step"].dtype == torch.int64


def test_an_object_that_only_pickle_could_hold_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="cannot hold a object"):
        SafeCheckpointIO().save_checkpoint({"x": object()}, tmp_path / "c.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_refused(tmp_path):
    store = SafeCheckpointIO()
    store.save_checkpoint({"x": torch.ones(3)}, tmp_path / "c.ckpt")
    (tmp_path / "c.ckpt" / "checkpoint.json").write_text("{")
    with pytest.raises(TrainingError, match="damaged"):
        store.load_checkpoint(tmp_path / "c.ckpt")
