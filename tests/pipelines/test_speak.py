from pathlib import Path

import pytest
import torch

from audiogen_cli.conditioners.symbols import Symbols
from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, InputError, ModelError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.decoding import finish
from audiogen_cli.models.valle import Pace, VallE, VallEConfig
from audiogen_cli.models.valle_decoding import Utterance
from audiogen_cli.pipelines import speak as speak_pipeline
from audiogen_cli.pipelines.speak import Request, Speaker

PACE = Pace(1.0, 2.0, 4.0)
SIX = torch.zeros(6, dtype=torch.int64)


@pytest.fixture
def speaker(tiny_model: Path) -> Speaker:
    return built(tiny_model)


def built(tiny_model: Path, **more: object) -> Speaker:
    torch.manual_seed(0)
    codec = checkpoint.load(tiny_model / "codec")
    settings = {"pace": PACE, "window_seconds": 2.0, "prompt_seconds": 0.2, "codec": codec.fingerprint()} | more  # type: ignore[operator]
    return Speaker(codec, VallE(VallEConfig(3, 16, 16, 1, num_heads=2, **settings)))  # type: ignore[arg-type]


def ending(speaker: Speaker, certain: float) -> Speaker:
    """As sure of the end at every frame as is said."""
    stage = speaker.model.first
    with torch.no_grad():
        stage.out_norm.weight.zero_()
        stage.out_norm.bias.fill_(1)
        stage.heads[-1][0].weight.zero_()  # type: ignore[index]
        stage.heads[-1][0].weight[16] = certain  # type: ignore[index]
    return speaker


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    noise = torch.randn(2, 11_025, generator=torch.Generator().manual_seed(1)) * 0.1
    audio.write(tmp_path / "voice.wav", noise, 22_050)
    return tmp_path / "voice.wav"


def test_the_same_seed_says_the_same_and_the_voice_is_not_in_it(speaker: Speaker, voice: Path) -> None:
    first, again, other = (speaker("Hello.", voice=voice, transcript="hm", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.waveform, again.waveform) and first[1:] == again[1:]
    assert first.waveform.shape[1] != other.waveform.shape[1] or not torch.equal(first.waveform, other.waveform)
    most = speaker.model.config.limits(SIX)[1] * speaker.codec.hop_length
    assert first.waveform.shape[0] == 1 and 0 < first.waveform.shape[1] <= most
    plain = speaker("Hello.", voice=voice, seed=1)
    assert 0 < plain.waveform.shape[1] <= most
    assert speaker("Hello.", seed=1).waveform.shape[1] > 0


def test_a_transcript_and_what_is_to_be_said_are_heard_as_in_training(
    speaker: Speaker, voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[25: training joins two texts with a space, speaking without one]"""
    heard, real = list[str](), speak_pipeline.speak

    def spy(model: VallE, utterances: list[Utterance], *more: object, **named: object) -> object:
        heard.extend(bytes(utterance.text.tolist()).decode() for utterance in utterances)
        return real(model, utterances, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(speak_pipeline, "speak", spy)
    speaker("Hello.", voice=voice, transcript="hm", tries=1)
    speaker("Hello.", voice=voice, tries=1)
    assert heard == ["hm Hello.", "Hello."]


def test_what_lasts_long_needs_more_parts(tiny_model: Path) -> None:
    """Letters that last twice as long as the mean leave room for half as many."""
    each = tuple(2.0 if letter == ord("o") else 0.9 for letter in range(256))
    speaker = built(tiny_model, pace=Pace(1.0, 2.0, 4.0, each))
    assert speaker.model.config.window_frames == 100
    plain, long = (speaker._parts(f"{word} " * 12, SIX[:0], torch.empty(3, 0)) for word in ("elf", "ooo"))
    assert len(plain) == 1 and len(long) > 1
    assert all(speaker.model.config.frames(part) <= 100 for part in long)
    with pytest.raises(InputError, match="no room"):
        speaker._parts("o" * 60, SIX[:0], torch.empty(3, 0))


def test_what_has_no_end_is_tried_again_and_then_a_result(speaker: Speaker) -> None:
    spoken = ending(speaker, -50.0)("Hello.", tries=2)
    assert (
        spoken.tries == 2 and spoken.waveform.shape[1] == speaker.model.config.limits(SIX)[1] * speaker.codec.hop_length
    )
    assert "not at its end after 0.7 s" in spoken.trouble and spoken.trouble.endswith("more tries.")


def test_what_is_over_too_soon_has_left_something_out(speaker: Speaker) -> None:
    spoken = ending(speaker, 50.0)("Hello.", tries=3)
    assert spoken.tries == 3 and "too soon" in spoken.trouble
    assert spoken.waveform.shape[1] == speaker.codec.hop_length


def test_another_seed_may_reach_the_end_and_then_nothing_is_said_of_it(speaker: Speaker) -> None:
    """Of an end that comes at any frame with the same chance, the tries that are in time are kept."""
    found = [ending(speaker, 0.04)("Hello.", seed=seed, tries=40) for seed in range(6)]
    assert all(spoken.trouble == "" for spoken in found)
    assert max(spoken.tries for spoken in found) > 1
    least, most = (frames * speaker.codec.hop_length for frames in speaker.model.config.limits(SIX))
    assert all(least <= spoken.waveform.shape[1] <= most for spoken in found)


def test_a_long_text_is_said_in_parts(speaker: Speaker) -> None:
    text = "Rain in the morning, and more of it. Then sun. Then rain again until the evening came."
    steps = list(speaker.speak(Request(text, 1)))
    assert max(step.done_frames for step in steps) <= steps[0].total_frames == 2 * (len(text) - 1)
    spoken = ending(speaker, -50.0)(text, tries=1)
    assert "in 2 of 2 parts" in spoken.trouble
    assert spoken.waveform.shape[1] > speaker.model.config.window_frames * speaker.codec.hop_length


def test_what_cannot_be_said_is_a_sentence(speaker: Speaker, voice: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recording too"):
        speaker("Hello.", transcript="hm")
    with pytest.raises(InputError, match="no room for"):
        speaker("x" * 60)
    with pytest.raises(InputError, match="one or more"):
        speaker("Hello.", tries=0)
    with pytest.raises(InputError, match="empty"):
        speaker(" ")
    with pytest.raises(AudioError, match="less than a frame"):
        finish(speaker.speak(Request("Hello.", 0, torch.zeros(1, 10))))


def test_phonemes_are_said_as_they_are_given(tiny_model: Path) -> None:
    speaker = built(tiny_model, symbols=Symbols("phonemes", ("AY1", "HH")))
    assert speaker("HH AY1").waveform.shape[1] > 0
    with pytest.raises(InputError, match="never met 'hi'"):
        speaker("hi")


def test_parts_that_do_not_fit_are_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="use its own"):
        built(tiny_model, codec="0" * 12)
    with pytest.raises(ModelError, match="other codes"):
        Speaker(checkpoint.load(tiny_model / "codec"), VallE(VallEConfig(5, 16, 16, 1, num_heads=2)))  # type: ignore[arg-type]
