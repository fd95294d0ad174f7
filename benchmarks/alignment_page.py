"""README.md of an alignment experiment, from its record."""

from collections.abc import Mapping
from typing import Any

from synthfair_hf.publish.editions import edition
from synthfair_hf.records import Record

GREATER_IS_BETTER = ("accuracy", "auc", "delta_auc", "true_ssim")
"""Metrics of soundness; of all others less is better."""

ASKED = (
    "num_pairs",
    "tie",
    "num_subjects",
    "limit",
    "boards",
    "betas",
    "anchor",
    "seeds",
    "learning_rate",
    "max_train_steps",
)


def page(record: Record) -> str:
    """The whole page."""
    settings, measured, counts = record.settings, record.measured, record.counts
    splits = ", ".join(f"{number} in {split}" for split, number in counts["by split"].items())
    lines = [
        "# Alignment to a judge's preferences",
        "",
        f"Measured on {edition(record.inputs['generator'])}.",
        "",
        f"Printed by `benchmarks/alignment.py` from `alignment.json`: {settings['preset']}, comparisons of",
        f"{settings['questions']}, {counts['compared']} pairs compared by {settings['judge']}, {counts['ties']} ties",
        f"(up to {settings['tie']:g}) dropped, {splits}.",
        f"{settings['max_train_steps']} steps at most, {settings['num_subjects']} new comparisons of each of",
        f"{settings['seeds']} seeds. Intervals are of 95 %, over subjects, then seeds.",
        "",
        f"Settings: {', '.join(f'{name} {settings[name]}' for name in ASKED if name in settings)}.",
        "",
        "## Held-out pairs",
        "",
        "The share of pairs whose preferred image the adapters make likelier; 0.5 without adapters.",
        "",
        *table(
            ("beta", "seed", "kept step", "validation", "test", "distance"),
            [
                (
                    f"{one['beta']:g}",
                    one["seed"],
                    one["kept_step"],
                    *map(estimate, (one["validation"], one["test"])),
                    f"{one['distance']:.2g}",
                )
                for one in measured["fits"]
            ],
        ),
        f"\nChosen by validation pairs alone: beta {measured['chosen']:g}, of equals the highest.",
    ]
    if settings["questions"] != "counterfactuals":
        lines += [
            "",
            "![Samples](answers.png)",
            "",
            "*Top: samples of the generator. Middle: the same covariates and noise with the chosen adapters of the",
            "first seed. Bottom: the difference, four times.*",
        ]
    judges = [name for name in measured["arms"][0] if isinstance(measured["arms"][0][name], Mapping)]
    for judge in judges:
        lines += ["", f"## Generated images, by {judge}", "", *answers(record, judge)]
    if "guided" in measured:
        lines += ["", "## Guidance without training", "", *beside(measured)]
    if "boards" in measured:
        lines += ["", "## Scoreboards", "", *boards(measured["boards"])]
    if "downstream" in measured:
        lines += ["", "## Downstream", "", *downstream(measured["downstream"])]
    return "\n".join(lines) + "\n"


def answers(record: Record, judge: str) -> list[str]:
    """Every arm by one judge, and the subgroups of the chosen one."""
    measured = record.measured
    head = (
        "beta",
        "strength",
        "win rate",
        "score, base",
        "aligned",
        "gain",
        "gap, base",
        "aligned",
        "reduction, %",
        "moved",
    )
    rows = [
        (
            f"{arm['beta']:g}",
            f"{arm['strength']:g}",
            estimate(arm[judge]["win_rate"]),
            f"{arm[judge]['base']:.3f}",
            f"{arm[judge]['aligned']:.3f}",
            estimate(arm[judge]["gain"]),
            f"{arm[judge]['gap_base']:.3f}",
            f"{arm[judge]['gap_aligned']:.3f}",
            estimate(arm[judge]["gap_reduction"], ".0f"),
            f"{arm['moved']:.2f}",
        )
        for arm in measured["arms"]
    ]
    chosen = next(arm for arm in measured["arms"] if arm["beta"] == measured["chosen"] and arm["strength"] == 1)
    groups = [(group, f"{before:.3f}", f"{after:.3f}") for group, (before, after) in chosen[judge]["groups"].items()]
    return [
        f"Subgroups are {record.settings['balance']}; *gap*: mean score of the best less that of the worst;",
        "*moved*: mean absolute difference to the base's image, grey levels; *strength*: scale of the adapters.",
        "",
        *table(head, rows),
        "",
        *table(("subgroup", "base", "aligned (chosen)"), groups),
    ]


def beside(measured: Mapping[str, Any]) -> list[str]:
    """The effect of guidance without training, and the judge's scores of real images."""
    real = measured["real films"]
    rows = [
        (
            f"{arm['guidance']:g}",
            estimate(arm["judge B"]["win_rate"]),
            f"{arm['judge B']['aligned']:.3f}",
            f"{arm['judge B']['gap_aligned']:.3f}",
            estimate(arm["judge B"]["gap_reduction"], ".0f"),
            f"{arm['moved']:.2f}",
        )
        for arm in measured["guided"]
    ]
    groups = [(group, f"{mean:.3f}", rows) for group, (mean, rows) in real["groups"].items()]
    return [
        "The base without adapters, its samples guided (`sample_guidance_scale`), at twice the calls of the network:",
        "",
        *table(("guidance", "win rate", "score", "gap", "reduction, %", "moved"), rows),
        "",
        f"Real images by the same judge: score {real['score']:.3f}, gap {real['gap']:.3f}; differences in its",
        "predictor's accuracy between subgroups are part of every gap.",
        "",
        *table(("subgroup", "real images", "n"), groups),
    ]


def boards(found: Mapping[str, Any]) -> list[str]:
    """Figures of the scoreboards beside the base's, only those that got worse by more than the base's interval."""
    base, seeds = found["base"], [name for name in found if name != "base"]
    rows, compared = [], 0
    for place, row in enumerate(base["soundness"]):
        own = [found[name]["soundness"][place] for name in seeds]
        if row["mean"] is None or (row["do"] == "none" and row["attribute"] != "image"):
            continue
        compared += 1
        worse = [one for one in own if worse_by_more_than_interval(row, one)]
        if worse:
            name = " ".join(str(row[name]) for name in ("metric", "do", "attribute", "by"))
            rows.append((name, *(estimate(one, ".3g") for one in (row, *own)), f"{len(worse)} of {len(seeds)}"))
    lines = [
        f"`synthfair measure` of the base and of each seed's merged adapters. Of {compared} figures of soundness",
        f"{len(rows)} got worse in some seed by more than the base's own interval:",
        "",
        *table(("metric, do, attribute, by", "base", *seeds, "worse"), rows),
        "",
        "Realism against held-out images:",
        "",
    ]
    overall = {name: one["realism"]["overall"] for name, one in found.items()}
    names = [name for name in overall["base"] if not name.startswith("n_")]
    rows = [(name, *(figure(row[one]) for one in names)) for name, row in overall.items()]
    return lines + table(("generator", *names), rows)


def worse_by_more_than_interval(base: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether the figure is beyond the base's interval on the side that is worse."""
    if own["mean"] is None:
        return False
    if base["metric"] in GREATER_IS_BETTER:
        return bool(own["mean"] < base["low"])
    return bool(own["mean"] > base["high"])


def downstream(found: Mapping[str, Any]) -> list[str]:
    """Figures of the classifier, by the images that balanced its training set."""
    names = ("auc", "worst_group_accuracy", "equal_opportunity_difference")
    # by their names in the record
    kinds = {"nothing": "none", "base": "base", "aligned": "aligned", "real films": "real images"}
    rows = [(title, *(estimate(found[kind][name]["value"]) for name in names)) for kind, title in kinds.items()]
    change = [estimate(found["aligned"][name]["against base"]) for name in names]
    return [
        f"{found['train']} real images in which the finding correlates with sex at 95:5; {found['added']} more",
        f"balance the rare subgroups. {found['test']} unbiased test images.",
        "",
        *table(("balanced by", *(name.replace("_", " ") for name in names)), [*rows, ("*aligned less base*", *change)]),
    ]


def estimate(one: Mapping[str, Any], form: str = ".3f") -> str:
    """Value [low, high]."""
    value = one["mean"] if "mean" in one else one["value"]
    return "-" if value is None else f"{value:{form}} [{one['low']:{form}}, {one['high']:{form}}]"


def figure(one: Any) -> str:
    if isinstance(one, Mapping):
        return estimate(one)
    return "-" if one is None else f"{one:.3f}"


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]
