import pytest
import torch

from audiogen_cli.data import manifest, tokens
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.tokens import TokenInfo, Tokens, TokenWriter
from audiogen_cli.errors import InputError

INFO = TokenInfo("abc123", 50.0, 4, 1024)


def codes(frames, seed=0):
    return torch.randint(1024, (4, frames), generator=torch.Generator().manual_seed(seed))


def written(folder, lengths=(7, 1, 12), shard_frames=8):
    writer = TokenWriter(folder, INFO, shard_frames)
    for i, length in enumerate(lengths):
        writer.add(str(folder / f"{i}.wav"), codes(length, i))
    writer.flush()
    clips = [Clip(str(folder / f"{i}.wav"), f"sound {i}", length / 50, "s") for i, length in enumerate(lengths)]
    manifest.write(folder / manifest.NAME, clips, force=True)
    return clips


def test_codes_come_back_as_they_were_whatever_the_shards(tmp_path):
    clips = written(tmp_path)
    found = Tokens(tmp_path)
    assert found.clips == clips and found.info == INFO and len(list(tmp_path.glob("tokens-*.safetensors"))) == 2
    for i, length in enumerate((7, 1, 12)):
        assert torch.equal(found.codes(i), codes(length, i)) and found.frames(i) == length
    assert torch.equal(found.codes(2, start=3, frames=5), codes(12, 2)[:, 3:8])
    assert found.codes(2, start=10, frames=5).shape == (4, 2)


def test_a_second_run_goes_on_and_an_unflushed_one_leaves_a_valid_index(tmp_path):
    written(tmp_path)
    writer = TokenWriter(tmp_path, INFO, 8)
    assert set(writer.done) == {str(tmp_path / f"{i}.wav") for i in range(3)}
    writer.add(str(tmp_path / "3.wav"), codes(3, 3))  # stopped before the shard was full
    assert len(Tokens(tmp_path)) == 3
    writer.flush()
    manifest.write(
        tmp_path / manifest.NAME, [*Tokens(tmp_path).clips, Clip(str(tmp_path / "3.wav"), "x", 0.06, "s")], force=True
    )
    assert torch.equal(Tokens(tmp_path).codes(3), codes(3, 3))


def test_codes_of_another_codec_are_not_mixed_in(tmp_path):
    written(tmp_path)
    with pytest.raises(InputError, match="another codec"):
        TokenWriter(tmp_path, TokenInfo("def456", 50.0, 4, 1024))
    with pytest.raises(InputError, match="16 bits"):
        TokenWriter(tmp_path / "new", TokenInfo("abc123", 50.0, 4, 2**16))


def test_missing_and_damaged_files_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="audiolm prepare"):
        Tokens(tmp_path)
    written(tmp_path)
    (tmp_path / "tokens-00000.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="--force"):
        Tokens(tmp_path).codes(0)
    (tmp_path / tokens.INDEX).write_text("{")
    with pytest.raises(InputError, match="--force"):
        Tokens(tmp_path)
