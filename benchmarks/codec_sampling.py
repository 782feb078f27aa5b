"""Sampling codec tokens from the starter: our sampler, against transformers' generate, warm.

    python benchmarks/codec_sampling.py                 # 32 texts, 300 tokens each
    python benchmarks/codec_sampling.py --tokens 40 --turns 1

Neither side ends a row early nor is steered, so both draw the same number of tokens from the same
prompts, at temperature 1, in float32. Checked first: greedy tokens are the same, the first drawn
token fits the model's own distribution (chi-square), and the next three are distributed alike on
both sides (chi-square of two samples).

Two floors, in the same turns. Weights alone: every matrix of the model on 32 rows, once a token.
Weights and cache: that, and every key and value so far read once, which no attention can do
without; for a model this small they are more than the weights.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import torch
from claim import in_turns, of, ratios, tell, threads
from scipy.stats import chi2_contingency, chisquare
from torch import Tensor, nn

from common.policies.sampling import sample
from speech import corpora
from speech.lm import stream
from speech.speaking import load_policy
from speech.text import phonemes

ROWS, DRAWS, RARE = 32, 512, 1e-3
NEVER = 10**6
"""An end token that the vocabulary does not have."""


def ours(model: Any, prompts: list[list[int]], tokens: int, temperature: float) -> list[list[int]]:
    """Tokens by our sampler."""
    found = sample(
        model, prompts, max_new_tokens=tokens, temperature=temperature, eos=NEVER, pad=0,
        seeds=list(range(len(prompts))), batch_size=len(prompts),
    )  # fmt: skip
    return [group[0].ids for group in found]


def theirs(
    model: Any, prompts: list[list[int]], tokens: int, temperature: float
) -> list[list[int]]:
    """The same by generate."""
    longest = max(map(len, prompts))
    ids_BT = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask_BT = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    drawing = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    with torch.inference_mode():
        found = model.generate(
            input_ids=ids_BT, attention_mask=mask_BT, max_new_tokens=tokens, pad_token_id=0,
            eos_token_id=None, **(drawing if temperature else {"do_sample": False}),
        )  # fmt: skip
    drawn: list[list[int]] = found[:, longest:].tolist()
    return drawn


def check(model: Any, prompts: list[list[int]], tokens: int) -> None:
    """Stop unless both draw from the same distribution."""
    if ours(model, prompts, tokens, 0.0) != theirs(model, prompts, tokens, 0.0):
        raise SystemExit("greedy tokens differ from those of generate")
    torch.manual_seed(0)
    draws = [side(model, [prompts[0]] * DRAWS, 4, 1.0) for side in (ours, theirs)]
    with torch.inference_mode():
        exact = model(torch.tensor([prompts[0]])).logits[0, -1].double().softmax(-1)
    for name, rows in zip(("ours", "generate"), draws, strict=True):
        counts = Counter(row[0] for row in rows)
        common = [t for t in range(len(exact)) if DRAWS * exact[t] >= 5]
        seen = [counts[t] for t in common]
        wanted = [DRAWS * float(exact[t]) for t in common]
        if (rest := 1 - sum(wanted) / DRAWS) * DRAWS > 1e-6:
            seen.append(DRAWS - sum(seen))
            wanted.append(rest * DRAWS)
        p = chisquare(seen, wanted).pvalue
        print(f"{name}: first tokens fit the model's distribution, p = {p:.3f}")
        if p < RARE:
            raise SystemExit(f"{name} draws from another distribution")
    for step in (1, 2, 3):
        counts_of = [Counter(row[step] for row in rows) for rows in draws]
        often = [t for t in counts_of[0] | counts_of[1] if sum(c[t] for c in counts_of) >= 10]
        table = [[c[t] for t in often] + [DRAWS - sum(c[t] for t in often)] for c in counts_of]
        table = [[row[i] for i in range(len(row)) if sum(r[i] for r in table)] for row in table]
        p = chi2_contingency(table).pvalue if len(table[0]) > 1 else 1.0
        print(f"token {step + 1}: both sides alike, p = {p:.3f}")
        if p < RARE:
            raise SystemExit(f"token {step + 1} is distributed otherwise")


@torch.inference_mode()
def floor(model: Any, start: int, tokens: int, cache: list[Tensor]) -> None:
    """Every matrix once a token and, of ``cache`` if there is one, what is filled so far."""
    matrices = [module for module in model.modules() if isinstance(module, nn.Linear)]
    inputs = {m.in_features: torch.randn(ROWS, m.in_features) for m in matrices}
    for step in range(tokens):
        for matrix in matrices:
            matrix(inputs[matrix.in_features])
        for states in cache:
            states[:, :, : start + step].sum()


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--tokens", type=int, default=300)
    flags.add_argument("--turns", type=int, default=5)
    chosen = flags.parse_args()
    torch.set_num_threads(threads())
    policy = load_policy("starter")
    model = policy.model.eval()
    texts = [u.text for u in corpora.load("prompts").split("train")]
    spoken = [text for text in texts if 3 <= len(text.split()) <= 14][:ROWS]
    prompts = [policy.encode_prompt(stream.prompt(phones)) for phones in phonemes(spoken)]
    check(model, prompts, chosen.tokens)
    config, start = model.config, max(map(len, prompts))
    shape = ROWS, config.num_key_value_heads, start + chosen.tokens, config.head_dim
    cache = [torch.randn(shape) for _ in range(2 * config.num_hidden_layers)]
    times = in_turns(
        {
            "ours": lambda: ours(model, prompts, chosen.tokens, 1.0),
            "generate": lambda: theirs(model, prompts, chosen.tokens, 1.0),
            "weights": lambda: floor(model, start, chosen.tokens, []),
            "weights and cache": lambda: floor(model, start, chosen.tokens, cache),
        },
        chosen.turns,
    )
    about = f"sampling {ROWS} × {chosen.tokens} codec tokens, starter"
    tell(
        of(about, ratios(times["generate"], times["ours"]), "transformers' generate, warm",
           aim=2.5),
        of(f"{about}: share of the floor of weights", ratios(times["weights"], times["ours"]),
           "the weight matrices alone", aim=0.5, unit="share"),
        of(f"{about}: share of the floor of weights and cache",
           ratios(times["weights and cache"], times["ours"]),
           "the weight matrices, and each key and value read once", unit="share"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
