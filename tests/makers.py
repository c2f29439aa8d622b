"""Methods and attacks at a small size, each with a network and data."""

from functools import partial

import torch
from tiny import denoising, new_task
from tiny_text import prompting

from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.dimra_aux import DiMRAAux
from unrelearn.attacks.embedding_inversion import EmbeddingInversion
from unrelearn.attacks.lora import LoRA
from unrelearn.attacks.textual_inversion import TextualInversion
from unrelearn.classification import networks
from unrelearn.classification.classifying import Classifying, ClassifyingTask
from unrelearn.classification.networks import NetworkConfig
from unrelearn.data.digits import Digits
from unrelearn.diffusion.denoising import Denoising
from unrelearn.diffusion.prompting import Prompting
from unrelearn.methods.adv_unlearn import AdvUnlearn
from unrelearn.methods.concept_ablation import ConceptAblation
from unrelearn.methods.dimum_cover import DiMUMCover
from unrelearn.methods.erasediff_paper import EraseDiffPaper
from unrelearn.methods.erasediff_released import EraseDiffReleased
from unrelearn.methods.esd import ESD
from unrelearn.methods.esd_attribute import AttributeESD
from unrelearn.methods.forget_me_not import ForgetMeNot
from unrelearn.methods.munba import MUNBa
from unrelearn.methods.receler import Receler
from unrelearn.methods.salun import SalUn
from unrelearn.methods.scissorhands import Scissorhands
from unrelearn.methods.selective_amnesia import SelectiveAmnesia
from unrelearn.methods.sfron import SFRon
from unrelearn.methods.siss import SISS
from unrelearn.methods.spm import SPM

SMALL = dict(max_steps=3, batch_size=12, learning_rate=1e-3)
EIGHT = SMALL | {"batch_size": 8}


def esd(task=None, **changes) -> Denoising:
    constants = dict(negative_guidance=1.5, start_guidance=3.0, num_inference_steps=4)
    return denoising(ESD(**{**SMALL, **constants, **changes}), task or new_task())


def concept_ablation(task=None, **changes) -> Denoising:
    return denoising(
        ConceptAblation(**{**SMALL, "anchor": "another_class", "retain_weight": 2.0, **changes}),
        task or new_task(),
    )


def erasediff_paper(task=None, **changes) -> Denoising:
    constants = dict(eta=0.3, coefficient="inner_product", inner_steps=2, inner_learning_rate=1e-3)
    return denoising(EraseDiffPaper(**{**SMALL, **constants, **changes}), task or new_task())


def erasediff_released(task=None, **changes) -> Denoising:
    return denoising(
        EraseDiffReleased(**{**SMALL, "label_dropout": 0.0, "forget_weight": 0.1, **changes}),
        task or new_task(),
    )


def munba(task=None, **changes) -> Denoising:
    return denoising(MUNBa(**{**SMALL, **changes}), task or new_task())


def cover(task=None, **changes) -> Denoising:
    return denoising(
        DiMUMCover(
            **{**SMALL, "memory": "another_class", "forgotten_share": 0.5, **changes},
        ),
        task or new_task(),
    )


def attack_of(kind: type, **constants) -> Denoising:
    return denoising(
        kind(
            budgets=[SMALL["max_steps"]],
            batch_size=SMALL["batch_size"],
            learning_rate=1e-3,
            **constants,
        ),
        new_task(),
    )


def lora() -> Denoising:
    return attack_of(LoRA, rank=2, num_images=3, train_class_embedding=True)


def embedding_inversion() -> Denoising:
    return attack_of(EmbeddingInversion, num_images=3)


def dimra_relative() -> Denoising:
    return denoising(
        DiMRA(
            budgets=[SMALL["max_steps"]],
            batch_size=SMALL["batch_size"],
            learning_rate=1e-2,
            optimizer="relative",
            lr_schedule="cosine",
        ),
        new_task(),
    )


def dimra_aux() -> Denoising:
    return attack_of(DiMRAAux, source="unlearned", images_per_class=4, num_inference_steps=3)


def amnesia(task=None, **changes) -> Denoising:
    return denoising(
        SelectiveAmnesia(
            **{
                **EIGHT,
                **dict(
                    replay_weight=1.0,
                    elastic_weight=10.0,
                    replay_share=0.25,
                    replay_guidance_scale=1.0,
                    fisher_samples=10,
                    label_dropout=0.0,
                ),
                **changes,
            },
        ),
        task or new_task(),
    )


def siss(task=None, **changes) -> Denoising:
    return denoising(
        SISS(**{**EIGHT, **dict(mixture=0.5, forget_share=0.1), **changes}), task or new_task()
    )


def sfron(task=None, **changes) -> Denoising:
    return denoising(
        SFRon(
            **{
                **EIGHT,
                **dict(forget_weight=10.0, loss_power=0.5, fisher_ratio=1.0, fisher_samples=10),
                **changes,
            },
        ),
        task or new_task(),
    )


def scissorhands(task=None, **changes) -> Denoising:
    return denoising(
        Scissorhands(
            **{**EIGHT, **dict(forget_weight=0.1, trim_share=1e-3, trim_batches=2), **changes},
        ),
        task or new_task(),
    )


def classifier_salun(**changes) -> Classifying:
    """With dropped weights, BatchNorm and augmentation."""
    data = Digits(label_noise=0.2).load()
    forgotten = torch.arange(len(data.train)) < 60
    task = ClassifyingTask(
        network=networks.build(NetworkConfig("fast", 8, 10, widths=(4, 6, 8)), 0),
        forget=data.train.where(forgotten),
        retain=data.train.where(~forgotten),
        forget_classes=[],
        class_names=data.class_names,
        seed=0,
        augment={"retain": "crop_flip", "forget": "none"},
    )
    settings = {**SMALL, "retain_weight": 1.0, "saliency_fraction": 0.5, **changes}
    return Classifying(SalUn(**settings), task)


def words_salun(**changes) -> Prompting:
    constants = dict(saliency_fraction=0.5, saliency_guidance_scale=3.0, retain_weight=1.0)
    return prompting(SalUn(**{**EIGHT, **constants, **changes}))


def words_forget_me_not(**changes) -> Prompting:
    constants = dict(states="to_end", parameters="cross_attention")
    return prompting(ForgetMeNot(**{**EIGHT, **constants, **changes}))


OF_ESD = dict(negative_guidance=1.0, start_guidance=3.0, num_inference_steps=2)
ATTACK = dict(attack_steps=2, attack_rate=0.1)


def words_adv_unlearn(**changes) -> Prompting:
    constants = dict(retain_weight=0.3, warmup_share=0.2, attack_states=1)
    return prompting(AdvUnlearn(**{**EIGHT, **OF_ESD, **ATTACK, **constants, **changes}))


def words_esd_attribute(**changes) -> Prompting:
    return prompting(AttributeESD(**{**EIGHT, **OF_ESD, **changes}))


def words_receler(**changes) -> Prompting:
    constants = dict(rank=4, local_weight=0.1, mask_threshold=0.1)
    constants |= dict(attack_states=16, attack_decay=0.1)
    return prompting(Receler(**{**EIGHT, **OF_ESD, **ATTACK, **constants, **changes}))


def words_spm(**changes) -> Prompting:
    return prompting(SPM(**{**EIGHT, **OF_ESD, "rank": 1, "anchor_weight": 10.0, **changes}))


def words_textual_inversion(max_steps: int = 3) -> Prompting:
    settings = dict(budgets=[max_steps], batch_size=8, learning_rate=1e-2, num_images=1)
    return prompting(TextualInversion(**settings))


OF_WORDS = {
    make.__name__: make
    for make in (
        words_salun,
        words_forget_me_not,
        words_adv_unlearn,
        words_esd_attribute,
        words_receler,
        words_spm,
        words_textual_inversion,
    )
}

FEW = dict(batch_size=12, max_steps=5, learning_rate=3e-4)
IN_PROCESSES = (
    {
        make.__name__: make
        for make in (
            esd,
            concept_ablation,
            erasediff_paper,
            erasediff_released,
            munba,
            cover,
            lora,
            embedding_inversion,
            dimra_aux,
            dimra_relative,
            classifier_salun,
        )
    }
    | OF_WORDS
    | {make.__name__: partial(make, **FEW) for make in (amnesia, siss, sfron, scissorhands)}
)
