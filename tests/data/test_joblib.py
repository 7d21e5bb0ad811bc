import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from audiogen_cli.data import joblib
from audiogen_cli.errors import InputError


class Estimator:
    """What scikit-learn's would be: an object with arrays and settings."""

    def __init__(self) -> None:
        self.n_clusters = 3
        self.cluster_centers_ = np.arange(12, dtype=np.float32).reshape(3, 4)
        self.turned_ = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        self.labels_ = np.arange(5, dtype=np.int32)


def test_arrays_come_back_as_joblib_wrote_them(tmp_path: Path) -> None:
    theirs, estimator = pytest.importorskip("joblib"), Estimator()
    theirs.dump(estimator, tmp_path / "km.bin")
    found = joblib.read(tmp_path / "km.bin")
    assert found["n_clusters"] == 3
    for name in ("cluster_centers_", "turned_", "labels_"):
        assert found[name].dtype == getattr(estimator, name).dtype
        np.testing.assert_array_equal(found[name], getattr(estimator, name))


class Harm:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (Path("harmed"), "x")


def test_nothing_in_the_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("km.bin").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(InputError, match="holds no saved estimator"):
        joblib.read("km.bin")
    assert not Path("harmed").exists()


def test_what_is_no_joblib_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "km.bin").write_bytes(b"RIFF and so on")
    with pytest.raises(InputError, match="save it again"):
        joblib.read(tmp_path / "km.bin")
    with pytest.raises(InputError, match="check the path"):
        joblib.read(tmp_path / "none.bin")


def test_a_pickle_of_objects_in_arrays_is_refused() -> None:
    record = joblib.Record("O8", False, True)
    with pytest.raises(ValueError, match="type O8"):
        joblib._array(io.BytesIO(b""), {"dtype": record, "shape": (1,), "order": "C"})
