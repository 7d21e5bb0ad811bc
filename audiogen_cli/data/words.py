"""The words behind the captions: synonyms, other phrases, settings and classes, as data.

A table is text: `key: item, item` on a line, or several of these between bars. A key that comes again goes on.
"""

from __future__ import annotations


def table(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(str.strip, text.replace("|", "\n").splitlines()):
        key, items = entry.split(":", 1)
        found[key.strip()] = found.get(key.strip(), ()) + tuple(item.strip() for item in items.split(","))
    return found


# Words that may stand for one another whatever the company they keep; the first is the one that the data use.
_SYNONYMS = """
dog: hound, puppy, canine | cat: kitten, kitty, feline | rain: rainfall | explosion: blast, detonation, boom
gunshot: gun shot, shot | man: guy, male, person | woman: lady, female, person | person: someone, human
baby: infant, newborn | rooster: cockerel, cock | chicken: hen | pig: hog, swine | sheep: lamb | horse: pony, stallion
bird: songbird | birds: songbirds | crow: raven
eagle: bird of prey, hawk | sea: ocean | ocean: sea | shore: beach, coast
wind: breeze | helicopter: chopper | chainsaw: chain saw | car: automobile, vehicle | engine: motor | footstep: step
footsteps: steps | thunderstorm: storm, lightning storm | river: stream, creek | crowd: audience | bee: insect
bees: insects | crickets: insects | zombie: monster, undead | ogre: monster, beast | sword: blade | swords: blades
axe: hatchet | gravel: pebbles, stones | grass: lawn | rock: stone | stone: rock | punch: hit | bang: thud
hammer: mallet | plane: airplane, aircraft | waterfall: falling water | bell: chime | harbour: harbor | armour: armor
barking: woofing, yapping | crying: wailing | screaming: shrieking, yelling | laughing: giggling, chuckling
meowing: mewing | growling: snarling | clucking: cackling | ticking: tick-tocking | crackling: popping
burning: blazing | blowing: gusting | flowing: running, streaming | chirping: tweeting | breaking: shattering, smashing
clashing: clanging | groaning: moaning | rumbling: rolling | humming: droning | creaking: squeaking | ringing: chiming
neighing: whinnying | mooing: lowing | bleating: baaing | buzzing: droning | croaking: ribbiting | loud: noisy
heavy: strong | huge: enormous, big
"""

# Narrower words for what sounds alike, for the same use: whoever asks for a beagle wants a dog.
_KINDS = """
dog: pooch, doggy, guard dog, sheepdog, beagle, poodle, retriever, husky, bulldog
cat: tomcat, house cat, pussycat, siamese | rain: drizzle, showers | explosion: bomb, grenade, burst
gunshot: rifle, pistol, firearm, handgun | baby: little child, small child, babe | chicken: fowl, poultry
pig: boar, piglet, sow | sheep: ram | goat: kid, billy goat | horse: foal, steed, colt
cow: cattle, calf, ox, dairy cow | frog: toad, tree frog, pond frog
bird: robin, finch, lark, thrush, wren, blackbird, nightingale | birds: finches, robins | wind: gusts, draught, squall
helicopter: copter | car: taxi, van | river: rapids, brook | crowd: spectators | crickets: cicadas, katydids
plane: jet | airplane: plane, aircraft, jet, propeller plane | clock: wall clock, alarm clock, watch, timer
siren: alarm, emergency siren | bell: gong, church bell | guitar: acoustic guitar, six-string | cymbal: hi-hat
keyboard: computer keyboard, laptop
"""

# Other ways to say a whole caption, by its class.
_PHRASES = """
rain: rain, raining, it is raining, rain drops, raindrops falling, a rain shower, rainy weather
heavy rain: downpour, pouring rain, heavy rain, torrential rain
waves: ocean, the sea, ocean surf, surf, beach waves, waves on a beach, sea waves, waves crashing on the shore
wind: wind, windy weather, a gust of wind, wind howling, howling wind
fire: campfire, fireplace, burning wood, fire, crackling fire, wood burning, a log fire
thunder: thunder, a thunderclap, thunder and lightning, rolling thunder, a storm
helicopter: helicopter, helicopter blades, helicopter rotor whirring, a helicopter hovering, a helicopter overhead
chainsaw: chainsaw, a chainsaw cutting wood, a chainsaw revving, a power saw
clock: ticking clock, tick tock, clock tick, the tick-tock of a clock, clock ticking
rooster: rooster, cock-a-doodle-doo, a rooster's crow, a cock crowing, a rooster calling at dawn
sneeze: sneeze, sneezing, a sneeze, achoo, someone sneezing, a loud sneeze
baby: crying baby, an infant crying, baby cry, a crying infant, a newborn crying
dog bark: dog, dog bark, a barking dog, woof woof, dogs barking
cat: cat, meow, a meowing cat, cat meow
bird song: birds, birdsong, bird song, birds chirping, chirping birds, tweeting birds
cow: cow, moo, cow moo, a mooing cow, cattle
pig: pig, oink, oinking, a pig oinking, pig snorting
sheep: sheep, baa, a sheep baaing, bleating sheep
frog: frog, ribbit, frog croak, a croaking frog
owl: owl, owl hoot, a hooting owl
horse neigh: horse, a neighing horse, horse neigh, a horse whinnying
horse gallop: horse hooves, galloping horse, horse gallop, clip-clop of hooves
explosion: explosion, a blast, boom, a bomb exploding, something exploding, a detonation
gunshot: gunshot, gun firing, a shot being fired, gunfire, a gun being fired
machine gun: machine gun, machine gun fire, automatic gunfire
glass: glass shattering, shattering glass, glass smashing, a window breaking
keyboard: typing, keyboard typing, typing on a keyboard, computer keyboard clicks
crowd: crowd, crowd cheering, applause, people cheering
people: people talking, chatter, crowd chatter, people chatting, background conversation
stream: water flowing, flowing water, a stream, a babbling brook, running water, a river
waterfall: waterfall, rushing water, water falling
crickets: crickets, crickets at night, insects chirping, a summer night
swords: sword fight, swords clashing, clanging swords, metal blades clashing, a duel with swords
scream: scream, a scream, someone screaming
laugh: laughter, laughing, someone laughing
siren: siren, a wailing siren, emergency vehicle siren
car horn: car horn, honking, a car honking, beep beep
car engine: car engine, engine running, a motor running, a car
train: train, a passing train, a steam train
door open: door opening, a door opens, opening a door
door close: door closing, a door slams shut, closing a door
bees: bees, buzzing bees, a swarm of bees, insects buzzing
snoring: snoring, someone snoring
speech: speech, a woman speaking, a woman talking, female speech, a person talking, someone speaking, a voice
punch: punch, a fist hitting, a punch in a fight
"""

_KIND_PHRASES = """
rain: drizzle, showers, wet weather, precipitation, a rainy night, a summer rain
heavy rain: a rainstorm, a monsoon, sheets of rain
waves: the tide coming in, the seaside, swell, the coast, rollers
wind: a breeze, a strong wind, squalls, a windstorm, a blizzard
fire: flames, embers, a burning log, a hearth, a wood stove, blazing logs
thunder: a thunderstorm, a lightning strike, distant thunder
clock: a metronome, a pocket watch ticking, a timer ticking
baby: a small child crying, a baby wailing, a babe in arms crying
bird song: a robin, a dawn chorus, a lark, a thrush singing, twittering, a finch
explosion: a bomb, a grenade, a mine going off, TNT, an eruption
gunshot: a pistol, a rifle, a shotgun, a handgun going off
car engine: an automobile, a vehicle idling, a truck engine
stream: a creek, a stream in the forest, a spring, rapids
siren: a fire engine, a police car, sirens
crickets: cicadas, a katydid, insects at night
bell: bell, a chime, church bells, a tolling bell, bells ringing, a bell tower
airplane flying: airplane, a plane, a jet, an aircraft overhead, a passenger plane, a jet taking off
"""

# What stands after "dog barking ..." when the second sound is a place or the weather, by its class.
_SETTINGS = """
rain: in rain, in the rain, while it rains, during the rain, with rain in the background, on a rainy day, as rain falls
heavy rain: in heavy rain, in the pouring rain, during a downpour
wind: in wind, in the wind, while the wind blows, on a windy day, with wind in the background
waves: by the sea, at the beach, near the ocean, with waves in the background, on the shore while waves crash
fire: by the fire, near a fire, next to a crackling fire, while a fire crackles, with a fire burning in the background
thunder: in a thunderstorm, during a storm, with thunder in the background, while it thunders
bird song: with birds singing, while birds sing, among singing birds, with birdsong in the background
crickets: at night with crickets, while crickets chirp, with crickets in the background, on a summer night
people: with people talking, in a crowd, with people talking in the background, in a busy place
crowd: in a crowd, while a crowd cheers, with a crowd in the background
stream: by a river, near a stream, by running water, with water flowing
waterfall: by a waterfall, near a waterfall
helicopter: while a helicopter flies, under a helicopter, with a helicopter overhead
chainsaw: while a chainsaw runs, near a chainsaw, with a chainsaw in the background
clock: while a clock ticks, with a clock ticking
city: in the city, in traffic, near a road
machine: in a factory, near a machine, while a machine runs
"""

# The first pattern that is found names the class; the families with many captions are gathered here.
CLASSES = (
    ("dog growl", r"\bdogs? growl"),
    ("dog bark", r"\bdogs? bark|\bdogs\b"),
    ("thunder", r"\bthunder|\blightning"),
    ("heavy rain", r"\bheavy rain|\brainstorm"),
    ("rain", r"\brain\b|\bdrizzle\b|\bhail\b"),
    ("waves", r"\b(sea|ocean) waves"),
    ("waterfall", r"\bwaterfall"),
    ("wind", r"\bwind(storm)?\b(?! chimes| turbine)"),
    ("fire", r"\bfire (burning|crackling)|\bfireplace|\bflames crackling|\bopen fire"),
    ("helicopter", r"\bhelicopter"),
    ("chainsaw", r"\bchainsaw"),
    ("clock", r"\bclock ticking"),
    ("rooster", r"\brooster"),
    ("chicken", r"\bchickens? (cluck|squawk)|\bhen cluck"),
    ("sneeze", r"\bsneez"),
    ("baby", r"\bbaby"),
    ("cat", r"\bcat meow|\bkitten"),
    ("cow", r"\bcows? moo"),
    ("bull", r"\bbull\b"),
    ("pig", r"\bpig\b"),
    ("sheep", r"\bsheep"),
    ("goat", r"\bgoat"),
    ("horse gallop", r"\bhorse (gallop|trott)|\bhooves"),
    ("horse neigh", r"\bhorse (neigh|whinn)"),
    ("frog", r"\bfrogs?\b"),
    ("owl", r"\bowl\b"),
    ("bees", r"\bbees?\b"),
    ("crickets", r"\bcrickets?\b|\bcicadas"),
    ("bird song", r"\bbirds? (sing|chirp|twitter)|\bbirdsong|\bbirds\b"),
    ("footstep", r"\bfootsteps?\b"),
    ("machine gun", r"\bmachine gun|\bsubmachine"),
    ("gunshot", r"\bgun ?shots?\b|\b(rifle|pistol|handgun|musket) shot|\bshotgun blast"),
    ("sci-fi gun", r"\b(plasma|laser|futuristic) (gun|shot)|\blaser"),
    ("reload", r"\breloaded"),
    ("explosion", r"\bexplosion|\bexploding"),
    ("glass", r"\bglass breaking|\bwindow being smashed"),
    ("keyboard", r"\bkeyboard|\btypewriter"),
    ("pain", r"\bin pain"),
    ("scream", r"\bscream"),
    ("laugh", r"\blaugh"),
    ("swords", r"\bswords? (clash|strik)"),
    ("arrow", r"\barrow"),
    ("people", r"\bpeople (talking|in)|\brestaurant|\bmarket"),
    ("crowd", r"\bcrowd|\baudience|\bapplau"),
    ("stream", r"\b(river|stream|creek)\b|\bwater flowing|\b(flowing|running) water"),
    ("siren", r"\bsiren"),
    ("car horn", r"\bcar horn"),
    ("car engine", r"\bcar engine (running|revving)"),
    ("train", r"\btrain\b|\blocomotive"),
    ("door open", r"\bdoor open"),
    ("door close", r"\bdoor (clos|slam)"),
    ("bell", r"\bbells?\b"),
    ("chop", r"\baxe chopping|\bchopping wood"),
    ("pickaxe", r"\bpickaxe"),
    ("drum", r"\b(drum|tabla|tom|cymbal)\b"),
    ("city", r"\btraffic|\bcars passing"),
    ("machine", r"\bmachine(ry)? (running|humming|hissing|noise)|\bmachinery"),
    ("snoring", r"\bsnor"),
    ("splash", r"\bsplash"),
    ("speech", r"\bspeaking|\bspeech"),
    ("punch", r"\bpunch"),
)

_STEADY = table("""
weather: rain, heavy rain, waves, waterfall, wind, fire, crickets, stream, people, city
machines: helicopter, chainsaw, clock, machine
""")
# Sounds that go on by themselves: these classes, and captions with one of these words.
STEADY_CLASSES = frozenset(_STEADY["weather"] + _STEADY["machines"])
STEADY_WORDS = (
    r"\b(ambience|noise|static|hum|humming|underwater|fountain|traffic|pump|drone flying|locomotive chugging|"
    r"(spaceship|jet|alien|large|small|car) engine( hum| idling| running)?$|lava (rumbling|bubbling))\b"
)

_GRAMMAR = """
prepositions: on, in, of, from, at, with, into, through, past, by, down, out, over, as, during, and, being, between
not verbs: during, something, string, building, sling, swing, sting, crossing, boing, recording, lightning
people: man, woman, person, baby, people, crowd, someone, audience, animal
nominal: bark, meow, moo, growl, croak, hoot, cluck, bleat, grunt, squeak, screech, crow, scream, laugh, sneeze, cough
silent e: bit, breath, explod, fir, ignit, inflat, ris, shak, slid, snor, strik, typ, wad, releas, writ, plung, tak, mak
"""
_NOMINAL = """
calls: chirp, howl, roar, neigh, ring, tick, hiss, bellow, snort, cry, creak, crash, rumble, groan, snore, squeal
"""

_TIMES = """
1: once, one time | 2: twice, two times | 3: three times | 4: four times, several times, repeatedly
5: several times, repeatedly, many times, again and again, over and over | 0: continuously, steadily, without a break
"""
_NUMBERS = "2: two | 3: three | 4: four, several | 5: several, repeated, many"

SYNONYMS = table(_SYNONYMS + _KINDS)
PHRASES = table(_PHRASES + _KIND_PHRASES)
SETTINGS = table(_SETTINGS)
TIMES = {int(count): words for count, words in table(_TIMES).items()}
NUMBERS = {int(count): words for count, words in table(_NUMBERS).items()}
PREPOSITIONS = frozenset(table(_GRAMMAR)["prepositions"])
NOT_VERBS = frozenset(table(_GRAMMAR)["not verbs"])
PEOPLE = frozenset(table(_GRAMMAR)["people"])
NOMINAL = frozenset(table(_GRAMMAR)["nominal"] + table(_NOMINAL)["calls"])  # verbs that name the sound: "dog bark"
SILENT_E = frozenset(table(_GRAMMAR)["silent e"])
PLURALS = {"person": "people", "man": "men", "woman": "women", "wolf": "wolves", "knife": "knives"}
ARTICLES = ("a", "an", "the", "two", "several", "some")
