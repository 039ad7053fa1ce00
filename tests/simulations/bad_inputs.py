"""Scenario files that cannot work, with what the one line of the error must name: the field, the value, what is allowed."""

from __future__ import annotations

from tests.optional import HAS_BYZFL

COMMON = 'nodes = 10\nbyzantine = 2\nproblem = { name = "least-squares", samples = 80, dimension = 12 }\n'
HONEST = COMMON.replace("byzantine = 2", "byzantine = 0")

BAD: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown-compressor": (COMMON + 'compressor = "zip"', ("compressor", "'zip'", "l1-sign", "top-k")),
    "unknown-strategy": (COMMON + 'strategy = "hope"', ("strategy", "'hope'", "norm-threshold", "krum")),
    "unknown-attack": (COMMON + 'attack = "rumour"', ("attack", "'rumour'", "gaussian-noise")),
    "unknown-problem": ('problem = "halting"', ("problem", "'halting'", "digits", "least-squares")),
    "too-few-nodes-for-the-filters": (
        COMMON + 'strategy = { name = "robust-compressed", filters = "norm+spectral", trim = 3 }',
        ("'spectral' with trim 3", "at least 9", "got 7"),
    ),
    "unknown-aggregator": (
        COMMON + 'strategy = { name = "byzfl", aggregator = "Krumm", trim = 2 }',
        ("strategy", "aggregator", "MultiKrum", "'Krumm'") if HAS_BYZFL else ("strategy 'byzfl'", "flwr-robustcomp[byzfl]"),
    ),
    "unknown-field": (COMMON + "epochs = 3", ("epochs", "3", "is no field of a scenario")),
    "unknown-parameter": (
        COMMON + 'strategy = { name = "norm-threshold", trimm = 3 }',
        ("strategy.trimm", "trim", "step_size"),
    ),
    "unknown-flower-parameter": (COMMON + 'strategy = { name = "fed-trimmed-avg", trim = 3 }', ("trim", "beta", "step_size")),
    "reserved-parameter": (COMMON + 'strategy = { name = "fed-avg", weighted_by_key = "x" }', ("weighted_by_key", "step_size")),
    "wrong-type": (HONEST.replace("nodes = 10", 'nodes = "ten"'), ("nodes", "integer", "'ten'")),
    "wrong-parameter-type": (COMMON + 'compressor = { name = "top-k", k = "3" }', ("compressor.k", "integer", "'3'")),
    "wrong-flower-parameter-type": (
        COMMON + 'strategy = { name = "fed-avg", step_size = "1" }',
        ("step_size", "number", "'1'"),
    ),
    "choice": (COMMON + 'adversary = "polite"', ("adversary", "restricted", "arbitrary", "'polite'")),
    "no-rounds": (COMMON + "rounds = 0", ("rounds", "greater than or equal to 1", "0")),
    "negative-seed": (COMMON + "seed = -1", ("seed", "greater than or equal to 0", "-1")),
    "trim-half": (COMMON + 'strategy = { name = "norm-threshold", trim = 5 }', ("strategy.trim", "half of the 10 nodes", "5")),
    "trim-fraction": (COMMON + 'strategy = { name = "norm-threshold", trim = 0.7 }', ("strategy.trim", "half", "0.7")),
    "trim-fraction-rounds-up": (
        COMMON + 'strategy = { name = "norm-threshold", trim = 0.45 }',
        ("strategy.trim", "half", "0.45"),
    ),
    "trim-negative": (COMMON + 'strategy = { name = "norm-threshold", trim = -1 }', ("trim", "[0, 0.5)", "-1")),
    "trim-infinite": (COMMON + 'strategy = { name = "norm-threshold", trim = inf }', ("strategy.trim", "half", "inf")),
    "trim-nan": (COMMON + 'strategy = { name = "norm-threshold", trim = nan }', ("trim", "[0, 0.5)", "nan")),
    "trim-expression": (
        COMMON + 'strategy = { name = "norm-threshold", trim = "byzantine-2" }',
        ("strategy.trim", '"byzantine+K"', "'byzantine-2'"),
    ),
    "trim-expression-half": (
        COMMON + 'strategy = { name = "norm-threshold", trim = "byzantine+3" }',
        ("strategy.trim", "half of the 10 nodes", "5"),
    ),
    "more-byzantine-than-nodes": (COMMON.replace("byzantine = 2", "byzantine = 11"), ("byzantine", "[0, nodes = 10]", "11")),
    "normless": (
        COMMON + 'compressor = "sign"\nstrategy = { name = "norm-threshold", trim = 3 }',
        ("norm", '"reported"', "'sign'", "'compressed'"),
    ),
    "norm-order": (
        COMMON + 'strategy = { name = "norm-threshold", norm = "reported", norm_order = 3.0 }',
        ("norm_order", "1, 2, inf", "3.0"),
    ),
    "vote-without-sign": (COMMON + 'strategy = "majority-vote"', ("majority-vote", "compressor", "Sign()", "L1Sign(")),
    "samples": (COMMON.replace("samples = 80", "samples = 81"), ("problem.samples", "multiple of nodes (10)", "81")),
    "k-above-d": (COMMON + 'compressor = { name = "top-k", k = 13 }', ("top-k", "k", "[1, 12]", "13")),
    "no-k": (COMMON + 'compressor = "random-k"', ("random-k", "k, ratio", "None")),
    "ratio": (COMMON + 'compressor = { name = "top-k", ratio = 2.0 }', ("ratio", "(0, 1]", "2.0")),
    "variance": (COMMON + 'attack = { name = "gaussian-noise", variance = -1.0 }', ("variance", "positive", "-1.0")),
    "beta": (COMMON + 'strategy = { name = "fed-trimmed-avg", beta = 0.5 }', ("beta", "[0, 0.5)", "0.5")),
    "labels-without-labels": (
        COMMON + 'attack = "random-labels"',
        ("attack", "no labels", "'random-labels'", "'least-squares'"),
    ),
    "digits-nodes": ('nodes = 2000\nproblem = "digits"', ("nodes", "at most 1438", "2000")),
    "too-large": (COMMON.replace("dimension = 12", "dimension = 1_000_000_000_000_000"), ("dimension", "1000000000000000")),
    "two-faults": (COMMON + 'rounds = 0\ngranularity = "bit"', ("rounds", "granularity", "'model'", "'array'", "'bit'")),
    "broken-toml": (COMMON + "rounds = \nseed = 1\n", ("TOML", "scenario.toml", "line 4")),
}
"""By a name for the test: the file, and words that the line must hold."""
