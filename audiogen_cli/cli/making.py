"""Jobs to files: load the model, make the sounds that are not there yet batch by batch, write and report each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from audiogen_cli.cli import console, requests
from audiogen_cli.cli.requests import Job
from audiogen_cli.config import to_dict
from audiogen_cli.errors import InputError
from audiogen_cli.hub import catalog
from audiogen_cli.pipelines.recipe import Recipe, from_comment, to_comment

if TYPE_CHECKING:
    from torch import Tensor

    from audiogen_cli.data.audio import Audio
    from audiogen_cli.hub.catalog import Device, Dtype, Entry, Model
    from audiogen_cli.models.decoding import Sampling
    from audiogen_cli.pipelines.candidates import Chosen
    from audiogen_cli.pipelines.generate import Progress


class Run(NamedTuple):
    """How the jobs of one command are carried out."""

    device: Device
    dtype: Dtype
    force: bool
    spectrogram: bool
    as_json: bool
    resume: bool = False


T = TypeVar("T")
Steps = Generator["Progress", None, "list[Chosen]"]
Maker = Callable[["Model", Sequence[Job]], Steps]


def recipe_of(path: Path) -> Recipe:
    from audiogen_cli.data import audio

    recipe = from_comment(audio.info(path).comment)
    if recipe is None:
        raise InputError(f"{path} does not say how it was made; give a file that audiolm generate has written.")
    return recipe


def _sampling(recipe: Recipe) -> Sampling:
    from audiogen_cli.models.decoding import Sampling

    drawn = Sampling(recipe.temperature, recipe.top_k, recipe.top_p, recipe.guidance)
    return drawn if recipe.steps is None else dataclasses.replace(drawn, steps=recipe.steps)


def generated(melody: Audio | None = None) -> Maker:
    """Sounds from text, and from a melody if there is one."""

    def make(model: Model, jobs: Sequence[Job]) -> Steps:
        from audiogen_cli.pipelines import audiolm
        from audiogen_cli.pipelines.generate import choose

        recipes = [job.recipe for job in jobs]
        same = recipes[0]
        prompts, seeds = [recipe.prompt or None for recipe in recipes], [recipe.seed for recipe in recipes]
        how = (_sampling(same), same.normalize, same.fade, same.extend_stride)
        if isinstance(model, audiolm.AudioLM):
            return _unscored(audiolm.generate(model, prompts, same.seconds, seeds, *how))
        for prompt in dict.fromkeys(prompts):
            _explain(model, prompt, same.layers)
        drawn = partial(choose, candidates=same.candidates, layers=same.layers, melody=melody)
        return drawn(model, prompts, same.seconds, seeds, *how)

    return make


def _explain(model: Model, prompt: str | None, layers: bool) -> None:
    """Says so where a text is made as something else than it says."""
    from audiogen_cli.pipelines.layers import plan

    made = ", then ".join(" + ".join(str(sound) for sound in turn) for turn in plan(model, prompt, layers))
    if prompt is not None and made != prompt:
        console.say(f'"{prompt}" is made as: {made}')


def _loaded(entry: Entry, run: Run) -> Any:
    if not entry.staged:
        return catalog.load(entry, run.device, run.dtype)
    from audiogen_cli.pipelines import audiolm

    return audiolm.load(entry.folder, catalog.resolve_device(run.device), entry.card.domain, entry.card.lanes)


def continued(prompt: Audio) -> Maker:
    """What follows a recording."""

    def make(model: Model, jobs: Sequence[Job]) -> Steps:
        from audiogen_cli.pipelines import audiolm, generate

        pipeline: Any = audiolm if isinstance(model, audiolm.AudioLM) else generate
        same, seeds = jobs[0].recipe, [job.recipe.seed for job in jobs]
        how = (_sampling(same), same.fade, same.extend_stride)
        if pipeline is generate:
            _explain(model, same.prompt or None, layers=False)
        return _unscored(pipeline.continue_audio(model, *prompt, same.prompt, same.seconds, seeds, *how))

    return make


def _unscored(steps: Generator[Progress, None, list[Tensor]]) -> Steps:
    from audiogen_cli.pipelines.candidates import Chosen

    sounds = yield from steps
    return [Chosen(sound) for sound in sounds]


def carry_out(jobs: list[Job], entry: Entry, run: Run, make: Maker, after: Audio | None = None) -> None:
    """Makes and writes what is not there yet, batch by batch, so that what is done is safe. after: the recording that
    each sound begins with, if any."""
    device = catalog.resolve_device(run.device)
    dtype = catalog.resolve_dtype(run.dtype, device)
    jobs = [job._replace(recipe=dataclasses.replace(job.recipe, device=device, dtype=dtype)) for job in jobs]
    if run.resume and not run.force:
        jobs = _missing(jobs, run)
    if not jobs:
        return
    watch = console.Stopwatch()
    with console.waiting(f"loading {entry.card.name}"):
        model = _loaded(entry, run)
    made, loaded = 0.0, watch.seconds
    rate, known = (model.sample_rate, 0) if after is None else (after.sample_rate, after.waveform.shape[1])
    for batch in requests.batches(jobs, max(requests.TOGETHER, entry.card.lanes)):
        for job, sound in zip(batch, watched(make(model, batch), batch), strict=True):
            write(job, sound, rate, run)
            new = sound.waveform.shape[1] - known
            made += new / rate
            if not new:
                console.say(f"seed {job.recipe.seed}: the model ends where the recording does; try another --seed")
    seeds = f"seed {jobs[0].recipe.seed}" + (f" to {jobs[-1].recipe.seed}" if len(jobs) > 1 else "")
    spent = watch.seconds - loaded
    pace = f"{made / spent:.1f} times real time"
    console.say(f"{seeds}: {made:.1f} s of sound in {spent:.1f} s, {pace}, after {loaded:.1f} s of loading")


def _missing(jobs: list[Job], run: Run) -> list[Job]:
    """The jobs whose file is not there; one that is there must have been made the same way."""
    missing = []
    for job in jobs:
        if job.path is None or not job.path.exists():
            missing.append(job)
            continue
        if recipe_of(job.path) != job.recipe:
            raise InputError(f"{job.path} is there, but was made otherwise; overwrite it with --force, or choose -o.")
        _report(job, run)
    if len(missing) < len(jobs):
        console.say(f"{len(jobs) - len(missing)} of {len(jobs)} sounds are there already.")
    return missing


def watched(steps: Generator[Progress, None, T], jobs: Sequence[Job]) -> T:
    """Runs a pipeline to its end behind a progress bar."""
    total = sum(job.recipe.seconds for job in jobs)
    watch = console.Stopwatch()
    with console.progress(jobs[0].recipe.prompt, total) as show:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                made: T = stop.value
                return made
            done = total * step.done_frames / max(step.total_frames, 1)
            show(done, watch.pace(done))


def write(job: Job, chosen: Chosen, sample_rate: int, run: Run) -> None:
    """The picture first: a sound that is there has its picture."""
    from audiogen_cli.data import audio, image

    recipe, sound = job.recipe, chosen.waveform
    if job.path is None:
        console.result_bytes(audio.encode(sound, sample_rate, recipe.bit_depth, recipe.format, to_comment(recipe)))
        return
    if run.spectrogram and job.picture:
        image.write_spectrogram(job.picture, sound, sample_rate, run.force or run.resume)
    audio.write(job.path, sound, sample_rate, recipe.bit_depth, recipe.format, to_comment(recipe), run.force)
    _report(job, run, chosen.score)


def _report(job: Job, run: Run, score: float | None = None) -> None:
    """The score is no part of the recipe: it is what came of it."""
    if run.as_json:
        picture = {"spectrogram": str(job.picture)} if run.spectrogram else {}
        scored = {} if score is None else {"score": round(score, 4)}
        console.result_json({"path": str(job.path)} | picture | scored | to_dict(job.recipe))
    else:
        console.result(str(job.path))
