"""audiolm train kmeans | semantic | coarse | fine | depth | join: the parts of an AudioLM; and valle, which speaks."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.cli.train import Data, Licence, Run, Tiers, app, with_run
from audiogen_cli.data.files import check_output
from audiogen_cli.errors import InputError, OutputError
from audiogen_cli.hub import catalog
from audiogen_cli.hub.card import ModelCard

if TYPE_CHECKING:
    from audiogen_cli.training.stage_data import Tokenizers

__all__ = ["app"]

Name = Literal["semantic", "coarse", "fine"]

Encoder = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="A speech model of transformers (HuBERT, wav2vec 2.0, WavLM, w2v-BERT, MERT, Whisper)."
    ),
]
Centroids = Annotated[
    Path | None,
    typer.Option(
        "--kmeans",
        metavar="FILE",
        help="From `audiolm train kmeans`, or published with joblib. A vq-wav2vec (fairseq's file) needs none.",
    ),
]
CodecFolder = Annotated[
    Path | None, typer.Option("--codec", metavar="FOLDER", help="A codec. (Default: the bundled one.)")
]
Text = Annotated[str | None, typer.Option("--text", metavar="FOLDER", help="A T5 encoder. (Default: the bundled one.)")]
FromTokens = Annotated[
    bool, typer.Option("--tokens", help="Learn from the ids that `audiolm prepare` wrote, not from the sound.")
]


@app.command()
def kmeans(
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Ends in .safetensors.")],
    encoder: Encoder,
    layer: Annotated[int, typer.Option(min=0, help="Which layer's features.")] = 9,
    codes: Annotated[int, typer.Option(min=2, help="How many centroids.")] = 500,
    max_frames: Annotated[int, typer.Option(min=2, help="Clustered at most, a random choice of all.")] = 200_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    standardize: Annotated[bool, typer.Option(help="Zero mean and unit variance for every feature.")] = True,
    tier: Tiers = None,
    force: options.Force = False,
) -> None:
    """Cluster a speech model's features of the recordings: the first step of an AudioLM."""
    check_output(output, force)
    if output.suffix != ".safetensors":
        raise OutputError(f"centroids are written as safetensors; let {output.name} end in .safetensors.")
    from audiogen_cli.models.semantic import SpeechEncoder, fit
    from audiogen_cli.training.stage_data import find_recordings

    clips = find_recordings(data, tier or ())
    with console.waiting(f"loading {encoder}"):
        model = SpeechEncoder.load(encoder, layer)
    with console.progress("listening", float(len(clips)), unit="files") as show:
        how: Any = "dimension" if standardize else "none"
        paths = [Path(clip.path) for clip in clips if clip.split == "train"]
        centroids = fit(model, paths, codes, how, max_frames, seed, lambda done, total: show(done, ""))
    centroids.save(output, force)
    console.result(str(output))


@app.command()
@with_run
def semantic(
    run: Run, encoder: Encoder, centroids: Centroids = None, text: Text = None, from_tokens: FromTokens = False
) -> None:
    """Train AudioLM's first stage: semantic tokens after semantic tokens."""
    _stage("semantic", run, text, from_tokens, (encoder, centroids), None)


@app.command()
@with_run
def coarse(
    run: Run,
    encoder: Encoder,
    centroids: Centroids = None,
    codec: CodecFolder = None,
    text: Text = None,
    from_tokens: FromTokens = False,
) -> None:
    """Train AudioLM's second stage: the codec's first codebooks after semantic tokens."""
    _stage("coarse", run, text, from_tokens, (encoder, centroids), _codec_folder(codec))


@app.command()
@with_run
def fine(run: Run, codec: CodecFolder = None, text: Text = None, from_tokens: FromTokens = False) -> None:
    """Train AudioLM's third stage: the codec's other codebooks after the first ones."""
    _stage("fine", run, text, from_tokens, None, _codec_folder(codec))


@app.command()
@with_run
def depth(
    run: Run,
    encoder: Encoder,
    centroids: Centroids = None,
    codec: CodecFolder = None,
    text: Text = None,
    from_tokens: FromTokens = False,
) -> None:
    """Train one stage in place of AudioLM's second and third: a transformer over frames, another over codebooks."""
    _stage("coarse", run, text, from_tokens, (encoder, centroids), _codec_folder(codec), in_depth=True)


@app.command()
def join(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The new model.")],
    semantic: Annotated[Path, typer.Option(metavar="FOLDER", help="The run, or checkpoint, of the semantic stage.")],
    coarse: Annotated[Path, typer.Option(metavar="FOLDER", help="The same of the coarse stage.")],
    encoder: Encoder,
    centroids: Centroids = None,
    fine: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The same of the fine stage; none where coarse is a depth one."),
    ] = None,
    draft: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="A small stage, trained as a large one, that makes that one faster; repeat."
        ),
    ] = None,
    codec: CodecFolder = None,
    domain: Annotated[Literal["speech", "music"], typer.Option(help="Decides how wildly each stage draws.")] = "speech",
    licence: Licence = "unknown",
) -> None:
    """Put the stages and what they were trained with into one model, for `audiolm continue` and `generate`."""
    if output.exists():
        raise OutputError(f"{output} is there already; name another folder.")
    from audiogen_cli.hub import checkpoint, stages
    from audiogen_cli.hub.fairseq import tokenizer

    with console.waiting("loading the parts"):
        listener = tokenizer(encoder, centroids)
        own: Any = checkpoint.load(_codec_folder(codec), expect=checkpoint.CODECS)
        first, second = _trained(semantic), _trained(coarse)
        third = None if fine is None else _trained(fine)
        drafts = tuple(_trained(path) for path in draft or ())
        parts = stages.checked(stages.Stages(listener, own, first, second, third, drafts=drafts))
    beside = output.with_name(output.name + ".beside")
    shutil.rmtree(beside, ignore_errors=True)
    stages.save(beside, parts)
    card = ModelCard(output.name, "AudioLM", licence, domain=domain)
    (beside / "model.json").write_text(json.dumps(dataclasses.asdict(card), indent=2) + "\n", encoding="utf-8")
    beside.rename(output)
    console.result(str(output))


@app.command()
@with_run
def valle(run: Run, codec: CodecFolder = None, from_tokens: FromTokens = False) -> None:
    """Train a VALL-E, which speaks a text in the voice of a recording, on recordings whose captions are transcripts.

    Written as it goes: log.jsonl, held-out texts as it says them, checkpoints, and model/, which `audiolm speak` takes.
    """
    clips = run.clips()
    from audiogen_cli.data.manifest import select
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.models.valle import VallE
    from audiogen_cli.training import stage_data
    from audiogen_cli.training import valle as training

    plan, folder = run.plan(training.VallERecipe), _codec_folder(codec)
    clips = stage_data.measured(clips, run.data)
    with console.waiting("loading the codec"):
        parts = _parts(None, folder)
    own: Any = parts.codec
    sounds: Any = [stage_data.FolderSounds(select(clips, split), parts) for split in ("train", "valid")]
    if from_tokens:
        sounds = [stage_data.TokenSounds(run.data, parts, split) for split in ("train", "valid")]
    known, held = training.divided(sounds[0], sounds[1], plan.model.window_seconds)
    begun: Any = checkpoint.load(run.start, expect=("valle",)) if run.start else None
    if begun is None:
        begun = VallE(training.configured(plan.model, known.clips, own))
        if plan.model.codec_vectors:
            begun.begin_with(own.codebooks())
    symbols, count = begun.config.symbols, begun.config.num_codebooks
    if from_tokens and plan.model.shifts > 1:
        raise InputError("prepared tokens begin in one place; leave --tokens, or set shifts to 1.")
    train = training.Utterances(known, symbols, count, plan.model.shifts)
    few = training.Utterances(held, symbols, count)
    with console.waiting("listening to the held-out recordings"):
        task = training.VallETask(begun, plan, own, train, few, folder, run.source(train.clips))
    run.train(task, plan)


def _trained(folder: Path) -> Any:
    from audiogen_cli.hub import checkpoint

    return checkpoint.load(folder / "model" if (folder / "model").is_dir() else folder, expect=checkpoint.STAGES)


def _codec_folder(given: Path | None) -> Path:
    return given or catalog.find(catalog.DEFAULT_CODEC).folder / "codec"


def _stage(
    name: Name,
    run: Run,
    text: str | None,
    from_tokens: bool,
    speech: tuple[str, Path | None] | None,
    codec: Path | None,
    in_depth: bool = False,
) -> None:
    from audiogen_cli.data.manifest import select
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.hub.stages import text_encoder
    from audiogen_cli.training import audiolm as training
    from audiogen_cli.training import stage_data

    clips = stage_data.find_recordings(run.data, run.tier or ())
    plan: Any = run.plan(training.DepthRecipe if in_depth else training.StageRecipe)
    reads = plan.model.conditioning != "none"
    if text is not None and not reads:
        raise InputError(f"a {name} stage that reads text needs a recipe with conditioning; give one, or leave --text.")
    with console.waiting("loading the codec and the speech model"):
        parts = _parts(speech, codec)
        encoder = text_encoder(text or "") if reads else None
    config = training.configured(name, plan.model, parts)
    if encoder is not None:
        config = dataclasses.replace(config, condition_dim=encoder.dim, text=text or "")
    kind = ("depth",) if in_depth else ("stage",)
    begun: Any = checkpoint.load(run.start, expect=kind) if run.start else training.build(config)
    sounds: Any = stage_data.FolderSounds(select(clips, "train"), parts)
    held_out: Any = stage_data.FolderSounds(select(clips, "valid"), parts)
    if from_tokens:
        sounds, held_out = (stage_data.TokenSounds(run.data, parts, split) for split in ("train", "valid"))
    with console.waiting("listening to the held-out recordings"):
        few = stage_data.first(held_out if len(held_out) else sounds)
    source, decay = run.source(sounds.clips), plan.weight_decay
    task = training.StageTask(begun, plan.loop, sounds, len(sounds), few, parts.rates, encoder, source, decay)
    run.train(task, plan)


def _parts(speech: tuple[str, Path | None] | None, codec: Path | None) -> Tokenizers:
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.hub.fairseq import tokenizer
    from audiogen_cli.training.stage_data import Tokenizers

    own: Any = None if codec is None else checkpoint.load(codec, expect=checkpoint.CODECS)
    return Tokenizers(None if speech is None else tokenizer(*speech), own)
