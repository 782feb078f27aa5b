"""How questions are answered: the model thinks step by step, once.

`solve(question, ask)` returns the answer as a text. `ask(prompt)` has the model answer a prompt;
`ask(messages)` takes a list of {"role": ..., "content": ...}; `temperature=0.7` makes it vary.
"""


def solve(question, ask):
    """The answer to one question, as a text."""
    prompt = f"{question}\n\nThink step by step, then end with: The answer is ANSWER."
    return ask(prompt)
