"""What stands on a leaderboard: the methods with all that was run on them, their order, and the
verdict on each.

Sorted by the worse of DiMRA and embedding inversion, each minus retrain's: an edit that hides where
no retained image reaches is blind to the first, a broken class row to the second. Methods that
ruined their model are not ranked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from unrelearn.report import (
    DASH,
    guidances,
    main_guidance,
    number,
    row_of,
    sees_forgotten,
    sentence,
    takes_steps,
    weight_notes,
)
from unrelearn.report.groups import CONTROLS, Group, estimate, pooled
from unrelearn.report.matrix import (
    NONE,
    Cell,
    Matrix,
    Treatment,
    is_ruined,
    matrices,
    panels,
    unlearned_models,
)
from unrelearn.report.paired import (
    Difference,
    against,
    difference,
    image_difference,
    image_interval,
)
from unrelearn.report.strongest import ROUNDING, strongest

INVERSION = "embedding_inversion"
REFERENCES = ("original", "retrain")  # stand above the ranking
IRREVERSIBLE, REVERSIBLE, UNTESTED, RUINED = (
    "irreversible here",
    "reversible",
    "untested",
    "not ranked: ruined",
)


@dataclass(frozen=True)
class Entry:
    """A method on one board, with its records by attack (whatever its learning rate) and seed."""

    method: Treatment
    attacks: dict[Treatment, dict[int, list[dict]]]
    groups: dict[Treatment, list[Group]]
    cells: dict[tuple[Treatment, str], Cell] = field(
        default_factory=dict
    )  # as far as they were asked for

    @cached_property
    def unlearned(self) -> dict[int, dict]:
        """A record of each seed that measured the unlearned model; it is the same model in all of
        them.
        """
        found: dict[int, dict] = {}
        for attack in sorted(self.attacks, key=lambda attack: attack.name != NONE.name):
            for seed, records in self.attacks[attack].items():
                for record in records:
                    if row_of(record, "unlearned"):
                        found.setdefault(seed, record)
        return dict(sorted(found.items()))

    @cached_property
    def ruined(self) -> bool:
        return is_ruined(self.unlearned.values())

    def behind(self, attack: Treatment | None) -> list[dict]:
        """The records that a number under this attack is made of."""
        if attack == NONE:
            return list(self.unlearned.values())
        return [
            record
            for _, records in sorted(self.attacks.get(attack, {}).items())
            for record in records
        ]

    def cell(self, attack: Treatment, guidance: str) -> Cell:
        """The strongest attacked models of each seed, or the unlearned ones; without seeds where
        none was measured.
        """
        if (attack, guidance) not in self.cells:
            self.cells[attack, guidance] = Cell(
                unlearned_models(self.unlearned, guidance)
                if attack == NONE
                else {
                    seed: best
                    for seed, records in self.attacks.get(attack, {}).items()
                    if (best := strongest(records, guidance))
                }
            )
        return self.cells[attack, guidance]

    def forget_accuracies(self, attack: Treatment, guidance: str) -> dict[int, dict]:
        """By seed."""
        return {seed: best.value for seed, best in self.cell(attack, guidance).seeds.items()}


@dataclass(frozen=True)
class Board:
    """The methods of one table of the comparison, for one forgotten class."""

    matrix: Matrix
    entries: list[Entry]  # original and retrain, then the others as `ranked` at the main guidance
    attacks: list[Treatment]  # whatever their learning rate; none first
    main: Treatment | None  # DiMRA, or the attack in its place
    inversion: Treatment | None
    sees: set[Treatment]  # attacks that hold the class
    records: list[dict]
    references: dict[tuple[str, Treatment], Treatment] = field(
        default_factory=dict
    )  # by guidance and attack
    limits: dict[tuple[str, Treatment], float] = field(
        default_factory=dict
    )  # how far above retrain's mean it reaches itself
    differences: dict[tuple[str, Treatment, Treatment], Difference] = field(
        default_factory=dict
    )  # and by method
    image_differences: dict[tuple[str, Treatment, Treatment], Difference] = field(
        default_factory=dict
    )

    @cached_property
    def every(self) -> dict:
        return pooled(self.records)

    @cached_property
    def guidances(self) -> list[str]:
        """The main one first."""
        main = main_guidance(self.every)
        return sorted(
            guidances(self.every), key=lambda guidance: (guidance != main, float(guidance))
        )

    @property
    def heads(self) -> list[Treatment]:
        """The attacks that rank."""
        return [attack for attack in (self.main, self.inversion) if attack]

    def ranked(self, guidance: str) -> list[Entry]:
        return sorted(self.entries, key=lambda entry: _rank(self, entry, guidance))


# ---- collecting
# --------------------------------------------------------------------------------------------------


def boards(groups: Sequence[Group]) -> list[Board]:
    return [
        _board(matrix, *panel[1:])
        for matrix, panel in zip(matrices(groups, 1), panels(groups), strict=True)
    ]


def _board(
    matrix: Matrix,
    groups: Sequence[Group],
    methods: Sequence[Treatment],
    attacks: Sequence[Treatment],
) -> Board:
    entries = {method: Entry(method, {}, {}) for method in matrix.methods}
    for group, method, attack in zip(groups, methods, attacks, strict=True):
        for record in group.records:
            entries[method].attacks.setdefault(attack, {}).setdefault(record["seed"], []).append(
                record
            )
        entries[method].groups.setdefault(attack, []).append(group)
    sees = {
        attack
        for group, attack in zip(groups, attacks, strict=True)
        if any(map(sees_forgotten, group.records))
    }
    order = sorted(
        {attack for attack in attacks if attack.name != NONE.name},
        key=lambda a: (a in sees, a.name, a.settings),
    )
    inversions = [
        (group, attack)
        for group, attack in zip(groups, attacks, strict=True)
        if attack.name == INVERSION
    ]
    others = [
        (group, attack)
        for group, attack in zip(groups, attacks, strict=True)
        if attack.name != INVERSION
    ]
    board = Board(
        matrix,
        list(entries.values()),
        [NONE, *order],
        _most_met(others, sees),
        _most_met(inversions, sees),
        sees,
        [record for group in groups for record in group.records],
    )
    for guidance in board.guidances:
        for attack in board.attacks:
            values = {
                entry.method: made
                for entry in board.entries
                if (made := entry.forget_accuracies(attack, guidance))
            }
            if values:
                reference = board.references[guidance, attack] = _reference(values)
                if reference.name == "retrain":
                    board.limits[guidance, attack] = _reach(list(values[reference].values()))
                for found, test in (
                    (board.differences, difference),
                    (board.image_differences, image_difference),
                ):
                    found.update(
                        {
                            (guidance, attack, method): made
                            for method, made in against(reference, values, test).items()
                        }
                    )
    board.entries.sort(
        key=lambda entry: _rank(board, entry, board.guidances[0] if board.guidances else "")
    )
    return board


def _most_met(pairs: Sequence[tuple[Group, Treatment]], sees: set[Treatment]) -> Treatment | None:
    """DiMRA if it was run, else an attack that holds nothing of the class and takes steps.

    In the settings that most methods met under most seeds; of several those that bring back most of
    what was unlearned.
    """
    met: dict[Treatment, list[Group]] = {}
    for group, attack in pairs:
        if attack.name != NONE.name and group.finished:
            met.setdefault(attack, []).append(group)

    def wanted(attack: Treatment) -> tuple:
        records = [record for group in met[attack] for record in group.finished]
        models = {
            (record["method"], group.method_note, record["seed"])
            for group in met[attack]
            for record in group.finished
        }
        peaks = [
            best.score
            for record in records
            if record["method"] != "original"
            and (best := strongest([record], main_guidance(record)))
            and best.pairs
        ]
        return (
            attack.name == "dimra",
            attack not in sees,
            takes_steps(records[0]),
            len(models),
            sum(peaks),
        )

    return max(met, key=wanted, default=None)


# ---- ranking
# --------------------------------------------------------------------------------------------------


def gap(board: Board, entry: Entry, attack: Treatment, guidance: str) -> float | None:
    """Recovery minus the reference's under the same attack, over the seeds that both have."""
    if board.references.get((guidance, attack)) == entry.method:
        return 0.0
    made = board.differences.get((guidance, attack, entry.method))
    return made and made.mean


def _reach(values: list[dict]) -> float:
    """How far above their mean retrain's values reach: the highest seed, or their interval over
    images if that is higher.
    """
    return max([*map(number, values), *(image_interval(values) or ())[1:]]) - estimate(values).mean


def verdict(board: Board, entry: Entry, guidance: str) -> str:
    """Whether the class can be brought back; "irreversible" only where both attacks stay within
    retrain's interval.
    """
    if entry.method.name in REFERENCES:
        return "reference" if entry.method.name == "retrain" else DASH
    if entry.ruined:
        return RUINED
    tested = board.main is not None and board.main.name == "dimra" and board.inversion is not None
    within = []
    for attack in board.heads:
        beyond, limit = gap(board, entry, attack, guidance), board.limits.get((guidance, attack))
        whole = not any(best.broke for best in entry.cell(attack, guidance).every.values())
        if beyond is not None and limit is not None and beyond > limit + ROUNDING:
            return REVERSIBLE
        within.append(beyond is not None and limit is not None and whole)
    return IRREVERSIBLE if tested and all(within) else UNTESTED


def _rank(board: Board, entry: Entry, guidance: str) -> tuple:
    """References; then by the worse of the attacks minus retrain, those that met both first; ruined
    models last.
    """
    name = entry.method.name
    if name in REFERENCES:
        return (0, REFERENCES.index(name), 0, 0, name, entry.method.settings)
    gaps = [gap(board, entry, attack, guidance) for attack in board.heads]
    known = [beyond for beyond in gaps if beyond is not None]
    before = estimate(list(entry.forget_accuracies(NONE, guidance).values()))
    return (
        1 + entry.ruined,
        len(gaps) - len(known),
        max(known, default=float("inf")),
        before.mean if before else float("inf"),
        name,
        entry.method.settings,
    )


def _reference(values: dict[Treatment, dict[int, dict]]) -> Treatment:
    """Retraining, which an attack can only teach and not remind; without it the method that holds
    best.
    """
    retrained = [method for method in values if method.name == "retrain"]
    methods = [method for method in values if method.name not in CONTROLS] or list(values)
    return (
        retrained[0]
        if retrained
        else min(methods, key=lambda method: estimate(list(values[method].values())).mean)
    )


def notes(board: Board) -> list[str]:
    """What a reader should know of a method's weights."""
    found = {
        entry.method.label: dict.fromkeys(
            note for record in entry.unlearned.values() for note in weight_notes(record)
        )
        for entry in board.entries
    }
    return [f"{sentence(label)}: {'; '.join(words)}." for label, words in found.items() if words]
