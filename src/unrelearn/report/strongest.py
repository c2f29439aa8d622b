"""What an attacker brings back of one unlearned model: which attacked models count, which is
chosen, what is reported.

An attacked model counts if it still draws the retained classes (`stats.intact`); of an attack whose
learning rate falls to nought only the end point counts, for before it the weights are still in
motion. Of the learning rates, or of the levels of an edit, the strongest is chosen on the first
half of the images and reported on the second: a maximum over the images that it was chosen by is
too high by chance alone. Attack seeds are replicates: their mean is chosen and reported; of equal
ones that of most seeds.
"""

from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from unrelearn.report.records import OF_WORDS
from unrelearn.report.stats import MEASURED, Measurement, first_half, over_attack_seeds, second_half
from unrelearn.report.table import pick, presence_in, scales_of

# measured of the same models, and reported beside
BESIDE = {
    "other_sampler": "other_sampler",
    "forget_accuracy_other_starts": "other_starts",
    "forget_accuracy_difference": "difference",
    "forget_accuracy_another": "another",
    "forget_accuracy_nothing": "nothing",
    **{each.name: each.name for each in OF_WORDS},
}
NAMES = ("held_out", *BESIDE.values())


def strongest(values: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Lines of the strongest intact end point or level, one for each attack seed.

    `chosen` says whether it is one of several, `broke` that no end point is intact: the line is
    then of the strongest intact budget, or without a value if there is none.

    Args:
        by: columns that keep unlearned models and attacks apart; learning rates, attack seeds and
            budgets are not among them. Guidance scales are kept apart as well.
    """
    by = [*by, "guidance"]
    attacked = pick(values, model="attacked", present=True)
    scored = attacked.dropna(subset=["value", "low", "high"])
    scored = scored.drop_duplicates([*by, "rate", "step", "attack_seed"])
    ended = scored["end"].astype(bool) & (scored["admissible"] != False)  # noqa: E712
    whole = ended.groupby([scored[name] for name in by]).transform("any")
    kept = scored[ended.where(whole, scored["admissible"] == True)]  # noqa: E712
    kept = kept.assign(broke=~whole.astype(bool)[kept.index], score=scores(kept))
    means = kept.groupby([*by, "rate", "step"], sort=False, dropna=False)["score"].agg(list)
    options = means.map(fmean).rename("score").reset_index()
    options["draws"] = list(map(len, means))
    count = options.groupby(by)["score"].transform("size")
    options["chosen"] = count > 1
    order = options.sort_values(["score", "draws"], ascending=False, kind="stable")
    best = order.groupby(by, sort=False).head(1).drop(columns="draws")
    pairs = kept.drop(columns="score").merge(best, on=[*by, "rate", "step"])
    pairs = stacked(pairs, _broken(attacked, scored, pairs, by))
    return _with_beside(pairs, values).sort_values("attack_seed", kind="stable")


def stacked(above: pd.DataFrame, below: pd.DataFrame) -> pd.DataFrame:
    """One above the other; a column without any value in one has the other's type."""
    if not len(above) or not len(below):
        columns = list(dict.fromkeys([*above, *below]))
        whole = above if len(above) else below
        return whole.reset_index(drop=True).reindex(columns=columns)
    return pd.concat([_typed(above, below), _typed(below, above)], ignore_index=True)


def _typed(frame: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    empty = [name for name in frame if name in like and frame[name].isna().all()]
    number = pd.api.types.is_numeric_dtype
    return frame.astype({name: float if number(like[name]) else object for name in empty})


def _broken(
    attacked: pd.DataFrame, scored: pd.DataFrame, pairs: pd.DataFrame, by: list[str]
) -> pd.DataFrame:
    """A line without a value for each attacked model of which nothing intact is left."""
    scales = pd.DataFrame({"guidance": scales_of(attacked)}, dtype=object)
    diverged = attacked[attacked["guidance"].isna()].drop(columns="guidance")
    tried = pd.concat([scored, diverged.merge(scales, how="cross")]).drop_duplicates(by)
    known = pd.MultiIndex.from_frame(pairs[by])
    lost = tried[~pd.MultiIndex.from_frame(tried[by]).isin(known)]
    empty = {name: None for name in (*MEASURED, "step", "row", "run")}
    return lost.assign(broke=True, chosen=False, **empty)


def scores(lines: pd.DataFrame) -> list[float]:
    return [
        first_half(hits, value) for hits, value in zip(lines["hits"], lines["value"], strict=True)
    ]


def _with_beside(pairs: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    beside = {presence_in(values).held_out: "held_out", **BESIDE}
    lines = pick(values, measurement=list(beside))
    wide = lines.pivot(index=["row", "guidance"], columns="measurement", values="value")
    wide = wide.rename(columns=beside).reindex(columns=NAMES)
    return pairs.merge(wide, left_on=["row", "guidance"], right_index=True, how="left")


def unlearned_models(values: pd.DataFrame) -> pd.DataFrame:
    """The models before any attack, as `strongest` gives those after."""
    lines = pick(values, model="unlearned", last=True, present=True)
    lines = lines.dropna(subset=["value"])
    lines = lines.assign(score=scores(lines), chosen=False, broke=False, step=None)
    return _with_beside(lines, values)


def strongest_of(pairs: pd.DataFrame, attacks: Sequence[str], by: list[str]) -> pd.DataFrame:
    """Of several attacks, and of doing nothing; broken ones count with what they show."""
    by = [*by, "guidance"]
    lines = pick(pairs, attack_label=list(attacks)).dropna(subset=["value"])
    lines = lines.assign(order=lines["attack_label"].map(list(attacks).index))
    options = lines.sort_values("order", kind="stable").drop_duplicates([*by, "order"])
    several = options.groupby(by)["order"].transform("size") > 1
    options = options.assign(several=several).sort_values("score", ascending=False, kind="stable")
    best = options.drop_duplicates(by)[[*by, "order", "several"]]
    chosen = lines.merge(best, on=[*by, "order"])
    return chosen.assign(chosen=chosen["chosen"] | chosen["several"])


def reported(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """One line a model seed: MEASURED, on the second half of the images where there was a choice;
    the highest over attack seeds, the names of the runs, and the means of what is measured beside.
    """
    by = [*by, "guidance"]
    halves = []
    for chosen, *values in pairs[["chosen", *MEASURED]].itertuples(index=False):
        whole = Measurement(*values)
        halves.append(second_half(whole) if chosen else whole)
    frame = pd.DataFrame(halves, index=pairs.index, columns=MEASURED, dtype=object)
    pairs = pairs.assign(**{name: frame[name] for name in MEASURED})
    seeds = over_attack_seeds(pairs, by).set_index(by)
    groups = pairs.assign(value=pairs["value"].astype(float)).groupby(by, sort=False, dropna=False)
    seeds["maximum"] = groups["value"].max()
    seeds["at"] = groups["step"].first().astype(float)
    seeds["rate"] = pd.to_numeric(groups["rate"].first(), errors="coerce")
    seeds["broke"] = groups["broke"].first()
    seeds["runs"] = groups["run"].agg(lambda runs: "+".join(runs.dropna()))
    seeds["ids"] = groups["id"].agg(tuple)
    for name in ("retained", *NAMES):
        seeds[name] = pairs[name].astype(float).groupby([pairs[n] for n in by], sort=False).mean()
    return seeds.reset_index().sort_values("seed", kind="stable", ignore_index=True)
