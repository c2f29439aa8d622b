"""Bad input: one line each, with key, value, what is allowed and what to type; exit code 2; no
traceback; nothing computed.
"""

import json
import shlex
import sys
from pathlib import Path

import forked
import pytest
from command import ROOT, environment, run
from PIL import Image

from unrelearn.config.choices import check_choices

BAD = {
    "method=dimu": ["method=dimu", "dimum", "Type method=dimum"],
    "attack=dimmra": ["attack=dimmra", "few_shot", "Type attack=dimra"],
    "dataset=cifar": ["dataset=cifar", "digits", "Type dataset=cifar10"],
    "method.lerning_rate=1": ["method.lerning_rate=1", "Type method.learning_rate=1"],
    "trainer.device=2": ["trainer.device=2", "Type trainer.devices=2"],
    "methd=dimum": ["methd=dimum", "Type method=dimum"],
    "+foo=1": ["foo", "Leave +foo out"],
    "+method.foo=1": ["method.foo=1", "allowed:", "memory_weight"],
    "forget=12": ["forget=12", "allowed: 0, 1", "Type forget=0"],
    "forget=cat": ["forget=cat", "allowed: 0, 1"],
    "forget=[0,1,2,3,4,5,6,7,8,9]": ["every class", "retain set empty"],
    "forgotten_before=[3]": ["has forgotten nothing", "Type model.checkpoint=FOLDER"],
    "audit.fail_above=5": ["between 0 and 1", "Type audit.fail_above=0.05"],
    "forget=random": ["forget=random: no such class", "Type forget=random:0.1"],
    "forget=class:99": ["forget=class:99: no such class", "Type forget=9"],
    "forget=[]": ["forget=[]", "names no class"],
    "method.max_steps=-3": ["method.max_steps=-3", "at least 0"],
    "model.pretrain.max_steps=-3": ["model.pretrain.max_steps=-3", "at least 0"],
    "model.pretrain.max_steps=abc": [
        "model.pretrain.max_steps=abc",
        "a whole number, at least 0",
        "Type model.pretrain.max_steps=2000",
    ],
    "method.learning_rate=fast": ["method.learning_rate=fast", "a number"],
    "method.memory=foo": ["method.memory=foo", "nearest_class", "Type method.memory=another_class"],
    "attack.budgets=[0,50,20]": ["attack.budgets=[0, 50, 20]", "increasing"],
    "attack.budgets=[0]": ["attack.budgets=[0]", "the last above 0"],
    "attack.retain_fraction=0": ["attack.retain_fraction=0", "above 0"],
    "model.unet.block_out_channels=[32,32,32,32,32]": ["image size 8", "multiple of 16"],
    "model.unet.norm_num_groups=7": ["block_out_channels=[32, 64]", "norm_num_groups=7"],
    "trainer.devices=64": ["trainer.devices=64", "Type trainer.devices="],
    "sampler.name=euler": ["sampler.name=euler", "dpmsolver++", "Type sampler.name=ddim"],
    "method=munba trainer.batch_size_per_device=8": [
        "batch_size_per_device=8",
        "Type trainer.batch_size_per_device=null",
    ],
    "precision=bf16": ["precision=bf16", "bf16-mixed"],
    "stages=[pretran]": ["stages=pretran", "evaluate"],
    "stages=[evaluate]": ["stages=[evaluate]", "pretrain", "Type 'stages=[pretrain,evaluate]'"],
    "dataset=folder": ["dataset.root", "has no default", "Type dataset.root="],
    "dataset=folder dataset.root=/no/such dataset.image_size=8": [
        "dataset.root=/no/such",
        "no such folder",
    ],
    "dataset=mnist dataset.download=false dataset.root=/no/such": [
        "train-images-idx3-ubyte",
        "/no/such",
    ],
    "seed=-1": ["seed=-1", "between 0 and"],
    "method.memory=counterpart": [
        "method.memory=counterpart",
        "no attributes",
        "Type method.memory=another_class",
    ],
    "eval=[fid] paths.inception_weights=/no/such": [
        "paths.inception_weights=/no/such",
        "no such file",
    ],
    "protocol.name=best": [
        "protocol.name=best",
        "as_released, clean, fast, salun",
        "Type protocol=fast",
    ],
    "dataset.root=/x": ["dataset.root=/x", "dataset=folder", "Type dataset=folder dataset.root=/x"],
    "method=original method.memory=noise": [
        "the method chosen here has no such key",
        "Type method=dimum method.memory=noise",
    ],
    "model.unet.norm_num_groups=0": [
        "model.unet.norm_num_groups=0",
        "between 1 and 1024",
        "Type model.unet.norm_num_groups=8",
    ],
    "model.pretrain.grad_clip=inf": [
        "model.pretrain.grad_clip=inf",
        "Type model.pretrain.grad_clip=1000000000.0 for no limit",
    ],
    "method.memory_weight=inf": ["method.memory_weight=inf", "must be finite"],
    "model.schedule.beta_start=nan": [
        "model.schedule.beta_start=nan",
        "must be a number",
        "=0.0001",
    ],
    "model.schedule.beta_end=2": [
        "model.schedule.beta_end=2",
        "between 0 and 0.999",
        "Type model.schedule.beta_end=0.02",
    ],
    "model.schedule.beta_start=0.5": [
        "model.schedule.beta_start=0.5",
        "must be below model.schedule.beta_end=0.02",
    ],
    "sampler.guidance_scales=[1.0,nan]": ["sampler.guidance_scales=[1.0, nan]", "must be a number"],
    "sampler.num_inference_steps=50 model.schedule.num_train_timesteps=20": [
        "num_inference_steps=50",
        "at most",
        "=20",
    ],
    "forget=[3,5] sampler.num_images=1": [
        "sampler.num_images=1",
        "2 of them",
        "Type sampler.num_images=100",
    ],
    "forget=[3,5] sampler.second.num_images=1": [
        "sampler.second.num_images=1: is shared by the forgotten classes, 2 of them",
        "Type sampler.second.num_images=100",
    ],
    "forget=3,5": [
        "forget=3,5",
        "several values",
        "Type 'forget=[3,5]'",
        "-m forget=3,5",
        """'forget="3,5"'""",
    ],
    "attack=none,dimra": ["attack=none,dimra", "Type -m attack=none,dimra"],
    "forget=naïve": [
        "forget=naïve",
        "must be quoted for Hydra, as it holds ï",
        """Type 'forget="naïve"'""",
    ],
    "paths.data=~nobody-here": ["paths.data=~nobody-here", "no such user", "Type 'paths.data="],
    "seed=3 seed=abc": ["seed=abc: must be a whole number", "Type seed=0"],
    "seed=abc seed=3": ["seed=abc: must be a whole number", "Type seed=0"],
    "seed=abc": ["seed=abc", "a whole number, between 0 and", "Type seed=0"],
    "seed=1e3": ["seed=1e3", "a whole number, between 0 and", "Type seed=1000"],
    "seed=null": ["seed=null", "a whole number", "Type seed=0"],
    "trainer.devices=all": ["a whole number or auto, at least 1", "Type trainer.devices=1"],
    "trainer.devices=2.5": ["a whole number or auto, at least 1", "Type trainer.devices=1"],
    "trainer.threads=many": ["a whole number, at least 1, or null", "Type trainer.threads=1"],
    "rebuild=maybe": ["rebuild=maybe", "must be true or false. Type rebuild=false"],
    "precision=null": ["precision=null: must be one of 32-true, bf16-mixed", "Type "],
    "sampler=5": ["sampler=5", "must be a group of keys"],
    "relearning.budgets=4": [
        "relearning.budgets=4",
        "a list, each a whole number",
        "Type 'relearning.budgets=[4]'",
    ],
    "stages=pretrain": ["stages=pretrain", "a list, each a word", "Type 'stages=[pretrain]'"],
    "sampler.guidance_scales=[a]": ["each a number", "Type 'sampler.guidance_scales=["],
    "relearning.budgets=[4,0]": [
        "relearning.budgets=[4, 0]: must be increasing",
        "Type 'relearning.budgets=[0,25,50,100,200,400]'",
    ],
    "relearning.lr_schedule=linear": [
        "relearning.lr_schedule=linear: must be one of constant, one_cycle, cosine, multistep.",
        "Type relearning.lr_schedule=constant",
    ],
    "unlearning.batch_size=0": ["unlearning.batch_size=0", "Type unlearning.batch_size=64"],
    "model.pretrain.label_dropout=2": ["model.pretrain.label_dropout=2", "between 0 and 1"],
    "method.learning_rate=null": ["method.learning_rate=null: must be a number. Type"],
    "attack.budgets=[0,null]": ["attack.budgets=[0, null]: must be a list"],
    "attack=null": ["attack=null: no such attack; allowed: context_probe", "Type attack=none"],
    "method=null": ["method=null: no such method; allowed: concept_ablation, dimum, ", "=original"],
    "experiment=classification method=null": ["; allowed: bad_teacher, ", "Type method=original"],
    "eval=null": ["eval=null: no such eval; allowed: agreement", "Type eval=forget_accuracy"],
    "dataset=null": ["dataset=null: no such dataset; allowed: avatars", "Type dataset=digits"],
    "model.unet=null": ["model.unet=null: a model of diffusion has one", "Leave model.unet out"],
    f"method=given method.checkpoint={'a' * 300}": ["can not be a path (File name too long)"],
    "model.gan={design:null}": [
        "model.gan={design:null}: model.gan is null with what is chosen here",
        "Leave model.gan out",
    ],
    "experiment=classification model.network=null": ["model.network=null", "classification has"],
    "experiment=classification model.unet.dropout=0.1": [
        "model.unet.dropout=0.1: model.unet is null with what is chosen here",
        "Leave model.unet.dropout out",
    ],
    "sampler.second=null sampler.second.num_images=3": [
        "sampler.second.num_images=3: sampler.second is null",
        "Leave sampler.second.num_images out",
    ],
    "model=null": ["model=null: no such model; allowed: ", "Type model=unet_tiny"],
    "experiment=null": ["experiment=null: no such experiment", "Leave experiment=null out"],
    "attack=5": ["attack=5: no such attack; allowed", "Type attack=none"],
    "method={}": ["method={}: no such method; allowed", "Type method=original"],
    "attack=[none,dimra]": ["attack=[none,dimra]: attack takes one. Type -m attack=none,dimra"],
    "method=[salun]": ["method=[salun]: method takes one. Type method=salun"],
    "eval=[]": ["eval=[]: none is chosen", "Type eval=forget_accuracy"],
    "eval=[nope]": ["eval=[nope]: no such eval; allowed: agreement, ", "Type 'eval=["],
    "eval=[kid,nope,entrop]": ["no such eval: nope, entrop; allowed", "Type 'eval=[kid,"],
    "experiment=nope": ["experiment=nope: no such experiment", "grid/celeba, grid/cifar10, "],
    "experiment=grid/digit": ["experiment=grid/digit: no such", "Type experiment=grid/digits"],
    "tuned=dimum": ["tuned=dimum: is of no run", "Type +tuned=dimum"],
    "metod.learning_rate=1": ["there is no metod", "Type method.learning_rate=1"],
    "+tuned=dimun": ["tuned=dimun: no such tuned; allowed", "Type +tuned=dimum"],
    "experiment=grid/cifar10 trainer.accelerator=cpu": [
        "experiment=grid/cifar10: is several runs (",
        "Type python run.py -m experiment=grid/cifar10, or python scripts/grid.py run",
    ],
    "model.checkpoint=/no/such": [
        "model.checkpoint=/no/such",
        "no such file or folder",
        "Type model.checkpoint=null",
    ],
}


@pytest.mark.parametrize("overrides", BAD)
def test_bad_input_gets_one_line_that_says_what_to_type(overrides: str, complaint):
    lines = complaint(*overrides.split(" "))
    about = [line for line in lines if all(part in line for part in BAD[overrides])]
    assert about, lines
    assert all(
        (line.startswith("error: ") and "Type" in line) or "type" in line or "Leave" in line
        for line in lines
    ), lines
    assert len(lines) == 1 or overrides == "dataset=folder", lines


def test_all_problems_are_named_at_once(complaint):
    lines = complaint("forget=12", "method.max_steps=-3", "sampler.name=euler")
    assert len(lines) == 3


@pytest.mark.parametrize("first", ["eval=[nope]", "attack=null"])
def test_a_choice_that_there_is_not_hides_no_other_problem(complaint, first: str):
    lines = complaint(first, "trainer=nope", "method.max_stepps=3")
    assert sorted(line.split(": ")[1] for line in lines) == sorted(
        [first, "trainer=nope", "method.max_stepps=3"]
    )


def test_only_what_is_for_the_chosen_model_is_listed(complaint):
    (line,) = complaint("experiment=classification", "method=scrubb")
    assert line.endswith(". Type method=scrub")
    assert "bad_teacher" in line and "salun" in line and "dimum" not in line
    (line,) = complaint("attack=relern")
    assert "dimra" in line and "relearn" not in line and "linear_probe" not in line


def test_good_choices_ask_for_no_list_of_what_fits():
    """It takes an import of every method."""

    def asked(group: str) -> list[str]:
        raise AssertionError(group)

    assert check_choices(["method=dimum", "attack=none,dimra", "eval=[fd_oracle]"], asked) == []


def test_of_several_runs_the_choice_that_there_is_not_is_named(complaint):
    (line,) = complaint("-m", "attack=null,none", "seed=0,1")
    assert line.startswith("error: attack=null,none: no such attack: null; allowed: context_probe")
    (line,) = complaint("-m", "attack=dimra,nope,prune")
    assert line.startswith("error: attack=dimra,nope,prune: no such attack: nope; allowed: ")
    assert ". Type attack=dimra," in line and line.endswith(",prune")


def test_one_run_of_those_that_an_experiment_lists_may_be_typed(complaint):
    listed = ("method=dimum", "attack=none", "seed=0")
    (line,) = complaint("experiment=grid/digits", *listed, "forget=12")
    assert line.startswith("error: forget=12: ")


def test_what_is_missing_hides_no_other_problem(complaint):
    lines = complaint(
        "dataset=folder", "method.max_steps=-3", "sampler.name=euler", "model.unet.dropout=???"
    )
    for key in (
        "dataset.image_size: has",
        "dataset.root: has",
        "model.unet.dropout: has",
        "sampler.name=euler",
        "method.max_steps=-3",
    ):
        assert sum(line.startswith(f"error: {key}") for line in lines) == 1, lines
    assert len(lines) == 5


def test_mistyped_keys_hide_no_other_problem(complaint):
    lines = complaint(
        "method.lerning_rate=1", "trainer.device=2", "sampler.name=euler", "forget=12"
    )
    assert [line.split("=")[0] for line in lines] == [
        f"error: {key}"
        for key in ("method.lerning_rate", "trainer.device", "sampler.name", "forget")
    ]


def test_a_bad_attack_does_not_hide_that_the_model_lacks_its_network(complaint):
    lines = complaint("model.unet=null", "attack.batch_size=null")
    assert [line.split(": ")[1] for line in lines] == ["attack.batch_size=null", "model.unet=null"]


def test_a_path_that_no_file_can_have_hides_no_other_problem(complaint):
    lines = complaint(f"model.checkpoint={'a' * 300}", "attack=null")
    assert [line.split("=")[0] for line in lines] == ["error: attack", "error: model.checkpoint"]


def test_an_element_of_a_list_hides_no_other_problem(complaint):
    lines = complaint("relearning.budgets=[0,nan]", "method.memory_weight=inf", "forget=12")
    assert [line.split(": ")[1] for line in lines] == [
        "relearning.budgets=[0,nan]",
        "method.memory_weight=inf",
        "forget=12",
    ]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            "+attack.blocks=[banana]",
            ["attack.blocks=['banana']", "Type '+attack.blocks=[conv_in]'"],
        ),
        ("+method.blocks=5", ["method.blocks=5: must be a list"]),
        ("dataset.root=~nobody[", ["Type"]),
        (f"dataset.root={'x' * 300}[", ["Type"]),
        ("method=salun +tuned=dimum_cover", ["tuned=dimum_cover: is of method=dimum_cover"]),
        ("+tuned=classification/salun", ["Type experiment=classification"]),
        ("+tuned=vflgan/digits_halves", ["Type experiment=vflgan"]),
        ("experiment=classification +tuned=salun", ["is not of model="]),
        ("+method=salun", ["method=salun: is chosen already", "Type method=salun"]),
        ("privacy=[dpsgd]", ["is no federation of parties", "Type experiment=vflgan"]),
        ("gan.replicas=3", ["is no federation of parties"]),
        ("reference=retrain", ["reference=retrain: only weights from elsewhere", "method=retrain"]),
        ("eval=[concept_accuracy]", ["Digits with model=unet_tiny has not"]),
        ("eval=[paraphrase_accuracy]", ["Digits with model=unet_tiny has not"]),
        ("attack=quantize attack.levels=[4.5]", ["Type 'attack.levels=[8,4]'"]),
        ("attack=prune attack.levels=0.5", ["Type 'attack.levels=[0.5]'"]),
        ("attack.budgets=800", ["Type 'attack.budgets=[800]'"]),
        ("method.max_steps=1e9", ["Type method.max_steps=1000000000"]),
        ("method.learning_rate=-1", ["Type method.learning_rate=0.0002"]),
    ],
)
def test_what_would_be_ignored_or_mistaken_is_refused_with_what_to_type(
    complaint, words: str, parts: list[str]
):
    lines = complaint(*words.split(" "))
    assert any(all(part in line for part in parts) for line in lines), lines


def test_a_folder_whose_name_holds_a_comma_is_quoted_whole(complaint, tmp_path: Path):
    folder = tmp_path / "strange dir $HOME=1, y"
    folder.mkdir()
    (line,) = complaint("dataset=folder", f"dataset.root={folder}")
    assert shlex.quote(f'dataset.root="{folder}"') in line


def test_one_class_alone_can_not_be_forgotten(complaint, tmp_path: Path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for shade in range(3):
        Image.new("L", (8, 8), shade).save(tmp_path / "images" / "cat" / f"{shade}.png")
    root = f"dataset.root={tmp_path / 'images'}"
    lines = complaint("dataset=folder", root, "dataset.image_size=8", "forget=cat", "dry_run=true")
    assert not any("Type forget=cat" in line for line in lines)
    assert any("two classes or more" in line for line in lines), lines


def test_words_that_can_not_be_read_are_all_named(complaint):
    lines = complaint("forget=naïve", "tracking.group=a#b")
    assert len(lines) == 2 and all("must be quoted" in line for line in lines)


def test_what_w_and_b_would_refuse_is_said_before_the_run(complaint):
    lines = complaint(
        "tracking=wandb",
        f"tracking.tags=[{'x' * 80},ok,'']",
        "tracking.project=a/b",
        f"tracking.group={'g' * 129}",
    )
    assert len(lines) == 4
    for part in (
        "80 characters, and W&B takes 1 to 64",
        "0 characters",
        "takes no / in the name",
        "129 characters",
    ):
        assert any(part in line for line in lines), lines
    assert any("Type tracking.project=a-b" in line for line in lines)


def test_a_class_called_like_a_number_is_forgotten_and_no_other(tmp_path: Path):
    for name in ("0_0", "0_1", "1_0", "1_1"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for shade in range(3):
            Image.new("L", (8, 8), shade).save(tmp_path / "images" / name / f"{shade}.png")
    images = [
        "dataset=folder",
        f"dataset.root={tmp_path / 'images'}",
        "dataset.image_size=8",
        "model=unet_tiny",
    ]
    run(
        *images,
        "forget=[1_0,1_1]",
        "method=row_swap",
        "attack=none",
        "sampler.num_images=2",
        f"paths.outputs={tmp_path / 'o'}",
    )
    (record,) = [
        json.loads(path.read_text()) for path in (tmp_path / "o").glob("runs/*/result.json")
    ]
    assert [record["class_names"][index] for index in record["forget_classes"]] == ["1_0", "1_1"]
    assert """'forget=["1_0","1_1"]'""" in record["command"]


def test_the_home_folder_is_meant_by_a_tilde_also_by_hydra(tmp_path: Path):
    """Hydra itself writes to the folder of a multirun."""
    words = ["run.py", "dry_run=true", "tracking=none", "paths.outputs=~/out", "-m", "seed=0,1"]
    done = forked.finish([sys.executable, *words], cwd=ROOT, env=environment(HOME=str(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").is_dir() and not (ROOT / "~").exists()


def test_a_folder_of_configurations_may_be_named_after_choices(tmp_path: Path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 5\n")
    words = ["forget=3", "--config-dir", str(tmp_path), "experiment=mine", "--cfg", "job"]
    shown = forked.finish([sys.executable, "run.py", *words], cwd=ROOT, env=environment())
    assert "seed: 5" in shown.stdout and "forget: 3" in shown.stdout, shown.stderr


def test_values_in_an_experiment_that_can_not_be_read_are_shown_with_their_quotes(
    complaint, tmp_path: Path
):
    (tmp_path / "experiment").mkdir()
    several = "# @package _global_\nhydra: {sweeper: {params: {forget: 'naïve,cat'}}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(several, encoding="utf-8")
    (line,) = complaint("-m", "--config-dir", str(tmp_path), "experiment=mine")
    assert line.startswith("error: forget=naïve,cat: must be quoted for Hydra, as it holds ï.")
    assert line.endswith("""Type 'forget="naïve",cat'""")


def test_a_gpu_that_is_not_there(complaint):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "Type trainer.accelerator=cpu" in complaint("trainer.accelerator=gpu")[0]


def test_multirun_with_in_process_ddp_is_refused_at_once(complaint):
    lines = complaint("-m", "trainer=ddp", "seed=0,1")
    assert len(lines) == 1 and "torchrun" in lines[0] and "trainer=auto" in lines[0]


def test_outputs_that_can_not_be_written(complaint, tmp_path: Path):
    (tmp_path / "file").write_text("")
    lines = complaint(outputs=tmp_path / "file" / "below")
    assert (
        len(lines) == 1 and "can not be written" in lines[0] and "Type paths.outputs=" in lines[0]
    )


def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (8, 8), (k, k, k)).save(tmp_path / "images" / name / f"{k}.png")
    return tmp_path / "images"


def test_a_file_that_is_not_an_image(complaint, tmp_path: Path):
    root = folder(tmp_path)
    (root / "cat" / "notes.txt").write_text("not an image")
    lines = complaint(
        "dataset=folder",
        f"dataset.root={root}",
        "dataset.image_size=8",
        "forget=cat",
        "model=unet_tiny",
    )
    assert len(lines) == 1 and "notes.txt" in lines[0]


def test_an_empty_class_folder(complaint, tmp_path: Path):
    root = folder(tmp_path)
    (root / "fish").mkdir()
    lines = complaint(
        "dataset=folder",
        f"dataset.root={root}",
        "dataset.image_size=8",
        "forget=cat",
        "model=unet_tiny",
    )
    assert len(lines) == 1 and "fish" in lines[0]


def test_a_class_of_a_folder_is_forgotten_by_name(tmp_path: Path):
    done = run(
        "dataset=folder",
        f"dataset.root={folder(tmp_path)}",
        "dataset.image_size=8",
        "model=unet_tiny",
        "forget=bird",
        f"paths.outputs={tmp_path / 'outputs'}",
        expect=2,
    )
    assert "0 (cat), 1 (dog)" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_help_is_readable_by_a_newcomer():
    text = run("--help").stdout
    for part in (
        "python run.py method=dimum attack=dimra",
        "dimum",
        "few_shot",
        "fashion_mnist",
        "forget=3",
        "--cfg job",
        "experiment=classification",
        "experiment/grid: celeba, cifar10, digits",
    ):
        assert part in text
    assert run("-h").stdout == text and "${" not in text and "$APP" not in text
    assert "\n\nOften used:" in text and "\ntune:" not in text
    assert max(map(len, text.splitlines())) <= 130


def test_cfg_job_shows_the_whole():
    text = run("--cfg", "job").stdout
    for part in (
        "method:",
        "unrelearn.methods.dimum.DiMUM",
        "guidance_scales",
        "checkpoint_every_n_steps",
    ):
        assert part in text


def test_the_multirun_flag_may_stand_anywhere(tmp_path: Path):
    command = [
        sys.executable,
        "run.py",
        "dry_run=true",
        "tracking=none",
        f"paths.outputs={tmp_path}",
        "-m",
        "seed=0,1",
    ]
    done = forked.finish(command, cwd=ROOT, env=environment())
    assert done.returncode == 0 and done.stdout.count("Nothing was computed") == 2, done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("scripts/stage_graph.py method=banana", "method=banana: no such method"),
        ("scripts/gc.py . --hours nan", "--hours=nan: must be 0 or more"),
        ("scripts/time_box.py --minutes 9 vflgan", "by the steps of a pretraining"),
    ],
)
def test_a_script_refuses_in_one_line(words: str, part: str):
    command = [sys.executable, *words.split()]
    done = forked.finish(command, cwd=ROOT, env=environment())
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2 and part in line, done


def test_of_a_preset_of_another_method_nothing_else_is_said(complaint):
    """Its keys are none of the method's; whoever typed them one by one would mix two methods."""
    (line,) = complaint("method=salun", "+tuned=dimum")
    assert line.endswith("Type method=dimum")
