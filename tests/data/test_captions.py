import numpy as np
import pytest

from audiogen_cli.data import captions
from audiogen_cli.data.captions import Part


def ways(say, count=400):
    return {say(np.random.default_rng(seed)) for seed in range(count)}


@pytest.mark.parametrize(
    ("caption", "sentence"),
    [
        ("a dog barking", "a dog barks"),
        ("a baby crying", "a baby cries"),
        ("a helicopter flying", "a helicopter flies"),
        ("a person sneezing", "a person sneezes"),
        ("a snake hissing", "a snake hisses"),
        ("machinery humming", "machinery hums"),
        ("wind rustling through leaves", "wind rustles through leaves"),
        ("fire burning and crackling", "fire burns and crackles"),
        ("ocean waves crashing", "ocean waves crash"),
        ("people talking in a coffee shop", "people talk in a coffee shop"),
        ("a gun being reloaded", "a gun is reloaded"),
        ("a door slamming", "a door slams"),
        ("a bell ringing", "a bell ringing".replace("ringing", "rings")),
        ("a battering ram hitting a gate", "a battering ram hits a gate"),
        ("something plunging into water", "something plunges into water"),
        ("an explosion", None),
        ("harbour ambience with water lapping and a creaking boat", None),
    ],
)
def test_a_participle_becomes_a_sentence_where_there_is_one(caption, sentence):
    assert captions.finite(caption) == sentence


def test_a_caption_is_said_in_many_ways_that_name_the_same_thing():
    said = ways(lambda rng: captions.widen("a dog barking", rng))
    assert {
        "dog barking",
        "a dog barks",
        "barking dog",
        "dog bark",
        "a dog barking",
        "the sound of dog barking",
    } <= said
    assert any("hound" in s or "puppy" in s for s in said) and len(said) > 30
    assert all(s == " ".join(s.split()) for s in said)


def test_counts_are_told_and_never_wrong():
    twice = ways(lambda rng: captions.widen("a dog barking", rng, times=2))
    assert {"dog barking twice", "a dog barks two times", "dog barking"} <= twice
    assert not any("three" in s or "several" in s or "once" in s for s in twice)
    three = ways(lambda rng: captions.widen("a footstep on gravel", rng, times=3))
    assert {"three footsteps on gravel", "footsteps on gravel"} <= three and not any("footstep " in s for s in three)
    assert not any("twice" in s for s in ways(lambda rng: captions.widen("rain falling", rng, times=0)))


def test_mixtures_join_in_the_ways_that_people_join():
    def mixed(first, second):
        return ways(lambda rng: captions.mix(first, second, rng), 2000)

    dog, rain = Part("a dog barking", 1), Part("rain falling", 0)
    for said in (mixed(dog, rain), mixed(rain, dog)):  # the setting goes behind, whichever came first
        assert {"dog barking in rain", "dog barking in the rain", "a dog barks while it rains"} <= said
        assert any(" and " in s for s in said) and any(" with " in s for s in said)
        assert not any(s.endswith("in the dog") for s in said)
    assert {"dog barking and cat meowing", "cat meowing and dog barking"} <= mixed(dog, Part("a cat meowing", 1))


def test_what_follows_is_told_in_order():
    said = ways(lambda rng: captions.follow(Part("a door opening"), Part("glass breaking"), rng), 2000)
    assert "door opening followed by glass breaking" in said and "glass breaking after door opening" in said
    assert "glass breaking then door opening" not in said


@pytest.mark.parametrize(
    "same",
    [
        ("a dog barking", "a dog barks", "two dogs barking", "dog barking"),
        ("rain falling", "the sound of rain", "steady rain", "rain falling on a tent"),
        ("sea waves on the shore", "ocean waves crashing", "gentle ocean waves lapping"),
        ("a fire crackling", "fire burning and crackling", "flames crackling"),
        ("a gunshot", "a rifle shot", "a shotgun blast"),
        ("a cash register", "the sound of a cash register", "cash register"),
    ],
)
def test_captions_of_one_thing_share_a_class(same):
    assert len({captions.class_key(caption) for caption in same}) == 1


def test_captions_of_different_things_do_not():
    different = ["a dog barking", "a dog growling", "rain falling", "an explosion", "a cat hissing", "a cat meowing"]
    assert len({captions.class_key(caption) for caption in different}) == len(different)


def test_weather_and_machines_are_steady_and_events_are_not():
    for caption in ("rain falling", "a helicopter flying", "white noise", "outdoor night ambience with crickets"):
        assert captions.is_steady(caption)
    for caption in ("a dog barking", "a burst of machine gun fire", "a footstep on gravel", "a car engine starting"):
        assert not captions.is_steady(caption)


def test_plurals_go_to_the_noun_that_counts():
    assert captions.pluralize("burst of machine gun fire") == "bursts of machine gun fire"
    assert captions.pluralize("punch") == "punches" and captions.pluralize("piano melody") == "piano melodies"


def test_any_text_at_all_can_be_widened():
    rng = np.random.default_rng(0)
    for caption in ("a", "ing", "A Dog Barking.", "barks", "the sound of", "über-laut 3", "a being", "sing ing ring"):
        for times in (0, 1, 2, 9):
            assert isinstance(captions.widen(caption, rng, times), str)
            assert isinstance(captions.mix(Part(caption, times), Part("rain", 0), rng), str)
