"""The report as Markdown."""

import dataclasses

from audiogen_cli.metrics.cleanliness import Cleanliness
from audiogen_cli.pipelines import scorecard
from audiogen_cli.pipelines.evaluate import CodecReport, Report
from audiogen_cli.pipelines.likeness import FrechetReport, Likeness, NearestReport, VarietyReport
from audiogen_cli.pipelines.pairs import PairReport, PairRow
from audiogen_cli.pipelines.paraphrases import ParaphraseMean, ParaphraseReport, ParaphraseRow
from audiogen_cli.pipelines.recognition import Row

ABOUT = {"model": "tiny", "model_hash": "0", "version": "1", "seeds": 2, "seconds": 5.0, "tagger_hash": "1"}
DOG = Row("dog", 0.5, 0.1, 1.0, None, None, 2, 0.75, 4)
RAIN = PairRow("dog in rain", 0.25, 0.0, 0.5, 0.5, 8)
FULL = Report(
    about=ABOUT,
    rows=(DOG,),
    mean=DOG,
    pairs=PairReport(5, (RAIN,), RAIN),
    paraphrases=ParaphraseReport(
        (ParaphraseRow("a mutt", "a dog", "dog", False, 0.5, 1.0),), None, ParaphraseMean(1, 0.5, 1.0, 0.5)
    ),
    likeness=Likeness(
        FrechetReport(21, 9.0, 4.0, 10.0, 5.0, 2.5),
        VarietyReport((), 3, 0.1, 0.2),
        NearestReport(100, (0.1, 0.2, 0.3), (0.1, 0.2, 0.4), 0.02),
    ),
    cleanliness=(Cleanliness("generated", 8, (-30.0, -20.0, -10.0), None, 0.0, 0.0, 0.125, 0.0, 0.3),),
    codec=CodecReport(5, 60.0, 2.0, 1.0, 0.2, (0.5,), (300.0,)),
)
EMPTY = dataclasses.replace(
    FULL, pairs=None, paraphrases=None, likeness=Likeness(None, VarietyReport((), 0, None, None), None), codec=None
)


def test_every_figure_has_its_place():
    text = scorecard.markdown(FULL)
    for line in (
        "| dog | 0.50 | 0.100 | 1.00 | - | - | 2 | 0.75 | 4 |",
        "Of the 1 prompts with held-out recordings, generated 0.500, held-out 1.000: 50%.",
        "| dog in rain | 0.25 | 0.000 | 0.50 | 0.50 | 8 |",
        "Of the 1 pairs with mixtures, generated 0.250, real 0.500: 50%.",
        "| a mutt | a dog | dog | no | 0.50 | 1.00 |",
        "Of 1 unseen words, generated 0.500, plain prompts 1.000: 50%.",
        "| other held-out recordings | - | 2.50 |",
        "| generated | 0.100 | 0.200 | 0.300 |",
        "| generated | 8 | -30.0 | -20.0 | -10.0 | - | 0.0% | 0.0% | 12.5% | 0.0% | 30.0% |",
        "| 1 | 50.0% | 300 |",
    ):
        assert line in text.splitlines()


def test_tables_are_whole_and_apart():
    for report in (FULL, EMPTY):
        text = scorecard.markdown(report)
        assert "\n\n\n" not in text and text.endswith("|\n")
        for block in text.split("\n\n"):
            widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
            assert len(widths) <= 1


def test_what_was_not_measured_is_left_out():
    text = scorecard.markdown(EMPTY)
    for word in ("two sounds", "paraphrase", "Fréchet", "nearest", "Codec"):
        assert word not in text
