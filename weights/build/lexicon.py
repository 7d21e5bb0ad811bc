"""The words that a model's captions have not, each with the nearest word that they have: words.txt beside the model.

    python weights/build/lexicon.py ENGLISH_WORDNET PREPARED OUT.txt

ENGLISH_WORDNET: a checkout of github.com/globalwordnet/english-wordnet (CC-BY 4.0), src/yaml. PREPARED: what
`audiolm prepare` made; words of two of its training captions or more are known, and never looked up.

CONCEPTS are sounds that the model knows well, each with the WordNet senses that it stands for. A word belongs to the
concept to which the fewest steps lead, from a word to a wider one. A word's second sense counts as a step further away,
and for nothing where the first one is a thing, an animal or weather: a flute is no glass.
Only single words are listed: of "a police dog" the dog is enough.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from audiogen_cli.conditioners.lexicon import HEADER
from audiogen_cli.data import manifest
from audiogen_cli.data.words import table

FARTHEST = 5  # steps, and the place of a sense among its word's
SENSES = 2  # of a word that are looked at
CERTAIN = ("noun.artifact", "noun.animal", "noun.phenomenon")  # kinds of a first sense beside which no other counts

# what is said, one of it / many: the WordNet senses, counted from 0 in the order of the dictionary
CONCEPTS = """
a man/men: man.0 | a woman/women: woman.0 | a baby/babies: baby.0, child.0, child.1 | a crowd/crowds: crowd.0
a zombie/zombies: zombie.0 | a monster/monsters: monster.0, monster.3 | a dragon/dragons: dragon.0
a dog/dogs: dog.0, canine.1 | a cat/cats: domestic cat.0, cat.0, feline.0 | a wolf/wolves: wolf.0
a lion/lions: lion.0, big cat.0 | a bear/bears: bear.0 | an elephant/elephants: elephant.0 | a monkey/monkeys: monkey.0
a gorilla/gorillas: ape.0 | a rabbit/rabbits: rabbit.0, hare.0 | a squirrel/squirrels: squirrel.0 | a bat/bats: bat.0
a cow/cows: cow.0, cattle.0, bovine.0 | a bull/bulls: bull.0 | a pig/pigs: pig.0, swine.0 | a sheep/sheep: sheep.0
a goat/goats: goat.0 | a horse/horses: horse.0, equine.0 | a donkey/donkeys: donkey.1 | a camel/camels: camel.0
a reindeer/reindeer: deer.0 | a rooster/roosters: rooster.0 | a chicken/chickens: chicken.1, domestic fowl.0
a duck/ducks: duck.0 | a goose/geese: goose.0 | a turkey/turkeys: turkey.0 | a bird/birds: bird.0 | a crow/crows: crow.0
an owl/owls: owl.0 | an eagle/eagles: bird of prey.0 | a parrot/parrots: parrot.0 | a frog/frogs: frog.0, amphibian.2
a snake/snakes: snake.0 | a bee/bees: bee.0, wasp.0 | a fly/flies: fly.0, dipterous insect.0
a cricket/crickets: cricket.0, grasshopper.0 | a cicada/cicadas: cicada.0
rain/rain: rain.0 | wind/wind: wind.0 | thunder/thunder: thunder.0, thunder.1, lightning.0, lightning.1
a thunderstorm/thunderstorms: thunderstorm.0 | sea waves/sea waves: wave.0, sea.0, ocean.0
a waterfall/waterfalls: waterfall.0 | a river/rivers: stream.0 | a splash/splashes: splash.0 | a fire/fires: fire.0
flames/flames: flame.0 | an explosion/explosions: explosion.0, explosive.0, bomb.0 | a firework/fireworks: firework.0
a gunshot/gunshots: gunshot.0, firearm.0 | a machine gun/machine guns: machine gun.0 | a sword/swords: sword.0
an arrow/arrows: arrow.1 | a bow/bows: bow.2 | an axe/axes: axe.0 | a hammer/hammers: hammer.1 | a knife/knives: knife.0
a javelin/javelins: spear.0 | a saw/saws: saw.1 | a chainsaw/chainsaws: power saw.0 | a clock/clocks: timepiece.0
a bell/bells: bell.0, bell.5 | a siren/sirens: siren.1, siren.2 | an alarm/alarms: alarm.1, alarm.2
a helicopter/helicopters: helicopter.0 | an airplane/airplanes: airplane.0 | a car/cars: car.0, motor vehicle.0
a train/trains: train.0, locomotive.0 | an engine/engines: engine.0 | a rocket/rockets: rocket.0 | a ship/ships: ship.0
a cart/carts: cart.0 | a door/doors: door.0 | a gate/gates: gate.0 | glass/glass: glass.0, glass.1
a drum/drums: drum.0
a cymbal/cymbals: cymbal.0 | a guitar/guitars: guitar.0, stringed instrument.0 | a keyboard/keyboards: keyboard.0
a brass horn/brass horns: brass instrument.0 | a whistle/whistles: whistle.3, whistle.2 | a toilet/toilets: toilet.1
a footstep/footsteps: footstep.0 | an earthquake/earthquakes: earthquake.0
"""

# the same of what is done: the participle / what one does / what many do
DEEDS = """
crying/cries/cry: cry.1 | screaming/screams/scream: cry.0, scream.1 | laughing/laughs/laugh: laugh.0
groaning/groans/groan: groan.0 | growling/growls/growl: growl.0 | barking/barks/bark: bark.3
howling/howls/howl: howl.0
roaring/roars/roar: roar.0, roar.4 | chirping/chirps/chirp: chirp.0 | buzzing/buzzes/buzz: buzz.0
ringing/rings/ring: ring.0, ring.2 | rumbling/rumbles/rumble: rumble.0 | creaking/creaks/creak: creak.0
snoring/snores/snore: snore.0
"""


class Dictionary:
    """Senses of words, and which sense is wider than which, of one part of speech ("noun" or "verb")."""

    def __init__(self, folder: Path, part: str) -> None:
        self.wider: dict[str, list[str]] = {}
        self.kind: dict[str, str] = {}
        self.senses: dict[str, list[str]] = {}
        for path in sorted(folder.glob(f"{part}.*.yaml")):
            for sense, facts in _read(path).items():
                self.wider[sense], self.kind[sense] = facts.get("hypernym", []), path.stem
        for path in sorted(folder.glob("entries-*.yaml")):
            for word, entry in _read(path).items():
                for sense in (sense["synset"] for key in entry if key[0] == part[0] for sense in entry[key]["sense"]):
                    self.senses.setdefault(word, []).append(sense)

    def climb(self, sense: str) -> dict[str, int]:
        """This sense and those that are wider, up to FARTHEST steps, with the steps that lead to them."""
        found, edge = {sense: 0}, [sense]
        for steps in range(1, FARTHEST + 1):
            edge = [wider for sense in edge for wider in self.wider.get(sense, []) if wider not in found]
            found |= dict.fromkeys(edge, steps)
        return found


class Concept(NamedTuple):
    forms: tuple[str, ...]
    senses: tuple[str, ...]


def concepts(text: str, dictionary: Dictionary) -> list[Concept]:
    found = []
    for forms, items in table(text).items():
        places = [item.rpartition(".") for item in items]
        senses = tuple(dictionary.senses[word][int(number)] for word, _, number in places)
        found.append(Concept(tuple(forms.split("/")), senses))
    return found


def nearest(dictionary: Dictionary, wanted: list[Concept]) -> Iterator[tuple[str, Concept]]:
    """Each word that belongs to one of the concepts."""
    meant = {sense: concept for concept in reversed(wanted) for sense in concept.senses}
    for word, senses in dictionary.senses.items():
        looked_at = senses[:1] if dictionary.kind[senses[0]] in CERTAIN else senses[:SENSES]
        ways = [
            (place + steps, meant[wider])
            for place, sense in enumerate(looked_at)
            for wider, steps in dictionary.climb(sense).items()
            if wider in meant
        ]
        if ways and (best := min(ways, key=lambda way: way[0]))[0] <= FARTHEST:
            yield word, best[1]


def known_words(prepared: Path) -> set[str]:
    """The words of two captions of training recordings or more."""
    counts: Counter[str] = Counter()
    for clip in manifest.read(prepared / manifest.NAME):
        if clip.split == "train":
            counts.update(set(re.findall(r"[a-z]+(?:-[a-z]+)*", clip.caption.lower())))
    return {word for word, count in counts.items() if count > 1}


def plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", noun) else "s")


def conjugated(verb: str) -> tuple[str, str, str]:
    """sob -> sobbing, sobs, sob: as the captions write them."""
    doubled = re.search(r"[^aeiou][aeiou][bdgmnpt]$", verb) and len(re.findall(r"[aeiou]+", verb)) == 1
    stem = verb[:-1] if re.search(r"[^e]e$", verb) else verb + verb[-1] if doubled else verb
    return stem + "ing", plural(verb), verb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wordnet", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    folder, known = arguments.wordnet / "src" / "yaml", known_words(arguments.prepared)
    said: dict[str, str] = {}
    taught = set(re.findall(r"[a-z]+", " ".join([*table(CONCEPTS), *table(DEEDS)])))
    for part, text in (("noun", CONCEPTS), ("verb", DEEDS)):
        dictionary = Dictionary(folder, part)
        for word, concept in nearest(dictionary, concepts(text, dictionary)):
            if not re.fullmatch(r"[a-z]+(-[a-z]+)*", word):
                continue
            forms = (word, plural(word)) if part == "noun" else conjugated(word)
            for form, meant in zip(forms, concept.forms, strict=True):
                if form not in known | taught:
                    said.setdefault(form, meant)
    lines = defaultdict(list)
    for word, meant in said.items():
        lines[meant].append(word)
    text = "".join(f"{meant}: {', '.join(sorted(words))}\n" for meant, words in sorted(lines.items()))
    arguments.out.write_text(HEADER + text, encoding="utf-8")
    sys.stdout.write(f"{len(said)} words for {len(lines)} that are known\n")


@functools.cache
def _read(path: Path) -> dict[str, dict]:
    loaded: dict[str, dict] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return loaded


if __name__ == "__main__":
    main()
