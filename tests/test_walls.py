"""The walls between the parts of the house, and that every file has its yaml and every yaml fits
its file.
"""

import ast
import importlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import tiny
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from runs import Cell

from unrelearn import config
from unrelearn.arguments import check_arguments
from unrelearn.stage import kinds

HOUSE = Path(__file__).parents[1]
SOURCE, CONF = HOUSE / "src" / "unrelearn", HOUSE / "conf"
OURS = {
    "unrelearn"
    + "".join(
        f".{p}" for p in path.relative_to(SOURCE).with_suffix("").parts if p != "__init__"
    ): path
    for path in sorted(SOURCE.rglob("*.py"))
}
HYDRA, WANDB = {"hydra", "omegaconf", "hydra_plugins"}, {"wandb"}
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric"}

# a group of the configuration -> the package with a file for each of its yamls, and the argument
# that is no yaml key
GROUPS = {
    "method": ("methods", ""),
    "attack": ("attacks", ""),
    "eval": ("evals", "evidence"),
    "dataset": ("data", ""),
    "design": ("gan.designs", ""),
    "privacy": ("gan.privacy", ""),
}
HELPERS = {
    "unrelearn.evals.answers",
    "unrelearn.evals.evidence",
    "unrelearn.evals.published",
    "unrelearn.data.idx",
    "unrelearn.data.mosaics",
    "unrelearn.data.cifar",
    "unrelearn.data.splits",
    "unrelearn.data.download",
    "unrelearn.data.celeba_classes",
    "unrelearn.data.celeba_lists",
    "unrelearn.data.celeba_pixels",
    "unrelearn.data.shapes_words",
    "unrelearn.evals.attributes",
}  # no yaml: not to be chosen
YAMLS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


def imported_by(path: Path) -> set[str]:
    """Dotted names of every import in a file, inside functions too; `from a import b` gives a and
    a.b.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path}:{node.lineno}: a relative import; the walls are checked by full names"
            )
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def foreign(module: str) -> frozenset[str]:
    """Top-level names of what one of our modules imports from elsewhere."""
    return frozenset(name.split(".")[0] for name in imported_by(OURS[module])) - {"unrelearn"}


@cache
def own(module: str) -> frozenset[str]:
    """Our modules that one of our modules imports."""
    return frozenset(imported_by(OURS[module]) & OURS.keys())


def reached_from(module: str) -> set[str]:
    """The module and all of ours that are loaded with it, at whatever distance."""
    reached, new = set(), {module}
    while new:
        reached |= new
        new = set().union(*(own(m) for m in new)) - reached
    return reached


def inside(package: str) -> list[str]:
    return [m for m in OURS if m.startswith(f"unrelearn.{package}.") and m not in HELPERS]


# -------------------------------------------------------------------------------------------- walls


def test_the_walk_sees_imports_of_every_kind(tmp_path: Path):
    (tmp_path / "x.py").write_text(
        "import a.b as c\n"
        "from unrelearn.diffusion import denoiser as d\n"
        "from unrelearn.data import idx\n"
        "def f():\n"
        "    if True:\n"
        "        import wandb, hydra.utils\n"
        "    else:\n"
        "        from omegaconf import MISSING\n"
    )
    found = imported_by(tmp_path / "x.py")
    assert {"a.b", "unrelearn.diffusion.denoiser", "unrelearn.data", "unrelearn.data.idx"} <= found
    assert {"wandb", "hydra.utils", "omegaconf"} <= found
    (tmp_path / "y.py").write_text("from . import x\n")
    with pytest.raises(AssertionError, match="relative"):
        imported_by(tmp_path / "y.py")
    assert len(OURS) > 40 and "unrelearn.data" in OURS and "unrelearn.methods.dimum" in OURS
    assert {
        "unrelearn.diffusion.sampling",
        "unrelearn.diffusion.denoiser",
        "unrelearn.data",
    } <= reached_from("unrelearn.methods.dimum")


@pytest.mark.parametrize(
    "module",
    [
        "artifact",
        "randomness",
        *(
            f"diffusion.{name}"
            for name in ("maths", "denoiser", "sampling", "canonical", "weights")
        ),
    ],
)
def test_the_foundations_know_neither_hydra_nor_lightning_nor_wandb(module: str):
    for reached in reached_from(f"unrelearn.{module}"):
        assert not foreign(reached) & (HYDRA | LIGHTNING | WANDB), f"{module} loads {reached}"


def test_only_tracks_grids_and_records_know_stages():
    knowing = ("unrelearn.stages", "unrelearn.tracks", "unrelearn.grid", "unrelearn.record")
    for module in OURS:
        if not module.startswith(knowing):
            assert not [m for m in own(module) if m.startswith("unrelearn.stages")], module


# names of stages that are words of something else too, wherever they stand
WORDS = {
    "attack": "a group of the configuration, a field of records",
    "dataset": "a group of the configuration, a field of records",
    "oracle": "a part of the configuration, a field of records",
    "audit": "a part of the configuration",
    "reference": "a key of the configuration, what tables call retraining",
    "references": "a part of the configuration, a field of measurements",
    "text": "a part of model",
    "captions": "what a data set may have",
    "columns": "what a data set may have",
    "floor": "a field of measurements",
    "samples": "a field of rows",
    "tables": "a field of rows, a name in files",
    "records": "a field of rows, a random stream",
}
# where else one stands
PLACES = {
    ("method", "unlearn"): "names random streams",
    ("classification.classifying", "pretrain"): "names random streams",
    ("diffusion.denoising", "pretrain"): "names random streams",
    ("classification.kind", "pretrain"): "a key of model",
    ("diffusion.kind", "pretrain"): "a key of model",
    ("report.records", "unlearn"): "reports know what files say, and no stages",
    ("tuning", "unlearn"): "a column of its table",
    ("tuning", "evaluate"): "a column of its table",
}


def names_of_stages() -> set[str]:
    for module in inside("stages"):
        importlib.import_module(module)
    return {kind.name for kind in kinds() if kind.__module__ in OURS}


def texts_in(path: Path) -> set[str]:
    """Every string that stands alone in a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def test_what_is_around_stages_knows_none_by_name():
    names, found = names_of_stages(), set()
    assert names > WORDS.keys()
    for module, path in OURS.items():
        if not module.startswith(("unrelearn.stages", "unrelearn.tracks")):
            named = (names - WORDS.keys()) & texts_in(path)
            found |= {(module.removeprefix("unrelearn."), name) for name in named}
    assert found == PLACES.keys()


def test_what_can_be_left_out_is_what_tracks_say():
    tracks = [importlib.import_module(module) for module in inside("tracks")]
    assert {name for track in tracks for name in track.STAGES} == set(config.every_stage())


@pytest.mark.parametrize(
    ("package", "other"),
    [("diffusion", "classification"), ("diffusion", "gan"), ("classification", "gan")],
)
def test_kinds_of_model_never_import_one_another(package: str, other: str):
    for one, another in ((package, other), (other, package)):
        for module in inside(one):
            assert not [m for m in own(module) if m.startswith(f"unrelearn.{another}")], module


KINDS_OF_MODEL = ("diffusion", "classification", "gan")


@pytest.mark.parametrize("module", ["unrelearn.audits", *inside("audits")])
def test_audits_know_no_kind_of_model(module: str):
    """They read arrays, and of a denoiser the function that is handed in."""
    known = ("unrelearn.audits", "unrelearn.errors", "unrelearn.randomness")
    assert all(name == "unrelearn" or name.startswith(known) for name in own(module))
    assert not foreign(module) & (HYDRA | LIGHTNING | WANDB | {"diffusers"})


@pytest.mark.parametrize("module", ["method", "task", "batches", "training", "fit", "objectives"])
def test_training_knows_no_kind_of_model(module: str):
    for reached in reached_from(f"unrelearn.{module}"):
        assert not reached.startswith(tuple(f"unrelearn.{kind}" for kind in KINDS_OF_MODEL)), (
            reached
        )


@pytest.mark.parametrize("module", inside("methods") + inside("attacks"))
def test_a_method_or_attack_reads_the_shared_parts_and_nothing_else_of_ours(module: str):
    allowed = {
        f"unrelearn.{name}"
        for name in (
            "method",
            "training",
            "objectives",
            "masks",
            "ranges",
            "task",
            "diffusion",
            "diffusion.denoising",
            "diffusion.captions",
            "diffusion.prompting",
            "diffusion.erasing",
            "diffusion.adversary",
            "diffusion.attention",
            "diffusion.low_rank",
            "diffusion.noisy",
            "diffusion.memory",
            "diffusion.maths",
            "diffusion.denoiser",
            "diffusion.sampling",
            "diffusion.canonical",
            "classification",
            "classification.classifying",
            "classification.networks",
            "classification.manifold",
            "randomness",
            "data",
            "errors",
        )
    }
    assert own(module) - {"unrelearn"} <= allowed
    assert not foreign(module) & (HYDRA | WANDB)


@pytest.mark.parametrize("package", ["methods", "attacks"])
def test_nothing_reached_from_a_method_or_attack_is_an_eval_a_stage_or_the_other_kind(
    package: str,
):
    barred = {
        m
        for m in OURS
        if m.startswith(("unrelearn.evals", "unrelearn.methods", "unrelearn.attacks"))
        or m.startswith(("unrelearn.stage", "unrelearn.run", "unrelearn.tracks"))
        or m in ("unrelearn.record", "unrelearn.config", "unrelearn.launch")
    }
    for module in inside(package):
        assert not (reached_from(module) - {module}) & barred


@pytest.mark.parametrize("module", [*inside("evals"), "unrelearn.evals.evidence"])
def test_measurements_never_see_a_method_an_attack_or_a_stage(module: str):
    for reached in reached_from(module):
        assert not reached.startswith(
            ("unrelearn.methods", "unrelearn.attacks", "unrelearn.stage", "unrelearn.run")
        ), reached
    assert own(module) <= {
        "unrelearn",
        "unrelearn.advice",
        "unrelearn.data",
        "unrelearn.distributed",
        "unrelearn.audits",
        "unrelearn.audits.bounds",
        "unrelearn.audits.game",
        "unrelearn.diffusion.inception",
        "unrelearn.classification",
        "unrelearn.classification.classifier",
        "unrelearn.classification.scores",
        "unrelearn.randomness",
        "unrelearn.ranges",
        "unrelearn.evals.answers",
        "unrelearn.evals.attributes",
        "unrelearn.evals.concept_accuracy",
        "unrelearn.evals.evidence",
        "unrelearn.evals.fd_oracle",
        "unrelearn.evals.kid_oracle",
        "unrelearn.evals.precision_recall",
        "unrelearn.evals.published",
    }


def test_only_the_configuration_and_what_makes_its_objects_touch_hydra():
    """And what reads words as its parser does. Our launcher lies in hydra_plugins."""
    touching = {m for m in OURS if foreign(m) & HYDRA}
    assert {m for m in touching if not m.startswith("unrelearn.config.")} == {
        "unrelearn.words",
        "unrelearn.run",
        "unrelearn.stages.evaluation",
        "unrelearn.stages.federated",
    }


def test_launching_needs_no_hydra():
    assert not foreign("unrelearn.launch") & HYDRA
    assert not {m for m in own("unrelearn.launch") if m.startswith("unrelearn.config")}
    assert "unrelearn.run" not in own("unrelearn.launch")


def test_only_tracking_imports_wandb():
    assert {m for m in OURS if foreign(m) & WANDB} == {"unrelearn.hosted", "unrelearn.tracking"}
    for path in [HOUSE / "run.py", *(HOUSE / "scripts").glob("*.py")]:
        assert not {name.split(".")[0] for name in imported_by(path)} & WANDB, path


def test_reports_are_made_from_records_alone():
    for module in ("unrelearn.report", *inside("report")):
        allowed = ("unrelearn.report", "unrelearn.terminal")
        assert all(name == "unrelearn" or name.startswith(allowed) for name in own(module))
        assert not foreign(module) & {"torch", "diffusers", *HYDRA, *LIGHTNING, *WANDB}


def test_rich_is_asked_for_where_it_may_be_missing_and_by_scripts_alone():
    assert {name for name in OURS if "rich" in foreign(name)} == {
        "unrelearn.terminal",
        "unrelearn.progress",  # the bars of a terminal, which is one of rich's
    }


# -------------------------------------------------------------------------------------------- names


def test_no_class_name_exists_twice():
    places = defaultdict(list)
    for path in sorted((HOUSE / "src").rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(HOUSE)}:{node.lineno}")
    assert {name: twice for name, twice in places.items() if len(twice) > 1} == {}


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """Names of variables, arguments, attributes, functions, classes and imports, with the line."""
    for node in ast.walk(parsed(path)):
        for field in ("id", "arg", "attr", "name", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name, getattr(node, "lineno", 0)


@pytest.mark.parametrize("folder", ["src", "scripts", "benchmarks", "examples"])
def test_a_name_says_what_it_holds(folder: str):
    says_nothing = {"found", "made", "said", "alike", "settled"}
    files = sorted((HOUSE / folder).rglob("*.py"))
    lines = [
        f"{path.relative_to(HOUSE)}:{line}: {name}"
        for path in files
        for name, line in identifiers(path)
        if name in says_nothing
    ]
    assert files and lines == []


# ------------------------------------------------------------------------------------ file and yaml


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_has_a_yaml_of_its_name_and_every_yaml_a_file(group: str):
    files = {module.rsplit(".", 1)[1] for module in inside(GROUPS[group][0])}
    assert files == {path.stem for path in (CONF / group).iterdir()} - tiny.PRESETS
    assert files


@cache
def composed(group: str, name: str):
    """The configuration with this choice; Hydra's own object, every key given and every
    interpolation resolvable.
    """
    given = {"eval": [f"eval=[{name}]"], "dataset": [f"dataset={name}"]}.get(
        group, [f"{group}={name}"]
    )
    given += ["dataset.root=/images", "dataset.image_size=64"] if name == "folder" else []
    given += ["method.checkpoint=/weights"] if name == "given" else []
    given += ["dataset.root=/table.csv"] if name == "table" else []
    given += [f"eval.{name}.file=/weights.pth"] if name in ("judge", "fid_64") else []
    return config.composed(["tracking=none", *given])


def arguments_of(group: str, name: str, cfg) -> dict:
    several = {"eval": cfg.eval, **{part: cfg.gan[part] for part in ("design", "privacy")}}
    node = several[group][name] if group in several else cfg[group]
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("group, name", YAMLS)
def test_every_yaml_names_its_file_and_fits_its_signature(group: str, name: str):
    arguments = arguments_of(group, name, composed(group, name))
    package, injected = GROUPS[group]
    module, _, member = arguments["_target_"].rpartition(".")
    if name in tiny.PRESETS:
        assert arguments.pop("preset") == name and module.rpartition(".")[2] not in tiny.PRESETS
    else:
        assert module == f"unrelearn.{package}.{name}"
    target = getattr(importlib.import_module(module), member)
    assert target.__module__ == module  # made there, not passed on
    assert check_arguments(group, target, arguments, injected) == []


@pytest.mark.parametrize("group, name", YAMLS)
def test_a_key_too_many_or_of_the_wrong_type_does_not_fit(group: str, name: str):
    arguments = config.constructor_arguments(arguments_of(group, name, composed(group, name)))
    target, injected = get_object(arguments["_target_"]), GROUPS[group][1]
    (problem,) = check_arguments(group, target, {**arguments, "no_such_key": 1}, injected)
    assert problem.startswith(f"{group}.no_such_key=1:")
    for key in arguments.keys() - {"_target_"}:
        (problem,) = check_arguments(group, target, {**arguments, key: {"a": "mapping"}}, injected)
        assert problem.startswith(f"{group}.{key}=")


# ---------------------------------------------------------------------------------------- OmegaConf


def calls_of(name: str) -> Iterator[tuple[str, ast.Call]]:
    for module, path in OURS.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name in (
                getattr(node.func, "id", ""),
                getattr(node.func, "attr", ""),
            ):
                yield f"{module}:{node.lineno}", node


def test_every_instantiate_converts_to_plain_python():
    calls = list(calls_of("instantiate"))
    assert len(calls) >= 4
    for place, call in calls:
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert options.get("_convert_") == "'all'", place


def not_plain(value: object, key: str = "") -> list[str]:
    """Keys below which something else than plain JSON types stands."""
    if type(value) is dict:
        return [k for name, v in value.items() for k in not_plain(v, f"{key}.{name}")]
    if type(value) is list:
        return [k for i, v in enumerate(value) for k in not_plain(v, f"{key}[{i}]")]
    return (
        []
        if type(value) in (str, int, float, bool, type(None))
        else [f"{key}: {type(value).__name__}"]
    )


@pytest.mark.parametrize("attack", ["dimra", "none"])
def test_no_omegaconf_object_leaves_the_configuration(compose, attack: str):
    cfg = compose(f"attack={attack}", "forget=[3,5]")
    assert not_plain(cfg) == []
    pipeline = Cell(cfg, command="test")
    specs = [
        pipeline.original.stage.spec,
        pipeline.unlearned.stage.spec,
        pipeline.classifiers("main").spec,
        *(model.stage.spec for model in pipeline.attacked),
        pipeline.samples(pipeline.unlearned).spec,
        pipeline.evaluation(pipeline.unlearned).spec,
    ]
    assert [k for spec in specs for k in not_plain(spec.config)] == []
    assert not_plain(pipeline.forget) == [] and not_plain(list(pipeline.dataset.class_names)) == []


def test_what_a_record_holds_is_plain_python(compose):
    attack = instantiate(compose("attack=few_shot")["attack"], _convert_="all")
    assert not_plain(vars(attack)) == [] and attack.budgets[0] == 0


def loaded_by(modules: list[str], heavy: set[str]) -> str:
    """Which of the heavy ones a new process has after it imported modules, as text."""
    program = f"import sys, {', '.join(modules)}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_what_is_there_already_is_shown_without_the_libraries_that_make_it():
    """They are 12 s of imports: a run of which everything is there needs none of them."""
    methods = sorted(m for m in OURS if m.startswith(("unrelearn.methods.", "unrelearn.attacks.")))
    modules = ["unrelearn.record", "unrelearn.report.summary", *methods]
    heavy = {"lightning", "diffusers", "sklearn", "matplotlib", "wandb"}
    assert loaded_by(modules, heavy) == "[]"


def test_a_configuration_is_checked_and_help_printed_without_the_libraries_that_compute():
    """Two of the three seconds that --help took were these."""
    heavy = {"torch", "scipy", "sklearn", "pandas", "diffusers", "lightning"}
    assert loaded_by(["unrelearn.config"], heavy) == "[]"
