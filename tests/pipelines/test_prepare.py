import pytest
import torch

from audiogen_cli.data import audio, manifest
from audiogen_cli.data.tokens import Tokens
from audiogen_cli.errors import InputError, OutputError
from audiogen_cli.models.codec import Codec
from audiogen_cli.pipelines import prepare as pipeline
from audiogen_cli.pipelines.prepare import encode, prepare


class LoudnessCodec(Codec):
    """Codes are the mean level of each 10 ms, in two books; enough to see what went in."""

    sample_rate, channels, hop_length, num_codebooks, codebook_size = 1000, 1, 10, 2, 100
    encoder_context = 0

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(2, 100, 1))
        self.calls = 0

    def encode(self, waveform, num_codebooks=None):
        self.calls += 1
        frames = self.num_frames(waveform.shape[-1])
        padded = torch.nn.functional.pad(waveform, (0, frames * 10 - waveform.shape[-1]))
        level = padded.reshape(len(waveform), frames, 10).abs().mean(dim=2).mul(99).round().long()
        return torch.stack([level, 99 - level], dim=1)

    def codebooks(self):
        return self.table


def finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        place = tmp_path / "in" / f"place {i // 2}"
        place.mkdir(parents=True, exist_ok=True)
        audio.write(place / f"dog_bark_{i}.wav", torch.full((2, 200 + 10 * i), 0.1 * i), 2000)
    (tmp_path / "in" / "place 0" / "broken_bird.wav").write_text("no sound")
    return tmp_path / "in"


def test_a_folder_becomes_manifest_and_tokens(folder, tmp_path):
    codec = LoudnessCodec()
    summary = finish(prepare(folder, tmp_path / "out", codec=codec))
    assert (summary.clips, len(summary.problems)) == (6, 1) and "not a sound file" in summary.problems[0].reason
    clips = manifest.read(summary.manifest)
    assert [c.caption for c in clips] == ["dog bark"] * 6 and {c.source for c in clips} == {
        f"place {i}" for i in range(3)
    }
    assert clips[3].seconds == pytest.approx(0.115) and summary.seconds == pytest.approx(sum(c.seconds for c in clips))
    tokens = Tokens(tmp_path / "out")
    assert len(tokens) == 6 and summary.frames == sum(tokens.frames(i) for i in range(6))
    for i in range(6):
        waveform = audio.read(clips[i].path, 1000, 1).waveform
        assert torch.equal(tokens.codes(i), codec.encode(waveform[None])[0])


def test_a_second_run_reads_only_what_is_new(folder, tmp_path):
    codec = LoudnessCodec()
    first = finish(prepare(folder, tmp_path / "out", codec=codec))
    calls, before = codec.calls, (tmp_path / "out" / "manifest.jsonl").read_bytes()
    assert finish(prepare(folder, tmp_path / "out", codec=codec))[1:6] == first[1:6]
    assert codec.calls == calls and (tmp_path / "out" / "manifest.jsonl").read_bytes() == before
    audio.write(folder / "place 0" / "cat_meow.wav", torch.zeros(1, 500), 1000)
    assert finish(prepare(folder, tmp_path / "out", codec=codec)).clips == 7 and codec.calls == calls + 1


def test_a_stopped_run_keeps_what_it_did(folder, tmp_path):
    codec = LoudnessCodec()
    steps = prepare(folder, tmp_path / "out", codec=codec)
    for _ in range(4):
        next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    calls = codec.calls
    assert len(Tokens(tmp_path / "out")) == calls
    finish(prepare(folder, tmp_path / "out", codec=codec))
    assert codec.calls == 6 and len(Tokens(tmp_path / "out")) == 6


def test_force_starts_anew_and_another_codec_needs_it(folder, tmp_path):
    codec = LoudnessCodec()
    finish(prepare(folder, tmp_path / "out", codec=codec))
    other = LoudnessCodec()
    other.table.data += 1
    with pytest.raises(InputError, match="--force"):
        finish(prepare(folder, tmp_path / "out", codec=other))
    finish(prepare(folder, tmp_path / "out", codec=other, force=True))
    assert other.calls == 6 and Tokens(tmp_path / "out").info == pipeline.token_info(other)


def test_without_a_codec_there_is_only_the_manifest_and_bad_files_are_still_found(folder, tmp_path):
    audio.write(folder / "place 0" / "not_a_number.wav", torch.tensor([[0.0, float("nan")]]), 1000, "float")
    summary = finish(prepare(folder, tmp_path / "out"))
    assert summary.clips == 6 and len(summary.problems) == 2 and summary.frames == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]


def test_sources_are_held_out_whole_or_as_the_table_says(folder, tmp_path):
    summary = finish(prepare(folder, tmp_path / "out", fraction=0.3))
    valid = manifest.select(manifest.read(summary.manifest), "valid")
    assert len({c.source for c in valid}) == 1 and len(valid) == 2
    (folder / "list.csv").write_text(
        "file,caption,split\nplace 1/dog_bark_2.wav,dog,valid\nplace 1/dog_bark_3.wav,dog,train\n"
    )
    summary = finish(prepare(folder, tmp_path / "out2", captions=folder / "list.csv", fraction=0.3))
    assert [c.split for c in manifest.read(summary.manifest)] == ["valid", "train"]


def test_when_every_file_is_bad_it_is_an_error_and_so_is_a_place_that_cannot_be(folder, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a_dog.wav").write_text("no")
    with pytest.raises(InputError, match="none of 1 recordings"):
        finish(prepare(tmp_path / "bad", tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(OutputError, match="is a file"):
        finish(prepare(folder, tmp_path / "bad" / "a_dog.wav"))
    with pytest.raises(OutputError, match="does not exist"):
        finish(prepare(folder, tmp_path / "no" / "out"))


def test_long_recordings_are_encoded_in_steps_that_fit_together():
    codec = LoudnessCodec()
    waveform = torch.rand(1, 65_003)
    assert torch.equal(encode(codec, waveform), codec.encode(waveform[None])[0])
    assert codec.calls == 1 + 14  # the whole, and steps of 500 frames
