import json

import numpy as np
import pytest

from hissbt.atomic import atomic_file, atomic_folder, to_json, write_json


def _fail_after_writing(path):
    path.write_text("half")
    (path.parent / "absent").read_text()


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "note.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_file(path) as temporary:
        _fail_after_writing(temporary)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_keeps_the_suffix_that_writers_go_by(tmp_path):
    with atomic_file(tmp_path / "bars.parquet") as temporary:
        assert temporary.suffix == ".parquet"


def test_a_folder_replaces_the_one_before_as_a_whole(tmp_path):
    path = tmp_path / "bundle"
    for name in ("first", "second"):
        with atomic_folder(path) as temporary:
            (temporary / name).write_text(name)
    assert [file.name for file in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "bundle"
    with atomic_folder(path) as temporary:
        (temporary / "weights").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_folder(path) as temporary:
        _fail_after_writing(temporary / "weights")
    assert (path / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_strict_whatever_the_numbers_are(tmp_path):
    value = {"nan": float("nan"), "inf": [np.float64("inf"), -np.inf], "one": np.int64(1), 2: (True, None, "x")}
    write_json(tmp_path / "value.json", value)
    text = (tmp_path / "value.json").read_text()
    assert json.loads(text) == {"nan": None, "inf": [None, None], "one": 1, "2": [True, None, "x"]}


def test_json_refuses_what_it_cannot_hold():
    with pytest.raises(TypeError):
        to_json({"set": {1, 2}})
