"""What text offers to the command line; every command's work is imported only when it runs."""

from __future__ import annotations

from common.commands import Command, Domain

domain = Domain(
    name="text",
    help="language models that improve their own reasoning",
    groups={"pretrain": "encoders that learn how text hangs together, and what they are good for"},
    commands={
        "improve": Command(
            "rounds of self-improvement on a task, by one of several methods",
            "upspiral text improve --method vanilla --task arithmetic --model smollm2 --rounds 3",
            "text.commands.improve:Improve",
        ),
        "compare": Command(
            "methods side by side, over seeds, with equal budgets of tokens",
            "upspiral text compare --methods vanilla dive --task arithmetic --seeds 3 "
            "--budget-tokens 2e6",
            "text.commands.compare:Compare",
        ),
        "evaluate": Command(
            "how well models and runs answer the test questions of a task, side by side",
            "upspiral text evaluate --models smollm2 --task code-basics --samples 10 "
            "--set max_new_tokens=96",
            "text.commands.evaluate:Evaluate",
        ),
        "gap": Command(
            "the generation-verification gap of a model, or of models on each other",
            "upspiral text gap --task arithmetic --model smollm2 --out gap",
            "text.commands.gap:Gap",
        ),
        "pretrain corpus": Command(
            "what a corpus holds: documents, sections, paragraphs, sentences",
            "upspiral text pretrain corpus --corpus system",
            "text.commands.pretrain:CorpusCommand",
        ),
        "pretrain train": Command(
            "pre-train an encoder, from nothing or an existing one, by one of nine objectives",
            "upspiral text pretrain train --objective rts --corpus system --out encoder",
            "text.commands.pretrain:TrainCommand",
        ),
        "pretrain tune": Command(
            "fine-tune an encoder: rank answers, verify claims, summarise",
            "upspiral text pretrain tune --task as2 --model encoder --out ranker",
            "text.commands.pretrain:TuneCommand",
        ),
        "pretrain rank": Command(
            "the sentences of a text by how well each answers a question",
            'upspiral text pretrain rank "What is the exit status?" --model ranker '
            "--text /usr/share/man/man1/tar.1.gz",
            "text.commands.pretrain:RankCommand",
        ),
        "refine": Command(
            "answer a question and improve the answer, with a run of PIT",
            'upspiral text refine --run last --steps 4 "A shelf holds 12 books. 5 are lent out. '
            'How many are left?"',
            "text.commands.refine:Refine",
        ),
        "feedback": Command(
            "feedback on a peer counsellor's responses, on four levels",
            "upspiral text feedback synthetic --format html --out feedback.html",
            "text.commands.feedback:Feedback",
        ),
        "feedback-worst": Command(
            "the worst feedback of runs of feedback-dpo, against their start",
            "upspiral text feedback-worst last",
            "text.commands.feedback:Worst",
        ),
        "persistence": Command(
            "who goes on with a change they announced, and how they wrote before it",
            "upspiral text persistence synthetic --out persistence",
            "text.commands.persistence:Persistence",
        ),
        "evolve": Command(
            "an agent rewrites its own policy and improver, in the sandbox (Gödel Agent)",
            "upspiral text evolve --task game24 --model scripted:rewrite-to-search --out agent",
            "text.commands.evolve:Evolve",
        ),
        "search": Command(
            "search plans for programming problems by tree search, and write their code",
            "upspiral text search --task code-basics --model smollm2 --count 4 --iterations 4 "
            "--out plans",
            "text.commands.search:SearchCommand",
        ),
        "solve": Command(
            "answer a question with a run's policy or any model",
            'upspiral text solve --run last "A shelf holds 12 books. 5 are lent out. How many are '
            'left?"',
            "text.commands.solve:Solve",
        ),
        "tree": Command(
            "draw the tree of a searched problem",
            "upspiral text tree plans",
            "text.commands.tree:TreeCommand",
        ),
    },
    resume="text.commands.improve:resume",
    report="text.report:extra",
    lifelong="text.lifelong:course",
)
