import pytest

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.training.codec import CodecRecipe
from audiogen_cli.training.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_recipe_that_a_file_could_hold(name: str) -> None:
    assert from_dict(CodecRecipe, to_dict(PRESETS[name])) == PRESETS[name]


def test_the_presets_have_the_papers_rates_and_discriminators() -> None:
    soundstream, encodec, audiogen = (PRESETS[name] for name in ("soundstream", "encodec", "audiogen"))
    assert soundstream.soundstream is not None and encodec.encodec is not None and audiogen.encodec is not None
    assert (soundstream.soundstream.target_sample_hz, soundstream.soundstream.hop_length) == (24_000, 320)
    assert soundstream.training.losses.feature == 100 and not soundstream.training.losses.balance
    assert encodec.encodec.hop_length == 320 and encodec.training.losses.balance
    assert (audiogen.encodec.sample_rate, audiogen.encodec.num_codebooks) == (16_000, 4)
    assert encodec.training.losses.mel_ffts == tuple(2**i for i in range(5, 12))
    assert [p.training.discriminator_probability for p in (soundstream, encodec, audiogen)] == [1, 2 / 3, 1]
    assert encodec.training.betas == audiogen.training.betas == (0.5, 0.9)


def test_the_codes_of_the_mel_preset_are_settled_before_its_discriminator_comes() -> None:
    training = PRESETS["mel"].training
    assert training.freeze_codes_at is not None and training.discriminator_start is not None
    assert training.freeze_codes_at <= training.discriminator_start < training.adversarial_start
    assert training.adversarial_start < PRESETS["mel"].loop.steps
