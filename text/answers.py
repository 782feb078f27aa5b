"""Answers: how they are found in what a model wrote, and when two of them are the same.

Two readings of one output. *Strict* takes only the format that the prompt asks for: the output ends
with the answer phrase (``The answer is 12.``) and nothing after it. *Flexible* takes what was
stated last, in whatever form (``####``, ``\\boxed{}``, an answer phrase of any language), or else
the last number. Both are reported: a model that learns the format looks as if it learnt to reason
(arXiv 2412.02674, section 5), and only the two side by side tell which it was.

An answer has a kind, which its task names in ``meta["kind"]``:

| kind | the same when |
|---|---|
| number | equal as exact fractions, whatever the notation, unit or currency |
| choice | the same letter |
| boolean | both true or both false |
| expression | it reaches the task's target with the task's numbers (countdown, game24) |
| code | its program passes the task's tests, in the sandbox (:mod:`text.programs`) |
| text | equal once spacing, case and LaTeX dressing are gone |
| span | the words are those of one of the reference's spans (DROP); :func:`f1` is the degree |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal, get_args

from common.errors import UserError
from common.records import Candidate, Task
from common.stages import Context
from text.numbers import NUMBER, normal, parse, plain

Kind = Literal["number", "choice", "boolean", "expression", "code", "text", "span"]
SPANS = " | "
"""Between the spans of a reference, each of which is right."""

PHRASES: Mapping[str, str] = {
    "en": "The answer is",
    "es": "La respuesta es",
    "fr": "La réponse est",
    "de": "Die Antwort ist",
    "ru": "Ответ:",
    "zh": "答案是",
}
"""What stands before the answer, by language; English where a language has none."""

_STATED = re.compile(
    r"(?:answer|respuesta|réponse|antwort|ответ|答案)(?:\s+final[e]?)?\s*(?:is|es|est|ist|是|为)?"
    r"\s*[:：]?\s*",
    re.IGNORECASE,
)
_HASHES = re.compile(r"####")
_BOXED = re.compile(r"\\boxed\s*\{")
_LETTER = re.compile(r"\(?\b([A-J])\b\)?")
_TRUTH = {
    "true": ("true", "yes", "correct", "sí", "verdadero", "oui", "vrai", "ja", "wahr", "да",
             "верно", "是", "对"),
    "false": ("false", "no", "incorrect", "falso", "non", "faux", "nein", "falsch", "нет",
              "неверно", "不是", "不对", "否"),
}  # fmt: skip
_TRUTHS = re.compile(
    "|".join(
        rf"\b(?P<{value}>{'|'.join(sorted(words, key=len, reverse=True))})\b"
        for value, words in _TRUTH.items()
    ),
    re.IGNORECASE,
)


def kind_of(task: Task) -> Kind:
    """The kind of the task's answer; ``number`` where the task does not say.

    Raises:
        UserError: there is no such kind.
    """
    kind = task.meta.get("kind", "number")
    if kind not in get_args(Kind):
        raise UserError(f"task {task.id} wants a {kind!r}", f"use {', '.join(get_args(Kind))}")
    found: Kind = kind
    return found


def phrase(answer: str, language: str = "en") -> str:
    """The sentence that states ``answer`` in the format that prompts ask for."""
    stop = "。" if language == "zh" else "."
    lead = PHRASES.get(language, PHRASES["en"])
    return f"{lead}{'' if language == 'zh' else ' '}{answer}{stop}"


def flexible(output: str, kind: Kind = "number", language: str = "en") -> str | None:
    """What the output gives as its answer, in canonical form; None if it gives none."""
    if kind == "code":  # the head of the function belongs to it: text.programs.answer_of
        return output
    text = normal(output)
    for end in reversed(_statements(text)):
        found = _read(text[end:], kind, language, first=True)
        if found is not None:
            return found
    return _read(text, kind, language, first=False)


def strict(output: str, kind: Kind = "number", language: str = "en") -> str | None:
    """The answer of an output that ends as the prompt asks, in canonical form; else None.

    The last line ends with the language's answer phrase, one answer, and at most a full stop.
    """
    if kind == "code":
        return output
    last = output.strip().rsplit("\n", 1)[-1]
    lead = PHRASES.get(language, PHRASES["en"])
    _, found, answer = last.rpartition(lead)
    if not found:
        return None
    answer = re.sub(r"\s*[.。]$", "", answer.strip())
    return canonical(answer, kind, language)


def canonical(answer: str, kind: Kind = "number", language: str = "en") -> str | None:
    """The one way to write the answer ``answer``, which holds nothing else; None if it is none."""
    if kind == "code":
        return answer
    answer = normal(answer).strip()
    if kind == "number":
        value = parse(answer, language)
        return None if value is None else plain(value)
    if kind == "choice":
        letter = re.fullmatch(r"\(?([A-Ja-j])\)?[.:]?(?:\s.*)?", answer)
        return letter[1].upper() if letter else None
    if kind == "boolean":
        found = _TRUTHS.fullmatch(answer)
        return found.lastgroup if found else None
    if kind == "expression":
        from text.tasks.countdown import tidy

        return tidy(answer)
    if kind == "span":
        return " ".join(_words(answer)) or None
    return _undressed(answer) or None


def same(given: str, reference: str, kind: Kind = "number", language: str = "en") -> bool:
    """Whether two answers are the same; symmetric. A reference is written as people write it.

    A number with a percent sign is the number before it, as in most answer keys, and its hundredth
    too if only one of the two has the sign.
    """
    if kind in ("expression", "code"):
        raise ValueError(f"{kind} is checked against its task: see correct")
    if kind == "span":
        return any(f1(given, one) == 1 for one in reference.split(SPANS))
    if kind == "text":
        left, right = parse(given, language), parse(reference, language)
        if left is not None and right is not None:
            return left == right
    first, second = canonical(given, kind, language), canonical(reference, kind, language)
    if first is None or second is None:
        return False
    if first == second:
        return True
    signs = ["%" in given, "%" in reference]
    if kind == "number" and any(signs) and not all(signs):
        small = Fraction(first) / 100 if signs[0] else Fraction(first)
        large = Fraction(second) / 100 if signs[1] else Fraction(second)
        return small == large
    return False


def f1(given: str, reference: str) -> float:
    """How far the words of two texts agree, as DROP and SQuAD count: F1 over bags of words.

    Articles, case and punctuation do not count. A reference that holds numbers, of which the text
    has none, gets nothing (DROP's rule). Of several spans in the reference the best counts.
    """
    best = 0.0
    said = Counter(_words(given))
    for span in reference.split(SPANS):
        wanted = Counter(_words(span))
        numbers = {word for word in wanted if word[0].isdigit()}
        common = sum((said & wanted).values())
        if common and (not numbers or numbers & said.keys()):
            best = max(best, 2 * common / (sum(said.values()) + sum(wanted.values())))
    return best


def correct(task: Task, answer: str | None) -> bool:
    """Whether ``answer`` solves ``task``.

    Raises:
        UserError: the task has no reference to compare with.
    """
    if task.reference is None:
        raise UserError(
            f"task {task.id} has no reference answer", "use a method that judges without one"
        )
    if answer is None:
        return False
    kind = kind_of(task)
    if kind == "expression":
        from text.tasks.countdown import reaches

        every = bool(task.meta.get("every"))
        return reaches(answer, task.meta["numbers"], int(task.reference), every)
    if kind == "code":
        from text.programs import hidden_of, run_tests

        return run_tests([(answer, hidden_of(task))])[0].all
    return same(answer, task.reference, kind, task.language)


class AnswerJudge:
    """``correct`` by the flexible reading, ``strict`` by the strict one; each 1 or 0.

    The flexible answer is ``candidate.answer`` where a proposer put one.
    """

    def judge(
        self,
        tasks: Mapping[str, Task],
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        """Raises :class:`UserError` for a task without a reference."""
        programs = [c for c in candidates if kind_of(tasks[c.task]) == "code"]
        by_tests: dict[str, dict[str, float]] = {}
        if programs:
            from text.programs import judge

            by_tests = dict(zip((c.id for c in programs), judge(tasks, programs), strict=True))
        scores = []
        for candidate in candidates:
            if candidate.id in by_tests:
                scores.append(by_tests[candidate.id])
                continue
            task = tasks[candidate.task]
            kind = kind_of(task)
            free = candidate.answer
            if free is None:
                free = flexible(candidate.output, kind, task.language)
            exact = strict(candidate.output, kind, task.language)
            scores.append(
                {"correct": float(correct(task, free)), "strict": float(correct(task, exact))}
            )
        return scores


def _statements(text: str) -> list[int]:
    """Where the answers that the text states begin, in order."""
    ends = {m.end() for pattern in (_STATED, _HASHES, _BOXED) for m in pattern.finditer(text)}
    return sorted(ends)


def _read(text: str, kind: Kind, language: str, first: bool) -> str | None:
    """The first answer in ``text`` after a statement, or the last one anywhere."""
    if kind in ("text", "span"):
        return canonical(_clause(text), kind, language) if first else None
    if kind == "expression":
        from text.tasks.countdown import find

        return find(text)
    pattern = {"number": NUMBER, "choice": _LETTER, "boolean": _TRUTHS}[kind]
    line = text.strip().split("\n", 1)[0] if first else text
    found = (canonical(m[0], kind, language) for m in pattern.finditer(line))
    read = [answer for answer in found if answer is not None]
    return read[0 if first else -1] if read else None


def _words(text: str) -> list[str]:
    """Words and numbers as :func:`f1` compares them."""
    found = re.findall(r"\d+(?:[.,:]\d+)*|[^\W\d_]+", text.casefold())
    return [word.replace(",", "") for word in found if word not in ("a", "an", "the")]


def _clause(text: str) -> str:
    """What a statement says: to the brace that closes it, or to the end of the sentence."""
    depth = 0
    for i, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return text[:i]
        stop = char == "\n" or (char in ".。" and not text[i + 1 : i + 2].strip())
        if depth == 0 and stop:
            return text[:i]
    return text


def _undressed(answer: str) -> str:
    """``answer`` without the LaTeX that changes only its looks, in one case, without spaces."""
    text = answer.strip().strip("$").rstrip(".")
    text = re.sub(r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\(?:left|right|[,;!: ])|\^\s*\{?\\circ\}?|\\[$%]", "", text)
    return re.sub(r"\s+", "", text).casefold()
