"""The words that the rules know, by what they do in a sentence; everything else names things."""

from __future__ import annotations

NUMBERS = {
    "a": 1, "an": 1, "one": 1, "single": 1, "another": 1, "two": 2, "three": 3, "four": 4,
    "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
    "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
}  # fmt: skip
GROUPS: dict[tuple[str, ...], int] = {
    ("a", "pair", "of"): 2, ("pair", "of"): 2, ("a", "couple", "of"): 2, ("couple", "of"): 2,
    ("a", "few"): 3, ("few",): 3, ("several",): 3, ("some",): 3, ("half", "a", "dozen"): 6,
    ("a", "dozen"): 12, ("dozen",): 12, ("many",): 5, ("a", "set", "of"): 0,
    ("a", "group", "of"): 0, ("a", "bunch", "of"): 0, ("a", "number", "of"): 0,
}  # fmt: skip
"""Ways to say a number of things; 0 leaves it to what follows."""
EVEN = frozenset("neat straight even long tidy single orderly equal parallel short".split())
"""What rows are that are said to be rows."""
VERY = frozenset("right directly just straight well".split())
"""Words before a connector that only stress it, as in "right behind"."""
DEFINITE = frozenset("the this that these those its their his her my our your both all".split())
SHAPES: dict[tuple[str, ...], str] = {
    ("row", "of"): "row", ("line", "of"): "row", ("rows", "of"): "grid", ("grid", "of"): "grid",
    ("stack", "of"): "stack", ("pile", "of"): "stack", ("tower", "of"): "stack",
    ("rows", "with"): "grid", ("column", "of"): "column",
    ("circle", "of"): "ring", ("ring", "of"): "ring",
}  # fmt: skip
"""Arrangements of the things that follow."""
FILLERS = frozenset(
    """is are was were be being been stands stand standing sits sit sitting lies lie lying rests
    rest resting hangs hang hanging placed put positioned located set arranged there here which
    that who has have having contains contain containing featuring including includes
    include please create make show build draw render place add want would like i we you can see
    directly just also exactly closely neatly evenly right-hand then so very quite really where
    should somebody someone look let together up out of own somewhere anywhere immediately slightly
    imagine too find""".split()
)
"""Words that say nothing about what is where."""
INTRODUCING = frozenset(
    """is are be has have contain contains containing include includes including featuring create
    make show build draw render place add put want""".split()
)
"""Words before a thing that has no article: "create sofa next to table"."""
PERSONS = frozenset("i me we us you he she they somebody someone up together".split())
"""What stands behind a verb and not behind a thing."""
WHOLE = frozenset("room scene setting place".split())
"""What everything is in."""
FRAME = frozenset(
    """i me my we us our you your it it's its is this that here there let lets let's i'm we're i'd
    we'd you're am are be do does have has had going to would like want wants need needs wish love
    please could can should will must imagine picture think thinking of about describe tell show
    shows showing make create build design draw paint render generate model set up give get see
    look looking look at in into on for the a an what where image photo photograph scene view plan
    layout brief client customer user story takes place happens setting consider suppose assume
    start starts begin begins inside standing now today next so just help out with by interior
    try visualise visualize sketch 3d good nice whole simple""".split()
)
"""Words of an opening: what comes before the place that a text is about."""
DETERMINERS = frozenset({*NUMBERS, *DEFINITE, "some", "several", "many", "few", "each", "every"})
"""Words that a noun phrase may begin with."""
PARTICIPLES = frozenset("hung found seen spread laid kept shown held".split())
"""Those that no ending gives away."""
PRONOUNS = frozenset({"it", "them", "they", "each", "itself", "themselves", "one"})

CONNECTORS: dict[str, str] = {
    "on top of": "on", "on": "on", "onto": "on", "atop": "on", "upon": "on", "on to": "on",
    "supported by": "on",
    "underneath": "under", "under": "under", "beneath": "under", "below": "under",
    "into": "inside", "inside of": "inside", "inside": "inside", "in": "inside",
    "within": "inside",
    "next to": "beside", "beside": "beside", "by": "beside", "alongside": "beside",
    "adjacent to": "beside", "at the side of": "beside", "by the side of": "beside",
    "near to": "near", "near": "near", "close to": "near", "nearby": "near", "not far from": "near",
    "in the vicinity of": "near", "a short distance from": "near", "a short way from": "near",
    "a small distance from": "near", "a short distance away from": "near", "close by": "near",
    "vis-a-vis": "opposite",
    "to the left of": "left-of", "on the left of": "left-of", "left of": "left-of",
    "on the left side of": "left-of", "to the left side of": "left-of", "at the left of": "left-of",
    "to the right of": "right-of", "on the right of": "right-of", "right of": "right-of",
    "on the right side of": "right-of", "to the right side of": "right-of",
    "at the right of": "right-of",
    "in front of": "in-front-of", "before": "in-front-of",
    "behind": "behind", "at the back of": "behind", "in back of": "behind",
    "in the rear of": "behind", "at the rear of": "behind", "at the front of": "in-front-of",
    "ahead of": "in-front-of",
    "opposite to": "opposite", "opposite of": "opposite", "opposite": "opposite",
    "across from": "opposite", "facing": "facing", "faces": "facing", "face": "facing",
    "towards": "facing", "toward": "facing", "face to face with": "opposite",
    "looking at": "facing", "turned to": "facing", "turned towards": "facing",
    "pointing at": "facing", "oriented towards": "facing",
    "between": "between", "in between": "between", "halfway between": "between",
    "midway between": "between", "half way between": "between",
    "in the space between": "between", "in the gap between": "between",
    "in the middle between": "between", "among": "between",
    "around": "around", "surrounding": "around", "all around": "around",
    "at": "at",
    "holds": "holds", "hold": "holds", "carries": "holds", "carry": "holds",
    "supports": "holds", "support": "holds",
    "surround": "around", "surrounds": "around", "flank": "flanking", "flanks": "flanking",
    "surrounded by": "surrounded-by", "encircled by": "surrounded-by",
    "above": "above", "over": "above", "hanging over": "above", "hanging above": "above",
    "on either side of": "flanking", "on both sides of": "flanking", "on each side of": "flanking",
    "at either side of": "flanking", "at both sides of": "flanking", "flanking": "flanking",
    "at each side of": "flanking", "to both sides of": "flanking", "to either side of": "flanking",
    "to each side of": "flanking", "at both ends of": "flanking", "at each end of": "flanking",
    "at either end of": "flanking",
    "flanked by": "flanked-by",
    "far from": "far", "far away from": "far", "far off from": "far", "a long way from": "far",
    "a long way away from": "far", "a good distance from": "far", "a good way from": "far",
    "some distance from": "far", "a long way off": "far", "away from": "far", "apart from": "far",
    "from": "far",
    "aligned with": "aligned", "in line with": "aligned", "lined up with": "aligned",
    "parallel to": "parallel", "perpendicular to": "perpendicular",
    "at right angles to": "perpendicular", "at a right angle to": "perpendicular",
    "twice as tall as": "twice", "twice as high as": "twice", "twice the height of": "twice",
    "half the height of": "half", "the same height as": "as-tall", "as tall again as": "twice",
    "twice taller than": "twice", "as tall as": "as-tall",
    "as high as": "as-tall", "half as tall as": "half", "half as high as": "half",
    "taller than": "taller", "higher than": "taller", "bigger than": "larger",
    "larger than": "larger", "smaller than": "smaller", "shorter than": "shorter",
    "leaning against": "beside", "attached to": "beside", "against": "against",
    "along": "against", "with": "with", "holding": "with", "supporting": "with",
    "topped by": "with", "topped with": "with",
}  # fmt: skip
"""Words between things, to what they say; the longest that fits is meant."""
PLACES: dict[str, tuple[str, dict[str, str]]] = {
    "against the wall": ("against-wall", {}), "against a wall": ("against-wall", {}),
    "along the wall": ("against-wall", {}), "along a wall": ("against-wall", {}),
    "by the wall": ("against-wall", {}), "at the wall": ("against-wall", {}),
    "next to the wall": ("against-wall", {}), "along the walls": ("against-wall", {}),
    "against the walls": ("against-wall", {}),
    "against the back wall": ("against-wall", {"wall": "back"}),
    "along the back wall": ("against-wall", {"wall": "back"}),
    "at the back wall": ("against-wall", {"wall": "back"}),
    "against the left wall": ("against-wall", {"wall": "left"}),
    "along the left wall": ("against-wall", {"wall": "left"}),
    "at the left wall": ("against-wall", {"wall": "left"}),
    "against the right wall": ("against-wall", {"wall": "right"}),
    "along the right wall": ("against-wall", {"wall": "right"}),
    "at the right wall": ("against-wall", {"wall": "right"}),
    "on the wall": ("on-wall", {}), "on a wall": ("on-wall", {}), "on the walls": ("on-wall", {}),
    "on the back wall": ("on-wall", {"wall": "back"}),
    "on the left wall": ("on-wall", {"wall": "left"}),
    "on the right wall": ("on-wall", {"wall": "right"}),
    "in the corner": ("in-corner", {}), "in a corner": ("in-corner", {}),
    "in the back corner": ("in-corner", {}), "in one corner": ("in-corner", {}),
    "in the left corner": ("in-corner", {"corner": "left"}),
    "in the back left corner": ("in-corner", {"corner": "left"}),
    "in the right corner": ("in-corner", {"corner": "right"}),
    "in the back right corner": ("in-corner", {"corner": "right"}),
    "in the middle": ("in-centre", {}), "in the centre": ("in-centre", {}),
    "in the center": ("in-centre", {}), "at the centre": ("in-centre", {}),
    "at the center": ("in-centre", {}),
    "on the floor": ("", {}), "on the ground": ("", {}), "in the background": ("background", {}),
    "in the foreground": ("foreground", {}), "from the ceiling": ("ceiling", {}),
    "on the ceiling": ("ceiling", {}), "on the left": ("at-left", {}),
    "on the right": ("at-right", {}), "in the back": ("background", {}),
    "to the left": ("at-left", {}), "to the right": ("at-right", {}),
    "facing each other": ("each-other", {}), "opposite each other": ("each-other", {}),
    "next to each other": ("side-by-side", {}), "beside each other": ("side-by-side", {}),
    "side by side": ("side-by-side", {}), "in a row": ("row", {}), "in a line": ("row", {}),
    "in a grid": ("grid", {}), "in rows": ("grid", {}), "in rows and columns": ("grid", {}),
    "face to face": ("each-other", {}), "one beside the other": ("side-by-side", {}),
    "stacked up": ("stack", {}), "in a circle": ("ring", {}),
    "in a stack": ("stack", {}), "in a pile": ("stack", {}), "in a tower": ("stack", {}),
    "in a ring": ("ring", {}), "one on top of the other": ("stack", {}),
    "one on top of another": ("stack", {}), "on top of one another": ("stack", {}),
    "on top of each other": ("stack", {}),
    "parallel to each other": ("all-parallel", {}), "of the room": ("", {}),
    "part of it": ("", {}), "part of the room": ("", {}),
    "in the room": ("", {}), "of the scene": ("", {}), "on top": ("on-previous", {}),
    "one on each side": ("flank-previous", {}), "one on either side": ("flank-previous", {}),
    "on either side": ("flank-previous", {}), "on both sides": ("flank-previous", {}),
    "on each side": ("flank-previous", {}),
}  # fmt: skip
"""Places that need no other thing, to what they say of whatever is there."""
ROOMS = frozenset(
    """room bedroom kitchen office bathroom study library classroom studio hall hallway lobby cafe
    restaurant bar shop apartment flat salon lounge nursery workshop garage attic basement
    playroom gym""".split()
)
OUTDOORS = frozenset(
    """garden park street yard backyard forest beach field square patio meadow playground terrace
    courtyard road farm campsite plaza""".split()
)
OUTSIDE = frozenset(
    """tree car bus truck fence house fountain lamppost streetlight pine palm bush hedge horse tent
    van motorbike mailbox hydrant swing boat snowman barbecue""".split()
)
"""Things that stand out of doors, and whatever is with them, if nothing is said."""
TOYS = frozenset("toy model miniature".split())
"""Words that make a car one for a shelf."""
SEATS = frozenset("chair stool armchair seat bench".split())
TABLES = frozenset("table desk bar counter island".split())
BIG = frozenset(
    """sofa couch bed table desk wardrobe bookcase bookshelf cabinet cupboard dresser chair armchair
    car tree house piano fridge refrigerator oven rug carpet bench bathtub shelf nightstand
    fireplace bus truck stove person man woman horse fence""".split()
)
"""Things that do not stand on others, when two are named before "on"."""
LENGTHS = {
    "m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0, "cm": 0.01,
    "centimetre": 0.01, "centimeter": 0.01, "centimetres": 0.01, "centimeters": 0.01, "mm": 0.001,
    "ft": 0.3048, "foot": 0.3048, "feet": 0.3048, "inch": 0.0254, "inches": 0.0254, "in": 0.0254,
}  # fmt: skip
DIMENSIONS = {
    "wide": "width", "width": "width", "across": "width", "long": "width", "deep": "depth",
    "depth": "depth", "tall": "height", "high": "height", "height": "height",
}  # fmt: skip
SURROUNDINGS = frozenset("wall floor ground ceiling corner grass lawn sky side front back".split())
ON_WALLS = frozenset("picture painting poster mirror clock photograph".split())
IN_WALLS = frozenset({"window", "door"})
"""What is a part of the wall that it is in."""
HANGING = frozenset({"chandelier"})
AT_WALLS = frozenset(
    """bed wardrobe bookcase bookshelf cupboard dresser fridge refrigerator stove oven cooker sink
    washbasin toilet bathtub shower dishwasher fireplace sideboard blackboard whiteboard""".split()
)
"""What stands with its back to a wall in any room, if nothing is said."""
BACK = frozenset({"it", "them"})
CONTAINERS = frozenset(
    """bowl vase basket box crate pot flowerpot bag bin can bucket fireplace cage jar glass mug cup
    drawer trunk suitcase tray fridge wardrobe bookcase bookshelf shelf cupboard cabinet sink
    bathtub aquarium pan dish chest cart trolley kennel pond pool""".split()
)
"""What something small may be in."""
STANDING = frozenset(
    "chair stool plant suitcase can bicycle bike guitar lamp bench person dog".split()
)
"""What is not large and stands on the floor all the same."""
SIDEWAYS = {
    "at-left": "left-of", "at-right": "right-of", "background": "behind",
    "foreground": "in-front-of",
}  # fmt: skip
SCREENS = frozenset("tv television telly screen blackboard whiteboard fireplace".split())
"""What is looked at from its front."""
