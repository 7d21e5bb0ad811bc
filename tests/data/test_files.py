import errno

import pytest

from audiogen_cli.data.files import check_output, replacing
from audiogen_cli.errors import OutputError


def test_a_file_appears_only_when_its_block_ends_well(tmp_path):
    path = tmp_path / "sound.bin"
    with replacing(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_interrupted_write_leaves_nothing_new_and_keeps_what_was_there(tmp_path, error):
    path = tmp_path / "sound.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path, force=True) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("code", "word"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied")])
def test_what_the_disk_refuses_is_one_sentence_and_no_file(tmp_path, code, word):
    with pytest.raises(OutputError, match=word), replacing(tmp_path / "a.wav"):
        raise OSError(code, "told by the system")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_needs_force(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"):
        check_output(tmp_path / "a.wav")
    assert check_output(tmp_path / "a.wav", force=True) == (tmp_path / "a.wav").resolve()


def test_places_that_cannot_be_written_are_named_before_any_work(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path, force=True)
    with pytest.raises(OutputError, match="does not exist"):
        check_output(tmp_path / "no" / "a.wav")
    with pytest.raises(OutputError, match="not a folder"):
        check_output(tmp_path / "file" / "a.wav")
    with pytest.raises(OutputError, match="device"):
        check_output("/dev/null", force=True)
    with pytest.raises(OutputError, match="too long"):
        check_output(tmp_path / ("a" * 300))
    with pytest.raises(OutputError):
        check_output(tmp_path / "a\0b")


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "real.wav").write_bytes(b"old")
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    with replacing(tmp_path / "link.wav", force=True) as file:
        file.write(b"new")
    assert (tmp_path / "link.wav").is_symlink()
    assert (tmp_path / "real.wav").read_bytes() == b"new"
