import torch

from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.models.outline import OutlineConfig
from audiogen_cli.training.data import Subset
from audiogen_cli.training.outline import OutlineRecipe, fit

RECIPE = OutlineRecipe(
    OutlineConfig(8_000, 640, n_fft=256, num_mels=8, num_codebooks=2, codebook_size=8), examples=4, patches=40
)


def noise() -> Subset:
    generator = torch.Generator().manual_seed(0)
    sounds = [torch.randint(-9_000, 9_000, (1, 6_000), generator=generator).to(torch.int16) for _ in range(2)]
    return Subset([Clip(f"{c}.wav", c, 0.75, "test") for c in ("a dog barking", "rain")], Recordings(sounds))


def test_it_hears_every_example_and_is_the_same_for_the_same_seed() -> None:
    heard: list[int] = []
    outline = fit(RECIPE, noise(), heard.append)
    assert heard == [1, 2, 3, 4]
    assert outline.entries.shape == (2, 8, 32)
    assert outline.fingerprint() == fit(RECIPE, noise()).fingerprint()
