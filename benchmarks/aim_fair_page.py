"""The page of `benchmarks/aim_fair.py`: its record in words, tables and two pictures."""

import io
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthfair_hf.publish.editions import edition
from synthfair_hf.records import Record

COLUMNS = {
    "auc": "AUC",
    "adjusted_accuracy": "accuracy",
    "worst_group_accuracy": "worst-group accuracy",
    "equalized_odds_mean_difference": "equalized odds difference",
    "equal_opportunity_difference": "equal opportunity difference",
}
ACCURACY, GAP = "adjusted_accuracy", "equalized_odds_mean_difference"
DECREASE = 0.01
"""By so much may a mean accuracy be lower and still count as equal."""
MARKS = {"chosen": "chosen", "equal": "of equal accuracy"}
"""Columns of a table that mark a learning rate of each method, in words."""
COMMANDS = {
    "contextual": """synthfair recipes --preset chest_xray_findings --num_recipes 6 --variables view scanner \\
    --output_file recipes.jsonl
synthfair generate --factors effusion sex --num_inference_steps 10 \\
    --subjects_per_shard 20 --channels_last --num_subjects 240 --recipes recipes.jsonl --output_dir contextual""",
    "plain": """synthfair generate --factors effusion sex \\
    --num_inference_steps 10 --subjects_per_shard 20 --channels_last --num_subjects 112 --seed 1 --output_dir plain""",
}
"""How each synthetic set was made."""
COLOURS = ("#1b4f72", "#b03a2e", "#1e8449", "#b9770e", "#6c3483", "#2e86c1", "#7b7d7d", "#a04000", "#000000")
DASHES = ("-", "--", ":")
PANELS = {"domain": "D1 = mean |G_rb - G_sb|", "bias": "D2 = mean |G_sb - G_sf|"}


def figure(one: dict[str, Any]) -> str:
    """A mean with its interval."""
    if one["mean"] is None:
        return "-"
    return f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def name_of(method: str, synthetic: str) -> str:
    """A method with the synthetic set that it learned from."""
    return f"{method} ({synthetic})" if synthetic else method


def verdict(one: dict[str, Any], better: str = "lower") -> str:
    """Whether an interval excludes 0, and on which side."""
    if one["mean"] is None or one["low"] <= 0 <= one["high"]:
        return "no difference shown"
    return "better" if (one["high"] < 0) == (better == "lower") else "worse"


def page(record: Record, table: pandas.DataFrame) -> str:
    """README.md."""
    settings, counts = record.settings, record.counts
    sets = ", ".join(f"{name} ({number} rows)" for name, number in counts["synthetic"].items())
    groups = [
        f"{name} {number}" for of_attribute in counts["test_cells"].values() for name, number in of_attribute.items()
    ]
    finding, rates = settings["finding"], ", ".join(f"{one:g}" for one in settings["learning_rates"])
    lines = [
        "# AIM-Fair where there is a domain gap",
        "",
        paragraph(
            f"Printed by `benchmarks/aim_fair.py` from `aim_fair.json`; not typed by hand. A classifier of {finding} "
            f"at {settings['resolution']} pixels is fitted on real radiographs (NIH ChestX-ray14, Wang et al., CVPR "
            f"2017; images: NIH Clinical Center) in which {finding} correlates with sex, or with the view, and "
            f"fine-tuned on balanced images of a generator that saw none of these patients. "
            f"{settings['seeds']} seeds, {counts['fits']} fits; judged on {counts['test_rows']} radiographs of "
            f"{counts['test_patients']} test patients, from whom neither learned ({'; '.join(groups)})."
        ),
        "",
        f"Measured on {edition(record.inputs['generator'])}.",
        "",
        "```bash",
        *(COMMANDS[name] for name in counts["synthetic"] if name in COMMANDS),
        "python benchmarks/aim_fair.py --source NIH --output_dir RUN --synthetic "
        + " ".join(f"{name}={name}" for name in counts["synthetic"]),
        "```",
        "",
        bullet(
            "*biased*: empirical risk minimisation on the real rows, without group labels; all others but the twin "
            f"start from it, and tune by {settings['synthetic_rows']} synthetic rows, equally many of each "
            f"({finding}, group), of {sets}, in {settings['finetuning_steps']} steps."
        ),
        bullet(
            "*selective, k*: the tensors that are among the k of smallest D1 (domain) and the k of largest D2 "
            "(bias), k a share of all; *random*: as many. *all tensors*, *last layer*: full fine-tuning, and that of "
            "the head alone."
        ),
        bullet(
            "*last layer, real rows by group*: the head alone, on the biased rows resampled to balance by their true "
            "groups, which AIM-Fair does without. *twin without bias*: as many real rows, groups balanced."
        ),
        bullet(
            f"*tensors*: share of all tensors that are tuned. *rate*: of the learning rates {rates}, the largest "
            "whose mean AUC on synthetic validation rows (of real ones balanced by group, where those are learned "
            "from) is within a standard error of the best one's. Weights are selected on the same rows. Real "
            "validation patients are as biased as train: choosing by them would keep the bias. *AUC, biased*: on "
            "them."
        ),
        bullet(
            "*accuracy*: the mean over (finding, group). *equalized odds difference*: AIM-Fair's, the mean of the "
            "differences of TPR and FPR. Differences are absolute, so that chance alone makes them larger than 0: "
            "the twin says how large. Every classifier is cut at its median on real validation, where half have the "
            "finding."
        ),
        bullet("Intervals are of 95 %, over seeds and test patients; where nothing differs, one in twenty excludes 0."),
        "",
        "![Accuracy against equalized odds difference, by learning rate](rates.png)",
        "",
        *_claims(record, table),
    ]
    for (attribute, share), own in table.groupby(["attribute", "share"], sort=False):
        sizes = counts["rows"][f"{attribute} {share:g}"]
        equal = own[own["equal"]]
        methods = dict.fromkeys(zip(own["method"], own["synthetic"], strict=True))
        none = [one for one in methods if one not in set(zip(equal["method"], equal["synthetic"], strict=True))]
        lines += [
            "",
            f"## {finding} with {attribute}, {_ratio(share)}",
            "",
            f"{sizes['train']} rows of train, {sizes['validation']} of validation in the last seed; those with "
            f"{finding} "
            "are repeated, so that half have it.",
            "",
            *_figures(own[own["chosen"]]),
            "",
            paragraph(
                f"At equal accuracy: of the learning rates whose mean accuracy is at most {DECREASE:g} below the "
                "biased one's, that of least equalized odds difference. Test patients choose it: this is what a "
                "method could give, and flatters all alike."
            ),
            "",
            *_figures(equal),
        ]
        if none:
            lines += ["", f"At no learning rate as accurate: {', '.join(name_of(*one) for one in none)}."]
    lines += ["", *_gradients(record)]
    return "\n".join(lines) + "\n"


def paragraph(text: str, indent: str = "") -> str:
    """The text in lines of at most 118 characters."""
    return fill(text, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def bullet(text: str) -> str:
    """The text as an item of a list."""
    return paragraph(f"- {text}", "  ")


def _figures(rows: pandas.DataFrame) -> list[str]:
    """A table with a line per method."""
    names = (*COLUMNS.values(), "accuracy less the biased one's", "equalized odds difference less the biased one's")
    head = ["method", "tensors", "rate", "AUC, biased", *names]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(_row(one) for _, one in rows.iterrows())]


def _ratio(share: float) -> str:
    return f"{100 * share:g}:{100 - 100 * share:g}"


def _row(one: Any) -> str:
    rate = f"{one['learning_rate']:g}" if one["learning_rate"] else "-"
    figures = [figure(one[name]) for name in (*COLUMNS, f"{ACCURACY}_difference", f"{GAP}_difference")]
    told = (name_of(one["method"], one["synthetic"]), f"{one['tensors']:.2f}", rate, f"{one['biased_auc']:.2f}")
    return f"| {' | '.join((*told, *figures))} |"


def _claims(record: Record, table: pandas.DataFrame) -> list[str]:
    """The paper's claims beside what was found."""
    k = max(record.settings["tensor_shares"])
    first = next(iter(record.counts["synthetic"]))
    finding, situations = record.settings["finding"], table.groupby(["attribute", "share"], sort=False)
    lines, told = [], []
    for (attribute, share), own in situations:
        for mark, rate in MARKS.items():
            kept = own[own[mark] & own["synthetic"].isin([first, ""])].set_index("method")
            claims = [
                (
                    f"{method} less biased",
                    kept.loc[method, f"{GAP}_difference"],
                    kept.loc[method, f"{ACCURACY}_difference"],
                )
                for method in (
                    f"selective, k {k:g}",
                    "all tensors",
                    "last layer, real rows by group",
                    "twin without bias",
                )
                if method in kept.index
            ] + [
                (f"{name_of(*one['of'])} less {name_of(*one['against'])}", one[GAP], one[ACCURACY])
                for one in record.measured["contrasts"]
                if (one["attribute"], one["share"], one["rate"]) == (attribute, share, mark)
            ]
            for text, gap, accuracy in claims:
                fairer, better = verdict(gap), verdict(accuracy, "higher")
                told.append((text, rate, fairer, better))
                lines.append(
                    f"| {attribute}, {_ratio(share)} | {rate} | {text} | {figure(gap)} | {fairer} | "
                    f"{figure(accuracy)} | {better} |"
                )
    if len(record.counts["synthetic"]) == 1:
        lines += ["", f"One synthetic set, {first}, was given: contexts against none are not compared here."]
    return [
        "## The claims, and what was found",
        "",
        paragraph(
            "The paper (Zhao et al., CVPR 2025, arXiv 2503.05665; faces, a text-to-image model) claims that "
            "fine-tuning a biased model on balanced synthetic images makes it fairer at its utility, that selective "
            "fine-tuning does so better than full and partial fine-tuning, and that contextual images do so better "
            "than plain ones. Its network is a ResNet-18 and it draws thousands of synthetic images a group; ours "
            "are small. *less*: difference of the figures. *rate*: that which validation chooses, or, in hindsight, "
            "the fairest of equal accuracy (below). An interval that excludes 0 is better or worse; counted are the "
            f"{len(situations)} situations."
        ),
        "",
        *_counts(told),
        "",
        "One by one; of equalized odds differences less is fairer, of accuracies more is better:",
        "",
        f"| {finding} with | rate | claim | equalized odds difference | | accuracy | |",
        "|---" * 7 + "|",
        *lines,
    ]


def _counts(told: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """How often each claim's intervals exclude 0, from (claim, rate, verdict of the gap, verdict of the accuracy)."""
    words = ("better", "worse", "no difference shown")
    rows = pandas.DataFrame(told, columns=["claim", "rate", "gap", "accuracy"])
    lines = [
        "| claim | rate | equalized odds difference: better, worse, not shown | accuracy: better, worse, not shown |",
        "|---|---|---|---|",
    ]
    for (claim, rate), own in rows.groupby(["claim", "rate"], sort=False):
        cells = [", ".join(str(int((own[name] == word).sum())) for word in words) for name in ("gap", "accuracy")]
        lines.append(f"| {claim} | {rate} | {' | '.join(cells)} |")
    return lines


def _gradients(record: Record) -> list[str]:
    """What the choice of tensors is made by."""
    rows = pandas.DataFrame(record.measured["gradients"])
    shares, seeds = record.settings["tensor_shares"], record.settings["seeds"]
    lines = [
        "## The choice of tensors",
        "",
        "![Both gradient differences by tensor](gradients.png)",
        "",
        paragraph(
            "Over tensors, Spearman's correlation of D1 and D2 (both means over seeds): near 1 means that the "
            "tensors most sensitive to bias are those most sensitive to the domain, so that the two lists contradict "
            "each other. *Alike*: tensors that all seeds choose, or none, of all tensors."
        ),
        "",
        "| with | synthetic | correlation of D1 and D2 | "
        + " | ".join(f"k {one:g}: tuned | alike" for one in shares)
        + " |",
        "|---" * (3 + 2 * len(shares)) + "|",
    ]
    for (attribute, share, synthetic), own in rows.groupby(["attribute", "share", "synthetic"], sort=False):
        means = own[["domain", "bias"]].map(np.mean)
        correlation = means["domain"].corr(means["bias"], method="spearman")
        counts = np.array(own["chosen"].tolist())
        cells = [f"{column.mean() / seeds:.2f} | {np.isin(column, (0, seeds)).mean():.2f}" for column in counts.T]
        lines.append(f"| {attribute}, {_ratio(share)} | {synthetic} | {correlation:.2f} | {' | '.join(cells)} |")
    return lines


def rates_picture(table: pandas.DataFrame) -> bytes:
    """PNG: a panel per situation, a line per method, a point per learning rate."""
    situations = list(table.groupby(["attribute", "share"], sort=False))
    labels = list(dict.fromkeys(zip(table["method"], table["synthetic"], strict=True)))
    colours = dict(zip(dict.fromkeys(method for method, _ in labels), COLOURS, strict=False))
    sets = [name for name in dict.fromkeys(synthetic for _, synthetic in labels) if name]
    dashes = {"": "-", **dict(zip(sets, DASHES, strict=False))}
    alone = {method for method, own in table.groupby("method") if not own["learning_rate"].any()}
    drawn = Figure(figsize=(13, 5 * -(-len(situations) // 2) + 1), dpi=100, layout="constrained")
    axes = drawn.subplots(-(-len(situations) // 2), 2, squeeze=False)
    for axis, ((attribute, share), own) in zip(axes.flat, situations, strict=False):
        for method, synthetic in labels:
            rows = own[(own["method"] == method) & (own["synthetic"] == synthetic)].sort_values("learning_rate")
            x, y = ([one["mean"] for one in rows[name]] for name in (ACCURACY, GAP))
            axis.plot(x, y, dashes[synthetic], color=colours[method], linewidth=1.2)
            sizes = [160] if method in alone else list(15 + 25 * np.arange(len(rows)))
            axis.scatter(x, y, s=sizes, color=colours[method], marker="*" if method in alone else "o", zorder=3)
        low, high = (own.loc[own["method"] == "biased", GAP].iloc[0][key] for key in ("low", "high"))
        axis.axhspan(low, high, color=colours["biased"], alpha=0.08, linewidth=0)
        axis.set_title(f"correlated with {attribute}, {_ratio(share)}", fontsize=10)
        axis.set_xlabel("accuracy, mean over (finding, group)")
        axis.set_ylabel("equalized odds difference (0: fair)")
        axis.spines[["right", "top"]].set_visible(False)
    handles = [
        Line2D(
            [],
            [],
            linestyle=dashes[synthetic],
            color=colours[method],
            marker="*" if method in alone else "o",
            label=name_of(method, synthetic),
        )
        for method, synthetic in labels
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, handlelength=4)
    drawn.suptitle(
        "Means over seeds; larger points: larger learning rates; band: interval of the biased one", fontsize=11
    )
    return _png(drawn)


def gradients_picture(record: Record) -> bytes:
    """PNG: D1 and D2 of each tensor, with the range over seeds; filled where the largest k chose it in most seeds."""
    rows = pandas.DataFrame(record.measured["gradients"])
    rows = rows[(rows["share"] == max(rows["share"])) & (rows["synthetic"] == rows["synthetic"].iloc[0])]
    place, seeds = int(np.argmin(record.settings["tensor_shares"])), record.settings["seeds"]
    situations = list(rows.groupby("attribute", sort=False))
    drawn = Figure(figsize=(14, 4.2 * len(situations)), dpi=100, layout="constrained")
    axes = drawn.subplots(len(situations), 2, squeeze=False)
    for line, (attribute, own) in zip(axes, situations, strict=True):
        for axis, (name, label) in zip(line, PANELS.items(), strict=True):
            _differences(axis, own[name].tolist(), [one[place] > seeds / 2 for one in own["chosen"]])
            axis.set_xticks(np.arange(len(own)), own["tensor"], rotation=90, fontsize=7)
            axis.set_ylabel(label)
            axis.set_xlabel("parameter tensor, from input to output")
            axis.set_title(
                f"{record.settings['finding']} with {attribute}, {_ratio(own['share'].iloc[0])}", fontsize=10
            )
            axis.spines[["right", "top"]].set_visible(False)
    k = min(record.settings["tensor_shares"])
    drawn.suptitle(f"Mean and range over {seeds} seeds; filled: chosen at k {k:g} by most seeds", fontsize=11)
    return _png(drawn)


def _differences(axis: Any, values: Sequence[Sequence[float]], chosen: Sequence[bool]) -> None:
    for at, (one, is_chosen) in enumerate(zip(values, chosen, strict=True)):
        axis.plot([at, at], [min(one), max(one)], color=COLOURS[0], linewidth=1)
        axis.plot(
            at, np.mean(one), "o", color=COLOURS[0], markerfacecolor=COLOURS[0] if is_chosen else "white", markersize=5
        )
    axis.set_yscale("log")


def _png(drawn: Figure) -> bytes:
    file = io.BytesIO()
    drawn.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
