"""Multi-level feedback for peer counsellors (arXiv 2403.15482): a model that teaches helpers.

For each response of a helper the model says, on four levels: whether it is appropriate; what its
goal is and how to come nearer to it; which of eight areas are good and which are not; and what
could have been said instead. It improves by its own judgement of the last level:

1. *Supervised*: experts' feedback, and each alternative as a response that is appropriate.
2. *Self-scoring*: of several feedbacks to a response that is not appropriate, each is worth the
   probability that the supervised model finds its alternative appropriate,
   s(f) = P(" true" | conversation with f's alternative, '{"perfect":').
3. *DPO*: the best feedback over the worst.

| part | home |
|---|---|
| the four levels as a validated schema | `schema` |
| conversations, in the published forms and ours; synthetic ones | `conversations`, `synthetic` |
| the context of a response: topic segments | `segments`, `tasks` |
| a policy that gives feedback, draws anew what is invalid, and scores | `advisor` |
| stages and methods of `text improve` | `methods` |
| quality of the worst, and tests of it | `quality` |
| a judge that shares nothing with the policy | `independent` |
| feedback to read | `show` |

Replaces **propose**, **judge** and **select**; for `feedback-sft` only **select**.

Deviations: the prompt is ours and shorter; a pair needs the verdict of the start of the run, which
is the supervised model; feedback that does not fit the schema is drawn again with another seed (the
original reads the same text again); an area that is none of the eight is invalid; the tail is also
given an interval by bootstrap, since a test of values that were chosen for being low says little.

    upspiral text improve --method feedback-sft --task counseling
    upspiral text improve --method feedback-dpo --task counseling --model RUN
    upspiral text feedback conversation.json --model RUN
"""

NOTICE = (
    "Experimental. A language model wrote this feedback; it may be wrong or harmful. It is for "
    "practice, in training under supervision, and no substitute for an expert. It does not notice "
    "risk: never use it to decide about anybody in a crisis. Whoever is in danger needs a person "
    "now: the local emergency number or a crisis line."
)
"""Stands on everything that shows feedback."""
