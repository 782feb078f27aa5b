"""Room to Grow (arXiv 2105.08031): what sets people apart who go on with a change they announced?

The paper collected writings of people who show that they want to change, some of whom persist,
and found that those write more of long-term self-improvement and in a more complicated style, and
that a classifier can tell them. Only its abstract was at hand. Communities, counts, dates, the rule
that calls a person persistent, the features' details and every score were not: **the rules here are
ours**, each a setting.

| step | home |
|---|---|
| posts from any JSONL, user names hashed as they are read | `posts` |
| intention, windows before and after it, the label | `cohort` |
| pairs of like activity and age | `matching` |
| feature blocks: lexicon, topics, style, n-grams, metadata | `features` |
| group tests, classifier, bootstrap, shuffled labels | `study` |
| the page | `report` |
| posts with a planted effect, for tests and the demo | `synthetic` |

It is no loop: it replaces no stage.

    upspiral text persistence posts.jsonl --communities loseit stopsmoking --out report/
    upspiral text persistence synthetic --out report/
"""
