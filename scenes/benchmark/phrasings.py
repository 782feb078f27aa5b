"""How the benchmark says things: phrasings of each fact for each split, none in two splits.

``{a}`` is the subject, ``{b}`` and ``{c}`` are hosts, in capitals at the beginning of a sentence;
``{be}`` and other verbs agree with the subject, ``{be_b}`` with the first host. ``{h}`` is the host
in the singular, ``{v}`` a number, ``{w}`` a wall or a corner. The first phrasing of three is a noun
phrase of a list, the others are sentences.

What a planner is mended by are the phrasings of train and dev. Those of test were written by
someone who had not read the planner, and nobody but the evaluation looks at what becomes of them.
All but the first three of dev were those of test once, and moved when they had been answered
(docs/lab-notes.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Three = tuple[str, str, str]


PHRASINGS: dict[str, tuple[Three, ...]] = {
    "exists": (
        ("{a}", "There {be} {a}.", "{A} {stand} there."),
        ("also {a}", "There {be} also {a}.", "{A} {be} there, too."),
        ("as well as {a}", "{A} {be} part of it.", "You also see {a}."),
        ("{a} somewhere", "Add {a}.", "It has {a}."),
        ("{a} in there too", "I would also like {a}.", "You can find {a} here."),
        ("{a} as well", "Please include {a}.", "Don't forget {a}."),
    ),
    "on": (
        ("{a} on {b}", "{A} {stand} on {b}.", "On {b} there {be} {a}."),
        ("{a} on top of {b}", "{A} {be} placed on {b}.", "{B} {hold_b} {a}."),
        ("{b} with {a} on it", "{A} {rest} on top of {b}.", "On top of {b} {sit} {a}."),
        ("{a} placed on {b}", "Put {a} on {b}.", "There {be} {a} lying on {b}."),
        ("{a} that {sit} on top of {b}", "You can see {a} on {b}.", "You see {b} with {a} on top."),
        ("{a} sitting on {b}", "{A} should go on {b}.", "Somebody left {a} on {b}."),
    ),
    "left-of": (
        ("{a} to the left of {b}", "{A} {stand} left of {b}.",
         "To the left of {b} there {be} {a}."),
        ("{a} on the left of {b}", "{A} {be} to the left of {b}.",
         "On the left side of {b} {be} {a}."),
        ("{a} left of {b}", "{A} {have} been placed on the left side of {b}.",
         "Left of {b} {stand} {a}."),
        ("{a} at the left of {b}", "Put {a} to the left of {b}.", "{B} {have_b} {a} to its left."),
        ("{b} with {a} on its left", "I'd like {a} to the left of {b}.",
         "On the left-hand side of {b} you can see {a}."),
        ("{b} with {a} to the left of it", "Place {a} on the left side of {b}.",
         "Look to the left of {b} and there {be} {a}."),
    ),
    "right-of": (
        ("{a} to the right of {b}", "{A} {stand} right of {b}.",
         "To the right of {b} there {be} {a}."),
        ("{a} on the right of {b}", "{A} {be} to the right of {b}.",
         "On the right side of {b} {be} {a}."),
        ("{a} right of {b}", "{A} {have} been placed on the right side of {b}.",
         "Right of {b} {stand} {a}."),
        ("{a} at the right of {b}", "Put {a} to the right of {b}.",
         "{B} {have_b} {a} to its right."),
        ("{b} with {a} on its right", "You'll find {a} to the right of {b}.",
         "{A} can be seen on the right-hand side of {b}."),
        ("{b} with {a} over to the right", "{A} should go to the right of {b}.",
         "There {be} {a} just to the right of {b}."),
    ),
    "in-front-of": (
        ("{a} in front of {b}", "{A} {stand} in front of {b}.", "In front of {b} there {be} {a}."),
        ("{b} and in front of it {a}", "{A} {be} placed in front of {b}.",
         "In front of {b} {be} {a}."),
        ("{b} with {a} in front of it", "{A} can be found in front of {b}.",
         "Directly in front of {b} {stand} {a}."),
        ("{a} standing in front of {b}", "Put {a} in front of {b}.",
         "{B} {have_b} {a} in front of it."),
        ("{a} that {stand} in front of {b}", "In front of {b} I would like to have {a}.",
         "You can see {a} in front of {b}."),
        ("{a} placed in front of {b}", "{A} should go in front of {b}.",
         "Just in front of {b}, somebody has put {a}."),
    ),
    "behind": (
        ("{a} behind {b}", "{A} {stand} behind {b}.", "Behind {b} there {be} {a}."),
        ("{b} and behind it {a}", "{A} {be} right behind {b}.", "Behind {b} {be} {a}."),
        ("{b} with {a} behind it", "{A} {have} been put behind {b}.",
         "At the back of {b} {stand} {a}."),
        ("{a} standing behind {b}", "Put {a} behind {b}.", "{B} {have_b} {a} behind it."),
        ("{b} that {have_b} {a} behind it", "I'd like {a} to stand behind {b}.",
         "Behind {b}, you can see {a}."),
        ("{a} in the space behind {b}", "{A} should be placed behind {b}.",
         "If you look behind {b}, there {be} {a}."),
    ),
    "beside": (
        ("{a} next to {b}", "{A} {stand} beside {b}.", "Next to {b} there {be} {a}."),
        ("{a} beside {b}", "{A} {be} right next to {b}.", "Beside {b} {stand} {a}."),
        ("{a} by the side of {b}", "{A} {have} been put next to {b}.", "Adjacent to {b} {be} {a}."),
        ("{a} right beside {b}", "Put {a} next to {b}.", "{A} {stand} alongside {b}."),
        ("{b} with {a} beside it", "I'd like {a} next to {b}.",
         "At the side of {b} you can see {a}."),
        ("{a} adjacent to {b}", "Position {a} right beside {b}.", "{A} and {b} are side by side."),
    ),
    "near": (
        ("{a} near {b}", "{A} {be} close to {b}.", "Near {b} there {be} {a}."),
        ("{a} close to {b}", "{A} {stand} near {b}.", "Near to {b} {be} {a}."),
        ("{a} not far from {b}", "{A} {be} placed near {b}.", "Close to {b} {stand} {a}."),
        ("{a} close by {b}", "Put {a} near {b}.", "{A} {be} found near {b}."),
        ("{b} with {a} nearby", "{A} should be close to {b}.", "Not far from {b} you can see {a}."),
        ("{a} a short distance from {b}", "Keep {a} close to {b}.",
         "There {be} {a} somewhere near {b}."),
    ),
    "far": (
        ("{a} far from {b}", "{A} {stand} far away from {b}.", "Far from {b} there {be} {a}."),
        ("{a} far away from {b}", "{A} {be} placed away from {b}.", "Away from {b} {stand} {a}."),
        ("{a} well away from {b}", "{A} {be} far from {b}.", "Far away from {b} {be} {a}."),
        ("{a} a long way from {b}", "Put {a} far away from {b}.", "{A} {stand} far off from {b}."),
        ("{a} at a great distance from {b}", "I'd like {a} to be far from {b}.",
         "A long way from {b} you can see {a}."),
        ("{b} with {a} far away from it", "Keep {a} well away from {b}.",
         "{A} {be} nowhere near {b}."),
    ),
    "distance": (
        ("{a} {v} metres from {b}", "{A} {stand} {v} metres from {b}.",
         "{v} metres from {b} there {be} {a}."),
        ("{a} {v} m away from {b}", "{A} {be} {v} m from {b}.",
         "{v} metres away from {b} {stand} {a}."),
        ("{a} at a distance of {v} metres from {b}", "{A} {be} placed {v} metres away from {b}.",
         "{v} m from {b} {be} {a}."),
        ("{a}, {v} metres from {b}", "Put {a} {v} metres away from {b}.",
         "{A} and {b} are {v} metres apart."),
        ("{b} with {a} {v} metres away", "Leave {v} metres between {a} and {b}.",
         "There {be} {a} at a distance of {v} metres from {b}."),
        ("{a} standing {v} m from {b}", "The distance between {a} and {b} should be {v} metres.",
         "If you walk {v} metres from {b}, you get to {a}."),
    ),
    "around": (
        ("{b} with {a} around it", "{A} {stand} around {b}.", "Around {b} there {be} {a}."),
        ("{a} around {b}", "{A} {be} arranged around {b}.", "{B} {be_b} surrounded by {a}."),
        ("{b} surrounded by {a}", "{A} {be} placed all around {b}.",
         "Evenly around {b} {stand} {a}."),
        ("{a} grouped around {b}", "Put {a} around {b}.", "{B} {have_b} {a} around it."),
        ("{a} that {stand} around {b}", "{A} surround {b}.", "You see {b} with {a} all around it."),
        ("{b} with {a} placed all around", "Arrange {a} around {b}.",
         "{B} {be_b} in the middle of {a}."),
    ),
    "around-each": (
        ("{b}, each with {a} around it", "There {be_b} {b}, each with {a} around it.",
         "There {be_b} {b}. Around each {h} there {be} {a}."),
        ("{b} with {a} around each {h}", "There {be_b} {b} and {a} around each {h}.",
         "There {be_b} {b}. Each {h} is surrounded by {a}."),
        ("{b}, each surrounded by {a}", "{B} {stand_b} there, each with {a} around it.",
         "There {be_b} {b}. {A} {stand} around each {h}."),
        ("{b} with {a} around each one", "Put {a} around each of {b}.",
         "There {be_b} {b}, and around every {h} there {be} {a}."),
        ("{b} that each have {a} around them",
         "I'd like {b}, and each {h} should have {a} around it.",
         "You can see {b}, every one of them surrounded by {a}."),
        ("{b}, every {h} with {a} around it", "Provide {b}, and arrange {a} around every {h}.",
         "There {be_b} {b}, and each of them has {a} around it."),
    ),
    "on-each": (
        ("{b} with {a} on each {h}", "There {be_b} {b}, each with {a} on it.",
         "There {be_b} {b}. On each {h} there {be} {a}."),
        ("{b}, each with {a} on it", "There {be_b} {b} and {a} on each {h}.",
         "There {be_b} {b}. {A} {stand} on each {h}."),
        ("{b} with {a} on each", "{B} {stand_b} there, each with {a} on top.",
         "There {be_b} {b}. Each {h} has {a} on it."),
        ("{b} with {a} on each one", "Put {a} on each of {b}.",
         "There {be_b} {b}, and on every {h} there {be} {a}."),
        ("{b} that each have {a} on top",
         "I'd like {b}, and there should be {a} on top of every {h}.",
         "You can see {b}, and {a} {stand} on every one of them."),
        ("{b}, every {h} with {a} on top", "Set out {b}, and place {a} on each {h}.",
         "There {be_b} {b}, and every one of them has {a} on top."),
    ),
    "flank": (
        ("{b} flanked by {a}", "{A} {stand} on either side of {b}.",
         "On both sides of {b} there {be} {a}."),
        ("{a} flanking {b}", "{A} {be} placed on both sides of {b}.", "{B} {be_b} flanked by {a}."),
        ("{a} on either side of {b}", "{A} {be} set on each side of {b}.",
         "At either side of {b} {stand} {a}."),
        ("{a} to both sides of {b}", "Put {a} on either side of {b}.",
         "{B} {have_b} {a} on both sides."),
        ("{b} with {a} on either side", "{A} flank {b}.",
         "You can see {b} with {a}, one on each side."),
        ("{b} with {a} at its sides", "Place {a} so that there is one on each side of {b}.",
         "There {be} {a}, one to the left of {b} and one to the right."),
    ),
    "between": (
        ("{a} between {b} and {c}", "{A} {stand} between {b} and {c}.",
         "Between {b} and {c} there {be} {a}."),
        ("{a} placed between {b} and {c}", "{A} {be} between {b} and {c}.",
         "Between {b} and {c} {stand} {a}."),
        ("{a} in between {b} and {c}", "{A} {be} located between {b} and {c}.",
         "In between {b} and {c} {be} {a}."),
        ("{a} halfway between {b} and {c}", "Put {a} between {b} and {c}.",
         "{A} {be} placed in the space between {b} and {c}."),
        ("{b} and {c} with {a} between them", "I'd like {a} to go between {b} and {c}.",
         "You can see {a} with {b} on one side and {c} on the other."),
        ("{a} in the gap between {b} and {c}", "{A} should go in between {b} and {c}.",
         "Somebody put {a} right in the middle between {b} and {c}."),
    ),
    "row": (
        ("a row of {a}", "{A} {stand} in a row.", "There is a row of {a}."),
        ("{a} in a row", "{A} {be} lined up in a row.", "There is a line of {a}."),
        ("a line of {a}", "{A} {be} placed side by side.", "A row of {a} can be seen."),
        ("{a} side by side in a row", "Put {a} in a row.", "{A} {form} a row."),
        ("{a} arranged in a line", "I'd like {a} next to each other in a row.",
         "You can see {a} lined up side by side."),
        ("{a} lined up next to each other", "Arrange {a} in a single row.",
         "There {be} {a}, all in a line."),
    ),
    "grid": (
        ("{v} rows of {a}", "There are {v} rows of {a}.", "{v} rows of {a} stand there."),
        ("{v} rows of {a} each", "There are {v} rows with {a} each.", "We see {v} rows of {a}."),
        ("{v} rows with {a} each", "{v} rows of {a} fill the place.",
         "There are {v} rows, each of {a}."),
        ("{v} neat rows of {a}", "Put {v} rows of {a} there.",
         "There are {v} rows and {a} in each row."),
        ("{a} in each of {v} rows", "I'd like {v} rows with {a} in each row.",
         "You can see {v} rows, and each of them has {a}."),
        ("{v} rows with {a} in each", "Provide {v} rows, with {a} per row.",
         "There are {v} rows in all, and every row has {a}."),
    ),
    "stack": (
        ("a stack of {a}", "{A} {stand} on top of each other.", "There is a stack of {a}."),
        ("{a} in a stack", "{A} {be} piled on top of each other.", "There is a pile of {a}."),
        ("a pile of {a}", "{A} {be} put on top of each other.", "A tower of {a} stands there."),
        ("{a} stacked on top of each other", "Stack {a} on top of each other.",
         "{A} {form} a stack."),
        ("{a} piled one on top of another", "{A} {be} stacked up in a pile.",
         "You can see {a}, one on top of the other."),
        ("{a} all piled up", "Arrange {a} in a neat stack.", "Somebody made a pile out of {a}."),
    ),
    "against-wall": (
        ("{a} against {w}", "{A} {stand} against {w}.", "Against {w} there {be} {a}."),
        ("{a} along {w}", "{A} {be} placed along {w}.", "Along {w} {stand} {a}."),
        ("{a} at {w}", "{A} {be} set against {w}.", "Up against {w} {be} {a}."),
        ("{a} standing against {w}", "Put {a} against {w}.", "{A} {be} pushed up against {w}."),
        ("{a} with its back against {w}", "I'd like {a} right up against {w}.",
         "You can see {a} standing along {w}."),
        ("{a} up against {w}", "Position {a} with its back to {w}.",
         "There {be} {a} pushed against {w}."),
    ),
    "on-wall": (
        ("{a} on {w}", "{A} {hang} on {w}.", "On {w} there {be} {a}."),
        ("{a} hanging on {w}", "{A} {be} mounted on {w}.", "On {w} {hang} {a}."),
        ("{a} hung on {w}", "{A} {be} hanging on {w}.", "There {be} {a} on {w}."),
        ("{a} mounted on {w}", "Hang {a} on {w}.", "On {w} {be} {a}."),
        ("{a} attached to {w}", "You can see {a} hanging on {w}.", "{w} has {a} hanging on it."),
        ("{a} up on {w}", "{A} should hang on {w}.",
         "If you look at {w}, there {be} {a} hanging there."),
    ),
    "in-corner": (
        ("{a} in {w}", "{A} {stand} in {w}.", "In {w} there {be} {a}."),
        ("{a} in {w} of the room", "{A} {be} placed in {w}.", "In {w} of the room {stand} {a}."),
        ("{a} tucked into {w}", "{A} {be} in {w} of the room.", "In {w} {sit} {a}."),
        ("{a} standing in {w}", "Put {a} into {w}.", "{A} {have} been put in {w}."),
        ("{a} that {stand} in {w}", "You will find {a} in {w} of the room.",
         "{w} of the room has {a} in it."),
        ("{a} over in {w}", "Use {w} for {a}.", "Over in {w} of the room, there {be} {a}."),
    ),
    "in-centre": (
        ("{a} in the middle of the room", "{A} {stand} in the middle of the room.",
         "In the middle of the room there {be} {a}."),
        ("{a} in the centre of the room", "{A} {be} in the middle of the room.",
         "In the centre of the room {stand} {a}."),
        ("{a} at the centre of the room", "{A} {be} placed in the centre of the room.",
         "In the very middle of the room {be} {a}."),
        ("{a} standing in the middle of the room", "Put {a} in the middle of the room.",
         "{A} {be} at the centre of the room."),
        ("{a} placed centrally in the room", "I'd like {a} right in the centre of the room.",
         "The middle of the room is taken up by {a}."),
        ("{a} in the middle of the floor", "Centre {a} in the room.",
         "There {be} {a} right in the middle of the room."),
    ),
    "facing": (
        ("{a} facing {b}", "{A} {face} {b}.", "There {be} {a} facing {b}."),
        ("{a} turned towards {b}", "{A} {be} looking at {b}.", "Facing {b} there {be} {a}."),
        ("{a} looking at {b}", "{A} {be} turned to {b}.", "Facing {b} {stand} {a}."),
        ("{a} that {face} {b}", "Turn {a} towards {b}.", "{A} {be} facing {b}."),
        ("{a} positioned to face {b}", "I'd like {a} to be turned towards {b}.",
         "{A} {face} in the direction of {b}."),
        ("{a} oriented towards {b}", "{A} should face {b}.", "There {be} {a} looking towards {b}."),
    ),
    "opposite": (
        ("{a} opposite {b}", "{A} {stand} opposite {b}.", "Opposite {b} there {be} {a}."),
        ("{a} across from {b}", "{A} {be} opposite {b}.", "Across from {b} {stand} {a}."),
        ("{a} directly opposite {b}", "{A} {be} placed across from {b}.", "Opposite {b} {be} {a}."),
        ("{a} standing opposite {b}", "Put {a} opposite {b}.", "{A} and {b} face each other."),
        ("{b} with {a} across from it", "I'd like {a} and {b} opposite each other.",
         "You can see {a} directly across from {b}."),
        ("{a} face to face with {b}", "Position {a} directly across from {b}.",
         "{A} and {b} are right across from each other."),
    ),
    "under": (
        ("{a} under {b}", "{A} {lie} under {b}.", "Under {b} there {be} {a}."),
        ("{a} underneath {b}", "{A} {be} under {b}.", "Beneath {b} {lie} {a}."),
        ("{a} beneath {b}", "{A} {be} spread underneath {b}.", "Underneath {b} {be} {a}."),
        ("{a} spread out under {b}", "Put {a} under {b}.", "{B} {stand_b} on {a}."),
        ("{b} with {a} under it", "I'd like {a} to lie under {b}.",
         "You can see {b}, and under it {lie} {a}."),
        ("{b} standing on {a}", "{A} should go underneath {b}.",
         "There {be} {a} on the floor under {b}."),
    ),
    "size": (
        ("{a} {v} m {w}", "There {be} {a}, {v} m {w}.", "{A} {v} m {w} {stand} there."),
        ("{a}, {v} metres {w}", "There {be} {a} that {be} {v} m {w}.", "{A} {be} {v} m {w}."),
        ("{a} that {be} {v} m {w}", "There {be} {a} which {be} {v} metres {w}.",
         "{A} {v} metres {w} can be seen."),
        ("{a} about {v} metres {w}", "Add {a} that {be} {v} metres {w}.",
         "It has {a} {v} metres {w}."),
        ("{a} measuring {v} m {w}", "I'd like {a}, and it should be {v} metres {w}.",
         "You can see {a} here that {be} {v} metres {w}."),
        ("{a}, which {be} {v} metres {w}", "{A} should be {v} metres {w}.",
         "There {be} {a}, and it's {v} metres {w}."),
    ),
    "taller": (
        ("{a} twice as tall as {b}", "{A} {be} twice as tall as {b}.",
         "There {be} {a} twice as tall as {b}."),
        ("{a} twice as high as {b}", "{A} {be} twice as high as {b}.",
         "There {be} {a} twice as high as {b}."),
        ("{a} that {be} twice as tall as {b}", "{A} {stand} there, twice as tall as {b}.",
         "There {be} {a} which {be} twice as high as {b}."),
        ("{a}, twice as tall as {b}", "Make {a} twice as tall as {b}.",
         "{A} {be} twice the height of {b}."),
        ("{a} double the height of {b}", "I'd like {a} that {be} twice the height of {b}.",
         "You can see {b}, and {a} that {be} twice as tall."),
        ("{a} with twice the height of {b}", "The height of {a} should be twice that of {b}.",
         "There {be} {a}, and it's two times as tall as {b}."),
    ),
    "parallel": (
        ("{a} parallel to {b}", "{A} {stand} parallel to {b}.", "Parallel to {b} there {be} {a}."),
        ("{a} set parallel to {b}", "{A} {be} parallel to {b}.", "Parallel to {b} {stand} {a}."),
        ("{a} placed parallel to {b}", "{A} {have} been set parallel to {b}.",
         "Parallel to {b} {be} {a}."),
        ("{a} lined up parallel to {b}", "Put {a} parallel to {b}.",
         "{A} {be} placed parallel to {b}."),
        ("{b} with {a} parallel to it", "{A} and {b} are parallel to each other.",
         "You can see {a} aligned parallel with {b}."),
        ("{a} in parallel with {b}", "Align {a} so that it is parallel to {b}.",
         "There {be} {a}, and it stands parallel to {b}."),
    ),
    "perpendicular": (
        ("{a} perpendicular to {b}", "{A} {stand} perpendicular to {b}.",
         "Perpendicular to {b} there {be} {a}."),
        ("{a} at right angles to {b}", "{A} {be} perpendicular to {b}.",
         "Perpendicular to {b} {stand} {a}."),
        ("{a} at a right angle to {b}", "{A} {have} been set perpendicular to {b}.",
         "At right angles to {b} {stand} {a}."),
        ("{a} turned perpendicular to {b}", "Put {a} at right angles to {b}.",
         "{A} {be} at right angles to {b}."),
        ("{a} at 90 degrees to {b}", "I'd like {a} placed perpendicular to {b}.",
         "{A} and {b} are at right angles to each other."),
        ("{a} forming a right angle with {b}", "Position {a} at 90 degrees to {b}.",
         "There {be} {a}, and it makes a right angle with {b}."),
    ),
}  # fmt: skip
"""By fact: of train, four times of dev, and of test."""
OPENINGS: tuple[Three, ...] = (
    ("A {place} with ", "A {place}. ", "This is a {place}. "),
    ("Show a {place} with ", "There is a {place}. ", "Imagine a {place}. "),
    ("Create a {place} containing ", "We are in a {place}. ", "Picture a {place}. "),
    ("I want a {place} with ", "The scene is a {place}. ", "Here is a {place}. "),
    (
        "Please build me a {place} that has ",
        "Let's make a {place}. ",
        "You are looking at a {place}. ",
    ),
    ("We need a {place} with ", "Please design a {place}. ", "Let me tell you about a {place}. "),
)
"""How a text begins."""
WAYS: dict[Split, range] = {"train": range(3), "dev": range(3, 15), "test": range(15, 18)}
"""The phrasings of each split, by number: three for each entry."""
VERBS: dict[str, tuple[str, str]] = {
    "be": ("is", "are"), "have": ("has", "have"), "stand": ("stands", "stand"),
    "sit": ("sits", "sit"), "rest": ("rests", "rest"), "hold": ("holds", "hold"),
    "hang": ("hangs", "hang"), "lie": ("lies", "lie"), "face": ("faces", "face"),
    "form": ("forms", "form"),
}  # fmt: skip
"""Of one, and of several."""
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


@dataclass(frozen=True)
class Fact:
    """One thing that is said: a key of :data:`PHRASINGS` with its nouns and numbers."""

    kind: str
    names: tuple[str, ...]
    """Subject, then hosts."""
    counts: tuple[int, ...]
    """As they are said, so that "each with six chairs" is 6."""
    value: str = ""
    word: str = ""


def tell(way: int, place: str, facts: Sequence[Fact]) -> str:
    """A text that says ``facts`` in turn, in phrasing ``way``."""
    group, way = divmod(way, 3)
    opening = OPENINGS[group][way].format(place=place)
    if place[0] in "aeiou":
        opening = opening.replace(f"a {place}", f"an {place}").replace(f"A {place}", f"An {place}")
    mentioned: set[str] = set()
    said = [_said(fact, PHRASINGS[fact.kind][group][way], mentioned) for fact in facts]
    if way == 0:
        return f"{opening}{', '.join(said[:-1])}{' and ' * (len(said) > 1)}{said[-1]}."
    return opening + " ".join(said)


def _said(fact: Fact, template: str, mentioned: set[str]) -> str:
    """A template with its nouns: new ones with their number, others with the definite article."""
    names = dict(zip("abc", zip(fact.names, fact.counts, strict=True), strict=False))
    words = {key: _noun(name, count, name in mentioned) for key, (name, count) in names.items()}
    mentioned.update(fact.names)
    counts = {key: count for key, (_, count) in names.items()}

    def fill(match: re.Match[str]) -> str:
        key = match[1]
        if key.lower() in words:
            text = words[key.lower()]
            return text[0].upper() + text[1:] if key.isupper() else text
        if key == "h":
            return fact.names[1]
        if key in ("v", "w"):
            return fact.value if key == "v" else fact.word
        verb, _, of = key.partition("_")
        return VERBS[verb][counts[of or "a"] > 1]

    said = re.sub(r"\{(\w+)\}", fill, template)
    return said[0].upper() + said[1:] if template[-1] == "." else said


def _noun(name: str, count: int, known: bool) -> str:
    noun = name if count == 1 else _plural(name)
    if known:
        return f"the {noun}"
    if count == 1:
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return f"{spoken(count)} {noun}"


def spoken(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _plural(name: str) -> str:
    special = {"shelf": "shelves", "man": "men", "woman": "women"}
    first, _, last = name.rpartition(" ")
    many = special.get(last) or last + ("es" if last[-1] in "xsh" else "s")
    return f"{first} {many}".strip()
