"""What is refused of a model that reads captions: one line each, before anything is computed."""

import pytest

from unrelearn.config import prompts, to_config

TEXT = "experiment=text"
LINES = {
    f"{TEXT} forget=crimson": ["forget=crimson: no such class", "Type "],
    f"{TEXT} forget=[circle,square,triangle,cross]": ["would forget every class", "Type 'forget="],
    f"{TEXT} model.text.length=8": [
        "model.text.length=8: the caption 'a picture of a",
        "needs 11 tokens, with start and end",
        "Type model.text.length=11",
    ],
    f"{TEXT} model.text.heads=5": ["model.text.heads=5: must divide model.text.width=64"],
    f"{TEXT} train_class_embedding=true": [
        "train_class_embedding=true: the text encoder is public and frozen",
        "Type train_class_embedding=false",
    ],
    f"{TEXT} model.checkpoint=tests": [
        "model.checkpoint=tests: is not read by a model that reads captions",
        "Type model.checkpoint=null",
    ],
    f"{TEXT} method=projection_swap": ["method=projection_swap: reads the embedding of a class"],
    f"{TEXT} model.unet.architecture=unet2d": [
        "model.unet.architecture=unet2d: reads no captions",
        "Type model.unet.architecture=prompt",
    ],
    "model.unet.architecture=prompt": [
        "model.unet.architecture=prompt: has no model.text",
        "Type model=tiny_text",
    ],
    "+method.parameters=key_value": [
        "method.parameters=key_value: model=unet_tiny has no cross-attention",
        "+method.blocks=[mid_block]",
    ],
    f"{TEXT} +method.parameters=attn": ["method.parameters=attn: ", "key_value"],
    f"{TEXT} forget=[0,95] method=uce": [
        "method=uce: needs a word that all forgotten captions",
        """Type 'forget="small red solid circle"', or another method""",
    ],
    f"{TEXT} sampler.num_images=47": [
        "sampler.num_images=47: is shared by 48 paraphrases of what is forgotten",
        "Type sampler.num_images=96",
    ],
    f"{TEXT} attack=prompt_search model.text.length=11": ["needs 12 tokens", "length=12"],
    "method=uce": ["method=uce: is for another kind of model than model=unet_tiny"],
    f"{TEXT} dataset.images_per_combination=3": ["dataset.images_per_combination=3: "],
}


@pytest.mark.parametrize("words", LINES)
def test_bad_input_is_one_line(complaint, words: str):
    (line,) = complaint(*words.split())
    for part in LINES[words]:
        assert part in line, line


def test_retrain_is_not_refused_for_the_table_that_it_does_not_train(compose):
    assert compose("experiment=text", "method=retrain")["method"]["train_class_embedding"]


def test_weights_of_a_class_conditional_network_are_not_given_to_one_that_reads(compose):
    cfg = to_config(compose("experiment=text"))
    assert not list(prompts.elsewhere(cfg))
    cfg.method = {"_target_": "unrelearn.methods.given.Given", "checkpoint": "theirs"}
    (line,) = prompts.elsewhere(cfg)
    assert line.startswith("method.checkpoint=theirs: is not read by a model that reads captions")
