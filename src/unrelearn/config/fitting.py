"""Words of the command line that are of another track, or of another method, than what is chosen:
nothing of them would happen, or something else than they say.
"""

from collections.abc import Iterator, Sequence

from unrelearn.advice import problem
from unrelearn.config.choices import group_in, names_in, readable
from unrelearn.config.groups import name_of
from unrelearn.config.schema import Config

FEDERATED = ("design", "privacy", "gan")
# what a folder of conf/tuned/ begins with -> an experiment of its track
TRACKS = {"classification": "classification", "vflgan": "vflgan"}


def with_misfits(problems: list[str], words: Sequence[str], cfg: Config) -> list[str]:
    """The problems, and those of choices as they were typed."""
    misfits = [line for word in words for line in _problems(word, cfg)]
    if any(line.startswith("tuned=") for line in misfits):  # its keys are another method's
        problems = [line for line in problems if not line.startswith("method.")]
    return [*problems, *misfits]


def _problems(word: str, cfg: Config) -> Iterator[str]:
    key = word.lstrip("+~").partition("=")[0]
    if key.partition(".")[0] in FEDERATED and cfg.model.gan is None:
        why = f"model={cfg.model.name} is no federation of parties, and reads nothing of it"
        yield f"{word}: {why}. Type experiment=vflgan, or leave {word} out"
    if group_in(word) == "tuned":
        for option in names_in(word):
            yield from _tuned(str(option), cfg)


def _tuned(option: str, cfg: Config) -> Iterator[str]:
    """A preset has settings of one method and of one track."""
    chosen = "classification" if cfg.model.network else "vflgan" if cfg.model.gan else None
    folder = option.rpartition("/")[0]
    track = next((name for begin, name in TRACKS.items() if folder.startswith(begin)), None)
    if track != chosen:
        instead = f"Type experiment={track}" if track else "Leave experiment out"
        yield problem("tuned", option, f"is not of model={cfg.model.name}", instead)
    elif (method := _method(option)) and method != name_of(cfg.method):
        why = f"is of method={method}, and method={name_of(cfg.method)} is chosen"
        yield problem("tuned", option, why, {"method": method})


def _method(option: str) -> str | None:
    for entry in readable("tuned", option).get("defaults", []):
        if isinstance(entry, dict) and "override /method" in entry:
            return str(entry["override /method"])
    return None
