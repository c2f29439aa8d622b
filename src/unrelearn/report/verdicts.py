"""In which order methods stand on the leaderboard, and the verdict on each.

Sorted by the worse of DiMRA and embedding inversion, each minus retrain's: an edit that hides where
no retained image reaches is blind to the first, a broken class row to the second. Methods that
ruined their model are not ranked.
"""

import itertools

import numpy as np
import pandas as pd

from unrelearn.report.panel import Panel
from unrelearn.report.panel_runs import MAIN
from unrelearn.report.records import NONE, PARAPHRASE
from unrelearn.report.stats import ROUNDING, highest
from unrelearn.report.table import pick
from unrelearn.report.words import DASH, guidance_label, sentence, weight_notes

REFERENCES = ("original", "retrain")  # stand above the ranking
IRREVERSIBLE, REVERSIBLE, UNTESTED = "irreversible here", "reversible", "untested"
RUINED, LEFT = "not ranked: ruined", "not forgotten: synonyms"


def verdict(panel: Panel, guidance: str, method: str) -> str:
    """ "irreversible" only where DiMRA and inversion stay within retrain's interval, in each of
    their settings that met both; what alone goes beyond it and ranks nobody is named. A word that
    shows under its synonyms has not been forgotten.
    """
    name = panel.named[method][0]
    if name in REFERENCES:
        return "reference" if name == "retrain" else DASH
    if method in panel.ruined:
        return RUINED
    if _left(panel, guidance, method):
        return LEFT
    within = []
    for attack in panel.deciding:
        beyond, limit = gap(panel, guidance, attack, method), panel.limits.get((guidance, attack))
        if beyond is None or limit is None:
            within.append(attack not in panel.heads)
            continue
        if beyond > limit + ROUNDING:
            return REVERSIBLE if attack in panel.heads else f"{REVERSIBLE}: {attack}"
        cell, sees = panel.cell(guidance, method, attack), not taken(panel, guidance, attack)
        within.append(sees and not (cell and cell.tried["broke"].any()))
    if _synonyms_back(panel, guidance, method):
        return f"{REVERSIBLE}: synonyms"
    main = panel.main and panel.named[panel.main][0]
    tested = main == MAIN and panel.inversion is not None
    return IRREVERSIBLE if tested and all(within) else UNTESTED


def taken(panel: Panel, guidance: str, attack: str) -> tuple[float, float] | None:
    """What the original shows before and after an attack that takes more than half of it: such an
    attack may find nothing where all is left. None where it takes less, or was not run on it.
    """
    for method, (name, _) in panel.named.items():
        before, after = (panel.seeds(guidance, method, each) for each in (NONE, attack))
        if name == "original" and before is not None and after is not None:
            first, last = (float(np.mean(each["value"].tolist())) for each in (before, after))
            return (first, last) if last < first / 2 else None
    return None


def _left(panel: Panel, guidance: str, method: str) -> bool:
    """Whether a word shows under its synonyms beyond retrain's, before any attack."""
    retrained = _under_synonyms(panel, guidance, "retrain")
    own = panel.of_models(PARAPHRASE, guidance)
    own = pick(own, method_label=method).dropna(subset=["value"])
    if retrained.empty or own.empty:
        return False
    return bool(own["value"].mean() > highest(retrained) + ROUNDING)


def _synonyms_back(panel: Panel, guidance: str, method: str) -> bool:
    """Whether an attack brings them back beyond what it brings to retrain."""
    retrained = _under_synonyms(panel, guidance, "retrain")
    if retrained.empty:
        return False
    reach = highest(retrained) - float(np.mean(retrained["value"].tolist()))
    for attack in panel.heads:
        reference = panel.references.get((guidance, attack), "")
        own, other = (panel.cell(guidance, each, attack) for each in (method, reference))
        shown, taught = own and own.mean(PARAPHRASE), other and other.mean(PARAPHRASE)
        if shown is None or taught is None:
            continue
        if shown > taught + reach + ROUNDING:
            return True
    return False


def _under_synonyms(panel: Panel, guidance: str, name: str) -> pd.DataFrame:
    """Of the unlearned models of a method; empty where it is no word that is forgotten."""
    labels = [label for label, (own, _) in panel.named.items() if own == name]
    lines = pick(panel.of_models(PARAPHRASE, guidance), method_label=labels)
    return lines.dropna(subset=["value"]) if panel.presence.of_word else lines[:0]


def gap(panel: Panel, guidance: str, attack: str, method: str) -> float | None:
    """Recovery minus retrain's under the same attack, over the seeds that both have; recovery
    itself where retrain was not attacked.
    """
    reference = panel.references.get((guidance, attack))
    if reference is None:
        cell = panel.cell(guidance, method, attack)
        return cell and cell.estimate and cell.estimate.mean
    if reference == method:
        return 0.0
    difference = panel.differences.get((guidance, attack, method))
    return difference and difference.mean


def ranked(panel: Panel, guidance: str) -> list[str]:
    """References; then by the worse attack minus retrain; ruined models last."""
    return sorted(panel.methods, key=lambda method: _rank(panel, guidance, method))


def _rank(panel: Panel, guidance: str, method: str) -> tuple[int, int, float, float, str, str]:
    name, settings = panel.named[method]
    if name in REFERENCES:
        return (0, REFERENCES.index(name), 0, 0, name, settings)
    gaps = [gap(panel, guidance, attack, method) for attack in panel.heads]
    known = [beyond for beyond in gaps if beyond is not None]
    before = panel.seeds(guidance, method, NONE)
    return (
        1 + (method in panel.ruined),
        len(gaps) - len(known),
        max(known, default=float("inf")),
        float("inf") if before is None else float(np.mean(before["value"].tolist())),
        name,
        settings,
    )


def notes(panel: Panel) -> list[str]:
    """What a reader should know of the attacks, and of a method's weights."""
    lines = []
    for attack, guidance in itertools.product(panel.heads, panel.guidances):
        if ends := taken(panel, guidance, attack):
            first, last = (f"{100 * each:.1f}" for each in ends)
            lines.append(
                f"{sentence(attack)} takes it from the original too, {first} to {last} % at"
                f" guidance {guidance_label(guidance)}: what it does not bring back may be there."
            )
    for method in ranked(panel, panel.guidances[0]) if panel.guidances else []:
        words = [note for record in panel.records(method) for note in weight_notes(record)]
        if words:
            lines.append(f"{sentence(method)}: {'; '.join(dict.fromkeys(words))}.")
    return lines
