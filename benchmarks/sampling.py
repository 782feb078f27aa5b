"""How fast is our sampler beside transformers' generate? Few-shot questions, answers to their end.

Run: ``python benchmarks/sampling.py [MODEL] [QUESTIONS] [THREADS]``. Several answers are sampled to
each of QUESTIONS questions with two worked examples before each, up to the end of the line, by
``generate`` in float32 and by our sampler in float32 and with a copy rounded to bfloat16. What is
printed is useful tokens (those up to the end of the line) a second of processor time, which other
work on the machine disturbs less than the clock, and the ratios to ``generate``.

Correctness comes first: greedy answers of the two are the same in float32, and log-probabilities of
the rounded copy are near those of teacher forcing in float32.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from claim import of, tell

from common.policies.local import HFPolicy
from common.policies.weights import native_bfloat16
from text.prompts import STOPS, prompted
from text.tasks import load

SAMPLES, TOKENS, TEMPERATURE = 8, 48, 0.7


def theirs(policy: HFPolicy, prompts: Sequence[str], n: int, temperature: float) -> list[list[int]]:
    """Tokens of ``n`` completions a prompt up to the end of the line, by generate."""
    policy.tokenizer.padding_side = "left"
    batch = policy.tokenizer(list(prompts), return_tensors="pt", padding=True)
    drawing = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    found = policy.model.generate(
        **batch,
        **(drawing if temperature else {"do_sample": False}),
        num_return_sequences=n,
        max_new_tokens=TOKENS,
        stop_strings=list(STOPS),
        tokenizer=policy.tokenizer,
        pad_token_id=policy.tokenizer.pad_token_id,
    )
    return [useful(policy, row) for row in found[:, batch["input_ids"].shape[1] :].tolist()]


def ours(policy: HFPolicy, prompts: Sequence[str], n: int, temperature: float) -> list[list[int]]:
    """The same by our sampler."""
    found = policy.sample(
        prompts,
        n=n,
        seeds=list(range(n * len(prompts))),
        temperature=temperature,
        max_new_tokens=TOKENS,
        stop=STOPS,
    )
    return [useful(policy, one.ids) for group in found for one in group]


def useful(policy: HFPolicy, ids: Sequence[int]) -> list[int]:
    """The tokens before the first that ends the line or the text."""
    ends = [i for i, one in enumerate(ids) if one == policy.tokenizer.eos_token_id
            or any(stop in policy.decode([one]) for stop in STOPS)]  # fmt: skip
    return list(ids[: ends[0]]) if ends else list(ids)


def check(policy: HFPolicy, prompts: Sequence[str]) -> None:
    """Stop unless both agree."""
    greedy = [theirs(policy, [prompt], 1, 0.0)[0] for prompt in prompts]
    if ours(policy, prompts, 1, 0.0) != greedy:
        raise SystemExit("greedy answers differ from those of generate")
    policy.sampling_dtype = torch.bfloat16
    groups = policy.sample(prompts, n=2, seeds=list(range(2 * len(prompts))),
                           temperature=TEMPERATURE, max_new_tokens=TOKENS, stop=STOPS)  # fmt: skip
    policy.sampling_dtype = None
    off = []
    for prompt, group in zip(prompts, groups, strict=True):
        ids = [one.ids + [policy.tokenizer.eos_token_id] * (one.tokens - len(one.ids))
               for one in group]  # fmt: skip
        exact = policy.logprobs_of_ids([policy.encode_prompt(prompt)] * len(ids), ids)
        off += [abs(one.logprob_sum - value) / one.tokens
                for one, value in zip(group, exact.sums, strict=True)]  # fmt: skip
    print(f"log-probability of a token, bfloat16 against float32: off by {np.mean(off):.4f} nats")
    if np.mean(off) > 0.05:
        raise SystemExit("rounding to bfloat16 changes this model too much")


def rate(work: Callable[[], list[list[int]]]) -> tuple[float, float]:
    """Useful tokens a second, of processor time and of the clock."""
    clock, processor = time.perf_counter(), time.process_time()
    tokens = sum(map(len, work()))
    return tokens / (time.process_time() - processor), tokens / (time.perf_counter() - clock)


def main(model: str = "smollm2", questions: str = "16", threads: str = "") -> None:
    """Print the rates and the ratios."""
    if threads:
        torch.set_num_threads(int(threads))
    policy = HFPolicy.load(model, batch_size=128)
    tasks = prompted(load("arithmetic", train=int(questions), dev=1, test=1), 2)
    prompts = [task.prompt for task in tasks if task.split == "train"]
    check(policy, prompts[:4])
    base = rate(lambda: theirs(policy, prompts, SAMPLES, TEMPERATURE))
    print(f"{'generate, float32':<20} {base[0]:>7.1f} tokens/s of processor, {base[1]:.1f} clock")
    told = []
    for name, dtype in (("ours, float32", None), ("ours, bfloat16", torch.bfloat16)):
        policy.sampling_dtype = dtype
        found = rate(lambda: ours(policy, prompts, SAMPLES, TEMPERATURE))
        print(f"{name:<20} {found[0]:>7.1f} tokens/s of processor, {found[1]:.1f} clock; "
              f"{found[0] / base[0]:.2f} and {found[1] / base[1]:.2f} times generate")  # fmt: skip
        told.append(of(f"sampling {questions} questions × {SAMPLES} from {model}, {name}",
                       [found[1] / base[1]], "transformers' generate, float32", aim=2))  # fmt: skip
    native = native_bfloat16(policy.device)
    print(f"this processor {'multiplies' if native else 'does not multiply'} bfloat16 itself")
    tell(*told)


if __name__ == "__main__":
    main(*sys.argv[1:4])
