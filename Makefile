# `make run` and `make test` do everything from a bare checkout: Python >= 3.10, git and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export WANDB_MODE ?= offline

.PHONY: help run test results tune results-effort results-digits results-classification results-text results-cifar10 results-avatars results-membership results-vflgan grid-digits report bench lint docs lock clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $(PYTHON) is older than 3.10. Type make PYTHON=python3.11 (or newer)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing torch, diffusers, lightning and the rest: several minutes and GB the first time"
	$(BIN)/python -m pip install --quiet -e '.[test]'
	@touch $@

run: $(STAMP) ## train, unlearn, attack and measure on the digits: about five minutes on two cores
	$(BIN)/python run.py method=dimum attack=dimra

test: $(STAMP) ## the whole fast suite, file by file, the longest first
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

results: $(STAMP) ## the table of presets: seven models under the two attacks of a verdict, one seed (about an hour of one core; resumable)
	$(BIN)/python run.py experiment=readme
	$(BIN)/python scripts/report.py outputs/readme/runs --out docs/results/readme --figures

# two processes of one thread each: two threads gain little on networks this small
tune: export OMP_NUM_THREADS = 1
tune: $(STAMP) ## the same search for every method that trains, on a tuning class and tuning seeds (two to four hours on two cores; resumable)
	$(BIN)/python scripts/tune.py & other=$$!; $(BIN)/python scripts/tune.py; mine=$$?; wait $$other && exit $$mine
	$(BIN)/python scripts/tune.py --write-presets

results-effort results-digits grid-digits: export OMP_NUM_THREADS = 1
comma := ,
space := $(subst ,, )
# equal effort: settings of the search, the runners-up, and controls; an experiment's list of methods would be multiplied with them
TUNED := $(sort $(basename $(notdir $(wildcard conf/tuned/*.yaml))))
CHOSEN := $(subst $(space),$(comma),$(filter-out %_2 %_3,$(TUNED)))
NEXT := $(subst $(space),$(comma),$(filter %_2 %_3,$(TUNED)))
SEEDS := 0,1,2
MORE_SEEDS := 0,1,2,3,4
ATTACK_SEEDS := 0,1,2
HEADS := dimra,embedding_inversion
GRID := $(BIN)/python scripts/grid.py run --no-report
SIZED := relearning.budgets=[0,200,800] sampler.num_images=200 sampler.images_per_retained_class=20 --workers 2
EFFORT := $(GRID) paths.outputs=outputs/effort $(SIZED)
# the search's runners-up and other units of the same weights: what the choice of a setting is worth
SPREAD := $(GRID) paths.outputs=outputs/effort-spread $(SIZED)
# DiMRA at other rates than 1e-3
RATES := $(EFFORT) attack=dimra
# three decades of steps that are a share of each channel's size
RELATIVE := $(EFFORT) attack=dimra_relative attack.learning_rate=1e-3,1e-2,1e-1 seed=0
# twice the pretraining
LONG := $(EFFORT) attack=dimra attack.learning_rate=3e-4 relearning.budgets=[0,1000,2000,4000]
# classes that are neither the tables' nor the tuning one
CLASSES := $(GRID) paths.outputs=outputs/effort-classes $(SIZED)
# what more steps of unlearning buy
STEPS := $(GRID) paths.outputs=outputs/effort-steps $(SIZED)
# and what times of the whole schedule in every batch do, or four times as many
TIMES := env PYTHONPATH=examples/every_time $(GRID) paths.outputs=outputs/effort-times $(SIZED) hydra.searchpath=[file://examples/every_time] seed=0
TIMES_LONG := $(TIMES) attack=dimra attack.learning_rate=3e-4 relearning.budgets=[0,1000,2000,4000]
REFERENCES := method=retrain,projection_swap
# in order of importance: what is there after an evening is the verdicts over five seeds
results-effort: $(STAMP) ## the README's table: tuned methods and controls under the two attacks of a verdict, five seeds; then attack seeds, rates, longer attacks, other classes (the verdicts about two hours of two cores, all some eight; resumable)
	$(EFFORT) attack=$(HEADS) $(REFERENCES) seed=$(MORE_SEEDS)
	$(EFFORT) attack=$(HEADS) +tuned=$(CHOSEN) seed=$(MORE_SEEDS)
	$(EFFORT) attack=$(HEADS) method=row_swap seed=$(SEEDS)
	$(EFFORT) attack=dimra relearning.seed=$(ATTACK_SEEDS) $(REFERENCES) seed=$(MORE_SEEDS)
	$(EFFORT) attack=dimra relearning.seed=$(ATTACK_SEEDS) +tuned=$(CHOSEN) seed=$(MORE_SEEDS)
	$(RATES) attack.learning_rate=3e-4 $(REFERENCES) seed=$(MORE_SEEDS)
	$(RATES) attack.learning_rate=3e-4 +tuned=$(CHOSEN) seed=$(MORE_SEEDS)
	$(RATES) attack.learning_rate=1e-4,3e-3 $(REFERENCES) seed=$(SEEDS)
	$(RATES) attack.learning_rate=1e-4,3e-3 +tuned=$(CHOSEN) seed=$(SEEDS)
	$(RELATIVE) method=retrain
	$(RELATIVE) +tuned=concept_ablation,dimum,dimum_cover,random_label,salun
	$(LONG) method=retrain seed=$(SEEDS)
	$(LONG) +tuned=random_label,dimum,dimum_cover seed=$(SEEDS)
	$(CLASSES) attack=$(HEADS) forget=0,5 $(REFERENCES) seed=0
	$(CLASSES) attack=$(HEADS) forget=0,5 +tuned=$(CHOSEN) seed=0
	$(SPREAD) attack=$(HEADS) $(REFERENCES) seed=0
	$(SPREAD) attack=$(HEADS) method=rescaled method.factor=1,100,0.03 seed=0
	$(SPREAD) attack=$(HEADS) +tuned=$(CHOSEN),$(NEXT) seed=0
	$(STEPS) attack=$(HEADS) method=retrain seed=0
	$(STEPS) attack=$(HEADS) +tuned=dimum,dimum_cover,random_label method.max_steps=200,400,800 seed=0
	$(TIMES) attack=$(HEADS) method=retrain,dimum_every_time
	$(TIMES) attack=$(HEADS) +tuned=dimum method.batch_size=64,256
	$(TIMES) attack=$(HEADS) method=dimum_every_time method.max_steps=200,400,800
	$(TIMES_LONG) method=retrain,dimum_every_time
	$(TIMES_LONG) +tuned=dimum method.batch_size=64,256
	$(BIN)/python scripts/report.py outputs/effort/runs --out docs/results/effort --figures --into README.md
	$(BIN)/python scripts/report.py outputs/effort/runs outputs/effort-spread/runs --out docs/results/effort_spread --figures
	$(BIN)/python scripts/report.py outputs/effort-steps/runs --out docs/results/effort_steps --figures
	$(BIN)/python scripts/report.py outputs/effort-times/runs --out docs/results/effort_times --figures
	$(BIN)/python scripts/report.py outputs/effort-classes/runs --out docs/results/effort_classes --figures
# presets: constants of conf/method/, of which some were looked at before and most not
results-digits: $(STAMP) ## every method at its preset on the digits: verdicts over three seeds (some three hours of a core), then every attack on one (some eight more, not timed; resumable)
	$(GRID) experiment=digits seed=$(SEEDS) attack=$(HEADS) --workers 2
	$(GRID) experiment=digits seed=0 --workers 2
	$(BIN)/python scripts/report.py outputs/digits/runs --out docs/results/digits --figures

# words: a feature and an object; esd by cross-attention (ESD-x) and by all else (ESD-u)
results-text: export OMP_NUM_THREADS = 1
TEXT := $(GRID) experiment=text paths.outputs=outputs/text --workers 2
LOOKS := attack=none,dimra,textual_inversion,embedding_inversion,prompt_search,few_shot
WORDS := forget=red,circle $(LOOKS)
results-text: $(STAMP) ## a feature and an object are forgotten by sixteen methods, and looked for by five attacks; then two more seeds of seven (not timed; resumable)
	$(TEXT) $(WORDS) seed=0 method=original,retrain,row_swap,token_swap,uce,forget_me_not,receler,adv_unlearn,spm,finetune,random_label,salun,concept_ablation
	$(TEXT) $(WORDS) seed=0 method=dimum method.memory=counterpart
	$(TEXT) forget=red $(LOOKS) seed=0 method=dimum method.memory=next_class
	$(TEXT) $(WORDS) seed=0 method=esd +method.parameters=cross_attention,not_cross_attention
	$(TEXT) $(WORDS) seed=1,2 method=retrain,uce,salun,concept_ablation
	$(TEXT) $(WORDS) seed=1,2 method=dimum method.memory=counterpart
	$(TEXT) $(WORDS) seed=1,2 method=esd +method.parameters=cross_attention,not_cross_attention
	$(BIN)/python scripts/report.py outputs/text/runs --out docs/results/text --figures --into docs/results/text.md

# eight methods at their presets beside retrain, under DiMRA at three rates; one seed. Before them two networks of equal seconds
results-cifar10: export OMP_NUM_THREADS = 1
PHOTOGRAPHS := experiment=cifar10_cpu paths.outputs=outputs/cifar10
AT = $$($(BIN)/python -c "import glob, json; print(*[f for f in glob.glob('outputs/cifar10/runs/*-dimra-*/result.json') if json.load(open(f))['config']['attack']['learning_rate'] == $$rate])")
NETWORK := $(BIN)/python run.py -m $(PHOTOGRAPHS) relearning.learning_rate=3e-4 method=original attack=none
results-cifar10: $(STAMP) ## CIFAR-10, ten classes at 16x16: does the order of the digits appear on photographs (some five hours of one core, not timed; resumable)
	$(BIN)/python scripts/fetch_data.py cifar10
	$(NETWORK)
	$(NETWORK) model.unet.block_out_channels=[24,48,96] model.pretrain.max_steps=5900
	$(GRID) $(PHOTOGRAPHS) relearning.learning_rate=3e-4 --workers 2
	$(GRID) $(PHOTOGRAPHS) --workers 2
	$(BIN)/python scripts/report.py outputs/cifar10/runs/*-dimra-* --out docs/results/cifar10 --figures --into docs/results/cifar10.md
	$(BIN)/python scripts/pivot.py outputs/cifar10/runs/*-dimra-* --by attack.learning_rate --into docs/results/cifar10.md
	for rate in 1e-4 3e-4 1e-3; do $(BIN)/python scripts/report.py $(AT) --out outputs/cifar10/at_$$rate && \
	  cp outputs/cifar10/at_$$rate/differences.csv docs/results/cifar10/differences_$$rate.csv; done
	$(BIN)/python scripts/report.py outputs/cifar10/runs/*-original-none-* --out docs/results/cifar10_networks

# a feature of faces: the same network and budget for every method, DiMUM with two kinds of memory
results-avatars: export OMP_NUM_THREADS = 1
AVATARS := $(GRID) experiment=avatars paths.outputs=outputs/avatars attack=dimra,embedding_inversion
results-avatars: $(STAMP) ## glasses are forgotten by four methods on drawn faces, and looked for by two attacks (some four hours of one core, not timed; resumable)
	$(BIN)/python -m pip install --quiet -e '.[avatars]'
	$(BIN)/python scripts/make_avatars.py
	$(AVATARS) method=original,retrain,row_swap,random_label,salun,esd --workers 2
	$(AVATARS) method=dimum method.memory=counterpart,another_class --workers 2
	$(BIN)/python scripts/report.py outputs/avatars/runs --out docs/results/avatars --figures --into docs/results/avatars.md
	$(BIN)/python run.py experiment=avatars paths.outputs=outputs/avatars method=original attack=dimra relearning.learning_rate=1e-3
	$(BIN)/python scripts/report.py outputs/avatars/runs --out outputs/avatars/every_rate && cp outputs/avatars/every_rate/results.csv docs/results/avatars/

# classifiers: sixteen settings of every method are run, the nearest to retraining is chosen, then all are compared
results-classification: export OMP_NUM_THREADS = 1
CLASSIFIERS := experiment=classification tracking=none
SEARCH := $(GRID) $(CLASSIFIERS) paths.outputs=outputs/classification-tuning attack=none seed=100 forget_seed=100
COMPARE := $(GRID) $(CLASSIFIERS) paths.outputs=outputs/classification
TRAINED := finetune,gradient_ascent,random_label,salun,salun_soft,random_mask,l1_sparse,neggrad_plus,scrub,bad_teacher,boundary_shrink,boundary_expand,weight_distortion,munba,sfron
CHOSEN_CLASSIFIERS = $(subst $(space),$(comma),$(patsubst conf/tuned/%.yaml,%,$(sort $(wildcard conf/tuned/classification/*.yaml))))
RELEARN := relearning.learning_rate=0.01,0.03
POLICIES := crop_flip,randaugment,autoaugment,erasing,trivial,augmix
MARGINS := $(COMPARE) references.count=16 attack=none method=manif_smc unlearning.max_steps=25 augment.retain=none method.direction=away,towards seed=0,1,2
STUDY := $(COMPARE) references.count=4 attack=none method=finetune,random_label,salun seed=0,1
CONTROLS := $(GRID) $(CLASSIFIERS) paths.outputs=outputs/classification-controls references.count=16
MASKED := $(CONTROLS) attack=none method=salun,random_mask,random_label seed=0,1,2,3,4
AGAIN := $(subst $(space),$(comma),$(addprefix classification/,salun random_label random_mask finetune weight_distortion neggrad_plus gradient_ascent influence sfron scrub))
RUNS := outputs/classification/runs
PAGE := docs/results/classification
SMALL := $(GRID) experiment=classification/cifar10_500 tracking=none
SMALL_SEARCH := $(SMALL) paths.outputs=outputs/classification-cifar10-tuning forget=random:0.1 attack=none seed=100 forget_seed=100 references.count=2
SMALL_CHOSEN = $(subst $(space),$(comma),$(patsubst conf/tuned/%.yaml,%,$(sort $(wildcard conf/tuned/classification_cifar10/*.yaml))))
SMALL_TABLE := $(SMALL) paths.outputs=outputs/classification-cifar10 seed=0,1,2
SMALL_AUGMENTED := $(SMALL) paths.outputs=outputs/classification-cifar10-augmented seed=0,1,2 forget=random:0.1 augment.base=crop_flip
MANY := $(GRID) $(CLASSIFIERS) paths.outputs=outputs/classification-many references.count=64 attack=none eval=[forget_accuracy] seed=$(subst $(space),$(comma),$(shell seq 0 63))
results-classification: $(STAMP) ## every method of classifiers on digits with wrong labels, beside retraining, and CIFAR-10 (several hours of two cores; resumable)
	$(SEARCH) method=$(TRAINED) unlearning.learning_rate=0.001,0.005,0.025,0.1 unlearning.max_steps=6,12,25,100 --workers 2
	$(SEARCH) method=manif_smc method.learning_rate=1e-4,5e-4,2.5e-3,1e-2 unlearning.max_steps=6,12,25,100 --workers 2
	$(SEARCH) method=influence method.alpha=0.03,0.1,0.3,1,3,10,30,100 method.damping=1e-2,1e-1 --workers 2
	$(SEARCH) method=ssd method.selection=1,2,5,10,20,50,100,200 method.dampening=0.3,1 --workers 2
	$(SEARCH) method=fisher_forgetting method.alpha=1e-9,1e-8,1e-7,3e-7,1e-6,3e-6,1e-5,3e-5,1e-4,3e-4,1e-3,3e-3,1e-2,3e-2,1e-1,1 --workers 2
	$(BIN)/python scripts/choose.py outputs/classification-tuning/runs --write
	$(COMPARE) references.count=16 +tuned=$(CHOSEN_CLASSIFIERS) seed=0,1,2,3,4 $(RELEARN) --workers 2
	$(COMPARE) references.count=16 method=original,retrain,temperature seed=0,1,2,3,4 $(RELEARN) --workers 2
	$(COMPARE) references.count=8 forget=class:3 method=original,retrain,logit_mask,finetune,random_label,salun,boundary_expand,neggrad_plus seed=0,1,2 attack=relearn,prototype,linear_probe,relearn_public --workers 2
	$(MARGINS) augment.base=none,crop_flip method.margin=zero,fixed,own,trained_curve,random_curve,short_retrain,retrain --workers 2
	$(MARGINS) augment.base=none,crop_flip method.margin=own,trained_curve,random_curve,short_retrain,retrain method.permute_margins=true --workers 2
	$(STUDY) augment.base=none,$(POLICIES) --workers 2
	$(COMPARE) references.count=4 attack=none method=original seed=0,1 augment.base=none,$(POLICIES) --workers 2
	$(STUDY) augment.base=$(POLICIES) 'augment.forget=$${augment.base}' --workers 2
	$(STUDY) augment.base=crop_flip augment.retain=$(POLICIES) --workers 2
	$(STUDY) augment.base=none,$(POLICIES) augment.retain=crop_flip --workers 2
	$(MASKED) unlearning.learning_rate=0.001 unlearning.max_steps=25 --workers 2
	$(MASKED) unlearning.learning_rate=0.005 unlearning.max_steps=12 --workers 2
	$(CONTROLS) forget_seed=1 method=original,retrain seed=0,1,2 $(RELEARN) --workers 2
	$(CONTROLS) forget_seed=1 +tuned=$(AGAIN) seed=0,1,2 $(RELEARN) --workers 2
	$(MANY) +tuned=classification/random_label,classification/salun,classification/finetune,classification/neggrad_plus,classification/scrub --workers 2
	$(MANY) method=original,retrain --workers 2
	$(SMALL_SEARCH) method=finetune,random_label,salun,random_mask,neggrad_plus,l1_sparse,scrub unlearning.learning_rate=0.001,0.003,0.01,0.03,0.1,0.3 --workers 2
	$(SMALL_SEARCH) method=manif_smc method.learning_rate=1e-4,5e-4,2.5e-3,1e-2 --workers 2
	$(BIN)/python scripts/choose.py outputs/classification-cifar10-tuning/runs --out $(PAGE)_cifar10/tuning.csv --write
	$(SMALL_TABLE) forget=random:0.1 method=original,retrain --workers 2
	$(SMALL_TABLE) forget=random:0.1 +tuned=$(SMALL_CHOSEN) --workers 2
	$(SMALL_TABLE) forget=class:3 method=original,retrain,logit_mask attack=relearn,prototype,linear_probe --workers 2
	$(SMALL_TABLE) forget=class:3 +tuned=$(SMALL_CHOSEN) attack=relearn,prototype,linear_probe --workers 2
	$(SMALL_TABLE) forget=random:0.5 method=original,retrain --workers 2
	$(SMALL_TABLE) forget=random:0.5 +tuned=$(SMALL_CHOSEN) --workers 2
	$(SMALL_AUGMENTED) method=original,retrain --workers 2
	$(SMALL_AUGMENTED) +tuned=$(SMALL_CHOSEN) --workers 2
	$(BIN)/python scripts/report.py $(RUNS)/*-relearn-forget_* --out $(PAGE) --figures
	$(BIN)/python scripts/report.py $(RUNS)/*-forget3-* --out $(PAGE)_class --figures
	$(BIN)/python scripts/report.py $(RUNS)/*-manif_smc-none-* --out $(PAGE)_margins --figures
	$(BIN)/python scripts/paired.py $(RUNS)/*-manif_smc-none-* --by method.margin --against zero --out $(PAGE)_margins/paired.md
	$(BIN)/python scripts/paired.py $(RUNS)/*-manif_smc-none-* --by method.permute_margins --against false --out $(PAGE)_margins/permuted.md
	$(BIN)/python scripts/paired.py $(RUNS)/*-manif_smc-none-* --by method.margin --against own --out $(PAGE)_margins/own.md
	$(BIN)/python scripts/report.py $(RUNS)/*-original-none-* $(RUNS)/*-finetune-none-* $(RUNS)/*-random_label-none-* $(RUNS)/*-salun-none-* --out $(PAGE)_augmentation --figures
	$(BIN)/python scripts/paired.py $(RUNS)/*-finetune-none-* $(RUNS)/*-random_label-none-* $(RUNS)/*-salun-none-* --by augment.retain --against crop_flip --out $(PAGE)_augmentation/retain.md
	$(BIN)/python scripts/paired.py $(RUNS)/*-finetune-none-* $(RUNS)/*-random_label-none-* $(RUNS)/*-salun-none-* --by augment.forget --against none --out $(PAGE)_augmentation/forget.md
	$(BIN)/python scripts/report.py outputs/classification-controls/runs/*-relearn-* --out $(PAGE)_again --figures
	$(BIN)/python scripts/paired.py outputs/classification-controls/runs/*-none-* --by method --against salun --out $(PAGE)_again/masks.md
	$(BIN)/python scripts/report.py outputs/classification-cifar10/runs/*-forget_random_0.1-* --out $(PAGE)_cifar10 --figures
	$(BIN)/python scripts/report.py outputs/classification-cifar10/runs/*-forget3-* --out $(PAGE)_cifar10_class --figures
	$(BIN)/python scripts/report.py outputs/classification-cifar10/runs/*-forget_random_0.5-* --out $(PAGE)_cifar10_half --figures
	$(BIN)/python scripts/report.py outputs/classification-cifar10-augmented/runs --out $(PAGE)_cifar10_augmented --figures
	$(BIN)/python scripts/populations.py outputs/classification-many/runs --out docs/results/classification

MEMBERS := $(GRID) experiment=membership tracking=none paths.outputs=outputs/membership attack=dimra relearning.budgets=[0,200]
FORGETTERS := original,retrain,siss,finetune,gradient_ascent,random_label,salun,sfron,munba,scissorhands

results-membership: export OMP_NUM_THREADS = 1
results-membership: $(STAMP) ## whether forgotten images are told from held-out ones, 16 models of each world, before and after DiMRA (four hours of one core; resumable)
	$(MEMBERS) method=$(FORGETTERS) seed=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 --workers 2
	$(BIN)/python scripts/membership.py outputs/membership/runs --out docs/results/membership
	$(BIN)/python scripts/report.py outputs/membership/runs --out docs/results/membership

TABLES := $(BIN)/python run.py experiment=vflgan tracking=none paths.outputs=outputs/vflgan gan.replicas=8
HALVES := $(TABLES) model.pretrain.max_steps=4000
WINE := $(TABLES) dataset=wine_red dataset.root=$(or $(WINE_ROOT),data)
MEASURED := eval=[cross_dependence,intra_dependence,fd_raw,tstr,nearest_record]
# a 281st of the released steps, at five times their rate
MNIST := $(TABLES) dataset=mnist_halves gan.replicas=3 design=[wgan_gp,vflgan,vertigan,local] model.pretrain.max_steps=1000 \
  model.pretrain.learning_rate=1e-3 model.gan.critic_steps=2 eval=[cross_dependence,intra_dependence,fd_raw]
MODES := privacy=[none,first_layer,first_layer_scalar,first_layer_frozen,dpsgd]
EPSILON = $(foreach mode,$(2),gan.privacy.$(mode).delta=5e-4 gan.privacy.$(mode).epsilon=$(1))
NOISED = $(call EPSILON,$(1),first_layer first_layer_scalar dpsgd)
AUDITED := $(WINE) design=vflgan $(subst ],$(comma)sdmetrics],$(MEASURED)) audit=published gan.audit.replicas=64
TABLES_SEARCH := $(GRID) experiment=vflgan tracking=none paths.outputs=outputs/vflgan-tuning seed=100 eval=[fd_raw]
results-vflgan: export OMP_NUM_THREADS = 1
# audits beside all else: two processes
results-vflgan: $(STAMP) ## digits and red wine (WINE_ROOT=folder of winequality-red.csv) of two parties, modes of privacy, audits (some hour and a half of two cores, not timed as a whole; resumable)
	( $(AUDITED) gan.audit.targets=[outlier,median] privacy=[none,first_layer,first_layer_frozen] $(call EPSILON,10,first_layer) && \
	  $(AUDITED) gan.audit.targets=[outlier] privacy=[none,first_layer,first_layer_frozen,dpsgd] $(call EPSILON,10,first_layer dpsgd) ) & audits=$$!; \
	( $(HALVES) gan.design.wgan_gp.widths=one && \
	  $(TABLES_SEARCH) model.pretrain.learning_rate=5e-4,2e-3,8e-3 model.gan.penalty_weight=1,10,40 --workers 1 && \
	  $(BIN)/python scripts/choose_tables.py outputs/vflgan-tuning/runs --write && \
	  $(HALVES) +tuned=vflgan/digits_halves && \
	  $(WINE) $(MEASURED) $(MODES) $(call NOISED,10) && \
	  $(WINE) $(MEASURED) design=vflgan $(MODES) $(call NOISED,5) && \
	  $(WINE) $(MEASURED) design=[wgan_gp,vflgan,vertigan,local] privacy=[none,first_layer_frozen] gan.penalty=factorised gan.design.wgan_gp.widths=one && \
	  $(MNIST) ) && wait $$audits
	$(BIN)/python scripts/report.py outputs/vflgan/runs --out docs/results/vflgan --figures

grid-digits: $(STAMP) ## five methods under three attacks, three seeds, each part once, and a report (not timed since attacks take 800 steps; resumable)
	$(BIN)/python scripts/grid.py run experiment=grid/digits

report: $(STAMP) ## one table and one page over everything in outputs/runs
	$(BIN)/python scripts/report.py

bench: $(STAMP) ## our training step, sampling and grid against bare loops and separate runs
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/grid.py

lint: $(STAMP) ## rules, format, sizes, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python scripts/sizes.py
	$(BIN)/mypy

docs: $(STAMP) ## the pages of docs/ as a site, site/index.html; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(STAMP) ## requirements.lock: one version of everything, for Python 3.10 and later
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra test --universal --python-version 3.10 --upgrade \
	  --quiet --no-header --no-emit-index-url --output-file requirements.lock

clean: ## remove the environment; outputs/ stay
	rm -rf $(VENV)
