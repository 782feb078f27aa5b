"""What SmolLM2 answers to the questions that the policies of a recording ask, for its replay.

    python studies/godel_replies.py --recording rewrite-to-search --task game24

Runs the recorded conversation, collects the questions that have no recorded reply, has the model
answer them in batches (greedy, 96 tokens), and does it again until none is left: a policy
may ask about an answer. Writes ``NAME.replies.json`` beside the recording. Minutes on a core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.policies.local import HFPolicy
from common.store import Store
from text.godel import environment, models
from text.godel.broker import Broker
from text.godel.evolve import Evolution
from text.godel.models import UNKNOWN, Completion, Message, Scripted
from text.godel.workshop import Rules

TOKENS, BATCH = 96, 16


class Listening(Scripted):
    """A recording that keeps the questions it had no reply to."""

    def __init__(self, base: Scripted) -> None:
        super().__init__(base.turns, base.replies)
        self.asked: dict[str, list[Message]] = {}

    def complete(
        self, messages: Sequence[Message], temperature: float, max_tokens: int, turn: int | None
    ) -> Completion:
        got = super().complete(messages, temperature, max_tokens, turn)
        if turn is None and got.text == UNKNOWN:
            self.asked[models.key(messages)] = list(messages)
        return got


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", default="rewrite-to-search")
    parser.add_argument("--task", default="game24")
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument("--test", type=int, default=100)
    options = parser.parse_args()
    path = models.RECORDINGS / f"{options.recording}.replies.json"
    model = Listening(Scripted.load(options.recording))
    model.replies = {}
    policy = HFPolicy.load("smollm2", batch_size=BATCH)
    while True:
        model.asked = {}
        with tempfile.TemporaryDirectory() as home:
            task = environment.load(options.task, options.validation, options.test)
            store = Store(Path(home))
            Evolution(task, Broker(model, model), store, 100, Rules(seconds=5)).run("r", 0, {}, "")
            store.close()
        if not model.asked:
            break
        print(f"{len(model.asked)} questions without a reply", flush=True)
        prompts = [
            policy.tokenizer.apply_chat_template(
                models.alternating(messages), add_generation_prompt=True, tokenize=False
            )
            for messages in model.asked.values()
        ]
        groups = policy.sample(
            prompts, seeds=[0] * len(prompts), temperature=0.0, max_new_tokens=TOKENS
        )
        end = policy.tokenizer.eos_token
        for name, [one] in zip(model.asked, groups, strict=True):
            model.replies[name] = policy.decode(one.ids).replace(end, "").strip()
        path.write_text(json.dumps(model.replies, ensure_ascii=False, indent=0), encoding="utf-8")
    print(f"{len(model.replies)} replies are in {path}")


if __name__ == "__main__":
    main()
