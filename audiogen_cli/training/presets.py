"""Recipes for codecs as their papers train them, under the names that `audiolm train codec --preset` takes.

"soundstream"   2107.03312: 24 kHz, waveform and STFT discriminators, plain weights
"encodec"       2210.13438, section 3.4: 24 kHz, multi-scale STFT discriminators, balanced gradients
"audiogen"      2209.15352, with AudioCraft's weights: 16 kHz, 50 frames a second, four codebooks
"mel"           ours (models/mel.py): 10.8 frames a second for a small language model, an hour on two processor cores

The others are sized for a GPU and weeks. Where we leave the papers: the learning rate falls along a cosine, and the
average of the weights is what is kept.
"""

from __future__ import annotations

from audiogen_cli.models.discriminators import MSSTFTDiscriminatorConfig, SpectrogramDiscriminatorConfig
from audiogen_cli.models.encodec import AUDIOGEN_16KHZ, ENCODEC_24KHZ
from audiogen_cli.models.mel import MelConfig
from audiogen_cli.models.soundstream import SoundStreamConfig
from audiogen_cli.models.soundstream_discriminators import ComplexSTFTDiscriminatorConfig, WaveDiscriminatorConfig
from audiogen_cli.training.codec import CodecRecipe, CodecTrainingConfig
from audiogen_cli.training.codec_losses import CodecLossConfig
from audiogen_cli.training.loop import LoopConfig

SOUNDSTREAM = CodecRecipe(
    soundstream=SoundStreamConfig(
        codebook_size=1024,
        target_sample_hz=24_000,
        rq_ema_decay=0.99,
        rq_rotation_trick=False,
        use_local_attn=False,
        quantize_dropout_cutoff_index=0,
        pad_mode="constant",
    ),
    training=CodecTrainingConfig(
        seconds=360 / 1000,
        adversarial_start=0,
        ms_stft=False,
        wave_discriminator=WaveDiscriminatorConfig(),
        complex_discriminator=ComplexSTFTDiscriminatorConfig(),
        losses=CodecLossConfig(
            mel=0.0, stft=0.0, complex=0.0, spectral=1.0, adversarial=1.0, feature=100.0, commitment=1.0, balance=False
        ),
    ),
    loop=LoopConfig(steps=1_000_000, batch_size=128, learning_rate=1e-4),
)

ENCODEC = CodecRecipe(
    encodec=ENCODEC_24KHZ,
    training=CodecTrainingConfig(
        seconds=1.0,
        codebook_choices=(2, 4, 8, 16, 32),
        codebook_odds=(1.0, 1.0, 1.0, 1.0, 1.0),
        adversarial_start=0,
        discriminator_probability=2 / 3,
        betas=(0.5, 0.9),
        losses=CodecLossConfig(l1=0.1, mel=1.0, stft=0.0, complex=0.0, adversarial=3.0, feature=3.0, commitment=1.0),
    ),
    loop=LoopConfig(steps=600_000, batch_size=64, learning_rate=3e-4),
)

AUDIOGEN = CodecRecipe(
    encodec=AUDIOGEN_16KHZ,
    training=CodecTrainingConfig(
        seconds=1.0,
        adversarial_start=0,
        betas=(0.5, 0.9),
        discriminator=MSSTFTDiscriminatorConfig(),
        losses=CodecLossConfig(l1=0.1, mel=2.0, stft=0.0, complex=0.0, adversarial=4.0, feature=4.0, commitment=1.0),
    ),
    loop=LoopConfig(steps=400_000, batch_size=64, learning_rate=3e-4),
)

MEL = CodecRecipe(
    mel=MelConfig(texture=True, leveling_rounds=2),
    training=CodecTrainingConfig(
        seconds=2.97,  # 32 frames
        codes_start=200,
        codebook_choices=(0, 4, 8, 12),
        codebook_odds=(0.1, 0.1, 0.5, 0.3),
        freeze_codes_at=2_400,
        discriminator_start=2_400,
        adversarial_start=2_550,
        discriminator_learning_rate=1e-3,
        losses=CodecLossConfig(mel=0.0, stft=0.0, complex=0.0, adversarial=0.2, feature=0.5, commitment=0.05),
        spectrogram_discriminator=SpectrogramDiscriminatorConfig(filters=(24, 48, 64, 64), kernel_size=(5, 7)),
    ),
    loop=LoopConfig(steps=5_000, learning_rate=1.2e-3, warmup_steps=100, ema_decay=0.998, evaluate_every=2_500),
)

PRESETS = {"soundstream": SOUNDSTREAM, "encodec": ENCODEC, "audiogen": AUDIOGEN, "mel": MEL}
