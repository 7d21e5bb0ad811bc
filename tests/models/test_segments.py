"""A sound cut as EnCodec cuts it; tests/pipelines/test_compress.py compares with the slow way and with the package."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from audiogen_cli.models.encodec import ENCODEC_48KHZ, Encodec, EncodecConfig
from audiogen_cli.models.segments import Segment, decode_segments, encode_segments, has_scales, segment_lengths

SMALL = {"sample_rate": 600, "dimension": 6, "num_filters": 4, "ratios": (3, 2), "lstm_layers": 1}
WHOLE = EncodecConfig(**SMALL, num_codebooks=3, codebook_size=16)
SEGMENTED = dataclasses.replace(ENCODEC_48KHZ, **SMALL, num_codebooks=3, codebook_size=16)


def codec(config):
    torch.manual_seed(0)
    found = Encodec(config).eval()
    for stage in found.quantizer.stages:
        stage.embed.normal_(std=0.3)
    return found


def noise(config, length):
    return torch.randn(1, config.channels, length, generator=torch.Generator().manual_seed(length)) * 0.2


@pytest.mark.parametrize("length", [1, 593, 594, 595, 600, 1188, 1200, 2000])
def test_segments_start_a_stride_apart_and_cover_everything(length):
    model = codec(SEGMENTED)
    starts = range(0, length, 594)
    assert list(segment_lengths(model, length)) == [min(600, length - start) for start in starts]
    assert list(segment_lengths(codec(WHOLE), length)) == [length]
    found = [sum(part.shape[-1] for part in s.codes) for s in encode_segments(model, [noise(SEGMENTED, length)])]
    assert found == [model.num_frames(each) for each in segment_lengths(model, length)]


@pytest.mark.parametrize("size", [1, 7, 594, 600, 1999])
def test_how_the_sound_arrives_makes_no_difference(size):
    model, waveform = codec(SEGMENTED), noise(SEGMENTED, 2000)
    once = list(encode_segments(model, [waveform]))
    cut = list(encode_segments(model, waveform.split(size, dim=-1)))
    assert [segment.scale for segment in once] == [segment.scale for segment in cut]
    for one, other in zip(once, cut, strict=True):
        assert torch.equal(torch.cat(list(one.codes), -1), torch.cat(list(other.codes), -1))


def test_a_scale_is_what_normalizing_takes_out():
    model, waveform = codec(SEGMENTED), noise(SEGMENTED, 600)
    [segment] = list(encode_segments(model, [waveform]))[:1]
    assert has_scales(model) and segment.scale == pytest.approx(float(waveform.mean(1).square().mean().sqrt()), 1e-5)
    assert not has_scales(codec(WHOLE))
    [whole] = encode_segments(codec(WHOLE), [noise(WHOLE, 60)])
    assert whole.scale is None
    silent = next(iter(encode_segments(model, [waveform * 0])))
    assert silent.scale == pytest.approx(1e-8)


def test_what_one_segment_alone_covers_is_that_segments_sound():
    model, waveform = codec(SEGMENTED), noise(SEGMENTED, 1500)
    segments = [Segment(list(s.codes), s.scale) for s in encode_segments(model, [waveform])]
    both = torch.cat(list(decode_segments(model, segments)), -1)
    alone = torch.cat(list(decode_segments(model, segments[:1])), -1)
    assert both.shape[-1] == 1188 + 312 and alone.shape[-1] == 600
    torch.testing.assert_close(both[..., :594], alone[..., :594])
    blocks = [[part for block in s.codes for part in block.split(3, dim=-1)] for s in segments]
    again = torch.cat(
        list(decode_segments(model, [Segment(b, s.scale) for b, s in zip(blocks, segments, strict=True)])), -1
    )
    assert torch.equal(again, both)
