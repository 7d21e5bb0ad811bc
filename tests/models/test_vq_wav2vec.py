"""Names in brackets: the defect of audiolm-pytorch that a test fails on (reference 1.3 and 2.19)."""

import pytest
import torch

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.errors import ConfigError
from audiogen_cli.models.vq_wav2vec import CONVOLUTIONS, VQWav2Vec, VQWav2VecConfig
from audiogen_cli.ops.ids import unique_consecutive

SMALL = tuple((8, kernel, stride) for _, kernel, stride in CONVOLUTIONS)


def tiny(quantizer: str = "kmeans", **more) -> VQWav2Vec:
    torch.manual_seed(0)
    model = VQWav2Vec(VQWav2VecConfig(quantizer, SMALL, num_codes=5, **more))  # type: ignore[arg-type]
    if quantizer == "gumbel":  # logits that differ from frame to frame
        for layer in (*model.hidden, model.logits):
            torch.nn.init.normal_(layer.weight)
            layer.weight -= layer.weight.mean(dim=1, keepdim=True)
            torch.nn.init.zeros_(layer.bias)
    return model


def noise(samples: int) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(1)) * 0.1


def test_the_published_network_hears_16_khz_a_hundred_times_a_second() -> None:
    """[the seed has it at 24 kHz, and 80 samples a frame]"""
    config = VQWav2VecConfig()
    assert (config.sample_rate, config.hop_length, config.field) == (16_000, 160, 465)
    assert config.num_codes**config.num_groups == 102_400


@pytest.mark.parametrize("more", [{}, {"shared": True}, {"residual": True, "activation": "gelu"}])
@pytest.mark.parametrize("quantizer", ["kmeans", "gumbel"])
def test_the_codes_of_a_frame_are_one_id_and_no_two_pairs_share_it(quantizer: str, more: dict[str, object]) -> None:
    """[two groups are flattened into one stream with the same ids, where removing repeats means nothing]"""
    model = tiny(quantizer, quantizer_layers=2 if quantizer == "gumbel" else 1, **more)
    wave = noise(8_000)
    codes, ids = model.codes(wave), model(wave)[0]
    assert codes.shape == (50, 2) and ids.shape == (50,) and model.codebook_size == 25
    assert torch.equal(ids, codes[:, 0] * 5 + codes[:, 1])
    assert len(ids.unique()) == len({tuple(pair) for pair in codes.tolist()}) > 2
    kept = unique_consecutive(ids)
    changes = (codes[1:] != codes[:-1]).any(dim=1)
    assert len(kept) == 1 + int(changes.sum())


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 4_321])
def test_every_started_frame_has_an_id(samples: int) -> None:
    assert tiny()(noise(samples)).shape == (1, -(-samples // 160))


def test_the_nearest_vector_of_each_group_is_chosen() -> None:
    model, wave = tiny(), noise(3_200)
    features = model.projection_norm(model.projection(model._features(torch.nn.functional.pad(wave, (0, 305))[None])))
    codes = model.codes(wave)
    for frame in range(20):
        for group in range(2):
            part = features[0, 4 * group : 4 * group + 4, frame]
            distances = (model.codebook[:, group] - part).norm(dim=1)
            assert int(distances.argmin()) == int(codes[frame, group])


def test_it_is_named_by_its_weights_and_its_configuration_survives_its_file() -> None:
    model = tiny()
    assert model.fingerprint() == tiny().fingerprint() != tiny("gumbel").fingerprint()
    assert from_dict(VQWav2VecConfig, to_dict(model.config)) == model.config
    with pytest.raises(ConfigError, match="groups can share"):
        from_dict(VQWav2VecConfig, {"num_groups": 3})
