"""Chunked equals whole, for every codec; a sound without end fits in memory."""

import dataclasses
import itertools
import random

import pytest
import torch

from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.encodec import Encodec, EncodecConfig, StereoEncodec
from audiogen_cli.models.hifigan import HiFiGANConfig
from audiogen_cli.models.mel import MelCodec, MelConfig
from audiogen_cli.models.spectral import SpectralCodec, SpectralConfig
from audiogen_cli.models.streaming import decode_blocks, encode_blocks, regrouped

ENCODEC = EncodecConfig(
    sample_rate=600, dimension=6, num_filters=4, ratios=(3, 2), lstm_layers=1, num_codebooks=4, codebook_size=16
)
SPECTRAL = SpectralConfig(
    sample_rate=800,
    hop_length=16,
    analysis_ffts=(56, 16),
    analysis_hops=(16, 4),
    encoder_dim=8,
    encoder_layers=2,
    decoder_dim=8,
    decoder_layers=1,
    subframe_dim=8,
    subframe_layers=1,
    synthesis_fft=32,
    kernel_size=3,
    latent_dim=4,
    num_codebooks=4,
    codebook_size=16,
    phase="griffin-lim",
    griffin_lim_iterations=2,
)

VOICE = HiFiGANConfig(
    sample_rate=800, n_fft=24, num_mels=6, f_max=400.0, channels=8, upsample_rates=(2, 2), upsample_kernels=(4, 4),
    kernels=(3,), dilations=(1,),
)  # fmt: skip
MEL = MelConfig(
    VOICE, 4, 8, 1, 1, 12, 1, 1, kernel_size=3, noise_dim=2, latent_dim=4, num_codebooks=4, codebook_size=16
)  # fmt: skip


def encodec(**options):
    return Encodec(dataclasses.replace(ENCODEC, **options))


def spectral(**options):
    return SpectralCodec(dataclasses.replace(SPECTRAL, **options))


CODECS = {
    "causal": lambda: encodec(),
    "causal, shifted": lambda: encodec(trim_right_ratio=0.5, pad_mode="constant"),
    "symmetric": lambda: encodec(causal=False, pad_mode="constant", true_skip=True, lstm_layers=2),
    "symmetric, reflect": lambda: encodec(causal=False, ratios=(5, 1, 3), channels=2),
    "stereo of mono": lambda: StereoEncodec(ENCODEC),
    "griffin-lim": lambda: spectral(),
    "griffin-lim, other windows": lambda: spectral(
        analysis_ffts=(40,), analysis_hops=(8,), synthesis_fft=26, channels=2
    ),
    "mel": lambda: MelCodec(MEL),
    "mel, textured and leveled": lambda: MelCodec(dataclasses.replace(MEL, texture=True, leveling_rounds=1)),
    "predicted phase": lambda: spectral(phase="predicted", subframes=1, synthesis_fft=50),
}


@pytest.fixture(params=CODECS)
def codec(request):
    torch.manual_seed(0)
    made = CODECS[request.param]().eval()
    place_codebooks(made.mono if isinstance(made, StereoEncodec) else made)
    return made


@torch.no_grad()
def place_codebooks(codec):
    """Entries among the latents: far from them, every frame would have the same code."""
    heard = noise(codec, 200 * codec.hop_length, 1)
    latents = codec.encoder(codec.level(heard) if isinstance(codec, MelCodec) else heard)[0].T
    for stage in codec.quantizer.stages:
        stage.embed.copy_(latents[torch.randperm(len(latents))[: len(stage.embed)]])
        latents = latents - stage.decode(stage.encode(latents))


def noise(codec, length, batch=2):
    return 0.3 * torch.randn(batch, codec.channels, length, generator=torch.Generator().manual_seed(length))


def cut(signal, rng, longest):
    """Random blocks of 0 to `longest`, all of `signal` in all."""
    start = 0
    while start < signal.shape[-1]:
        length = rng.randint(0, longest)
        yield signal[..., start : start + length]
        start += length


def joined(blocks):
    return torch.cat(list(blocks), dim=-1)


@torch.no_grad()
def by_hand(step, blocks):
    """(output, states) of steps that are as small as the blocks."""
    outputs, states = [], [None]
    blocks = list(blocks)
    for index, block in enumerate(blocks):
        output, state = step(block, states[-1], index == len(blocks) - 1)
        outputs.append(output)
        states.append(state)
    return torch.cat(outputs, dim=-1), states[1:]


def test_blocks_of_any_size_say_what_the_whole_says(codec):
    rng, hop = random.Random(0), codec.hop_length
    for length, longest, frames in itertools.product((1, hop - 1, hop, 25 * hop + 5), (1, 3 * hop), (2, 500)):
        waveform = noise(codec, length)
        codes = codec.encode(waveform)
        assert torch.equal(joined(encode_blocks(codec, cut(waveform, rng, longest), None, frames)), codes)
        decoded = joined(decode_blocks(codec, cut(codes, rng, longest), frames))
        with torch.no_grad():
            torch.testing.assert_close(decoded, codec.decode(codes), atol=1e-6, rtol=0)


def test_steps_by_hand_say_what_the_whole_says_and_keep_a_state_that_does_not_grow(codec):
    rng, hop = random.Random(1), codec.hop_length
    waveform = noise(codec, 80 * hop + 7, batch=1)
    codes, states = by_hand(codec.encode_step, cut(waveform, rng, hop))
    assert torch.equal(codes, codec.encode(waveform))
    assert all(len(stage.unique()) > 3 for stage in codes.unbind(1))
    assert_flat(states)
    decoded, states = by_hand(codec.decode_step, cut(codes, rng, 1))
    with torch.no_grad():
        torch.testing.assert_close(decoded, codec.decode(codes), atol=1e-6, rtol=0)
    assert_flat(states)


def assert_flat(states):
    """After the start, no state is larger than others were before, in memory that it holds on to."""
    sizes = [size(state) for state in states[:-1]]
    assert 0 < max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2])


def size(state):
    if isinstance(state, torch.Tensor):
        return state.untyped_storage().nbytes()
    return sum(map(size, state)) if isinstance(state, (list, tuple)) else 0


def test_how_a_sound_is_cut_makes_no_difference_to_any_bit(codec):
    codes = codec.encode(noise(codec, 40 * codec.hop_length))
    rng = random.Random(2)
    ways = [joined(decode_blocks(codec, cut(codes, rng, longest), 7)) for longest in (1, 5, 40)]
    assert torch.equal(ways[0], ways[1]) and torch.equal(ways[1], ways[2])


def test_a_sound_of_one_step_is_the_whole_sound_to_the_bit(codec):
    codes = codec.encode(noise(codec, 20 * codec.hop_length))
    with torch.no_grad():
        assert torch.equal(joined(decode_blocks(codec, codes.split(3, dim=-1))), codec.decode(codes))


def test_a_block_may_be_written_over_once_it_is_taken(codec):
    """As those who read a file block by block into one buffer do."""
    waveform, buffer = noise(codec, 30 * codec.hop_length), torch.empty(2, codec.channels, 7)

    def blocks():
        for start in range(0, waveform.shape[-1], 7):
            block = waveform[..., start : start + 7]
            yield buffer[..., : block.shape[-1]].copy_(block)

    def step(block, state, last):
        output = codec.encode_step(buffer[..., : block.shape[-1]].copy_(block), state, last)
        buffer.zero_()
        return output

    codes = codec.encode(waveform)
    assert torch.equal(joined(encode_blocks(codec, blocks(), frames_per_step=4)), codes)
    assert torch.equal(by_hand(step, waveform.split(7, dim=-1))[0], codes)


def test_fewer_codebooks(codec):
    waveform = noise(codec, 9 * codec.hop_length)
    two = joined(encode_blocks(codec, [waveform], num_codebooks=2, frames_per_step=2))
    assert torch.equal(two, codec.encode(waveform, num_codebooks=2))
    with torch.no_grad():
        torch.testing.assert_close(joined(decode_blocks(codec, [two], 2)), codec.decode(two), atol=1e-6, rtol=0)


def test_blocks_are_asked_for_only_when_they_are_needed(codec):
    """An endless sound comes through; the codec is never far behind it."""
    asked = itertools.count()
    endless = (noise(codec, codec.hop_length, batch=1) for _ in asked)
    frames = sum(codes.shape[-1] for codes in itertools.islice(encode_blocks(codec, endless, frames_per_step=4), 30))
    assert 0 <= next(asked) - frames <= 30


@pytest.mark.parametrize("options", [{}, {"phase": "predicted"}, {"synthesis_fft": 50, "subframes": 1}])
@torch.no_grad()
def test_a_spectral_codec_hears_no_farther_than_it_says(options):
    """Everything farther away is not a number, and does not matter."""
    codec = spectral(**options).eval()
    hop, middle = codec.hop_length, 60
    for network, context, channels, unit in (
        (codec.encoder, codec.encoder_context, codec.channels, hop),
        (codec.decoder, codec.decoder_context, codec.config.latent_dim, 1),
    ):
        signal = torch.full((1, channels, (2 * middle + 1) * unit), float("nan"))
        near = slice((middle - context) * unit, (middle + context + 1) * unit)
        signal[..., near] = torch.randn_like(signal[..., near])
        output = network(signal)
        frame = slice(middle * hop // unit, (middle + 1) * hop // unit)
        assert output[..., frame].isfinite().all()
        assert output.isnan().any()


def test_blocks_that_do_not_fit_are_refused(codec):
    for blocks in ([], [torch.zeros(1, codec.channels, 0)]):
        with pytest.raises(InputError, match="no sound"):
            next(encode_blocks(codec, blocks))
        with pytest.raises(InputError, match="no sound"):
            next(decode_blocks(codec, [block.long() for block in blocks]))
    right, codes = torch.zeros(1, codec.channels, 50), torch.zeros(1, 2, 5, dtype=torch.int64)
    for wrong in (torch.zeros(1, codec.channels + 1, 50), torch.zeros(codec.channels, 50), right.expand(2, -1, -1)):
        with pytest.raises(InputError, match="samples"):
            joined(encode_blocks(codec, [right, wrong]))
    for wrong in (torch.zeros(1, 5, 5), codes[:, :1], codes[0]):
        with pytest.raises(InputError, match="frames"):
            joined(decode_blocks(codec, [codes, wrong]))


def test_codecs_that_need_the_whole_sound_say_so():
    scaled = encodec(causal=False, norm="time_group_norm", normalize=True)
    with pytest.raises(ModelError, match="encode_scaled"):
        next(encode_blocks(scaled, [torch.zeros(1, 1, 50)]))
    whole = encodec(causal=False, norm="time_group_norm").eval()
    with pytest.raises(ModelError, match="segment by segment"):
        next(encode_blocks(whole, [torch.zeros(1, 1, 50)]))
    with pytest.raises(ModelError, match="in one piece"):
        Codec().encode_step(torch.zeros(1, 1, 50), None, last=True)


def test_regrouping_keeps_everything_in_order_and_knows_the_end():
    for total, longest, length in itertools.product((1, 7, 12, 2500), (1, 5, 3000), (1, 4, 2500, 5000)):
        if total * length <= 30_000 or length >= 2500:
            signal = torch.arange(total).view(1, 1, -1)
            blocks = list(regrouped(cut(signal, random.Random(total), longest), length))
            assert torch.equal(torch.cat([block for block, _ in blocks], dim=-1), signal)
            assert [block.shape[-1] for block, _ in blocks[:-1]] == [length] * (len(blocks) - 1)
            assert [last for _, last in blocks] == [False] * (len(blocks) - 1) + [True]
