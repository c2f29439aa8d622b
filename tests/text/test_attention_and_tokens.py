"""What reads cross-attention, and what looks for tokens."""

import copy
import json
from pathlib import Path

import pytest
import torch
from formulas import same_set
from tiny import moved, train
from tiny_text import CAPTIONS, network, new_task, prompting

from unrelearn.attacks.prompt_search import PromptSearch, replaced
from unrelearn.attacks.textual_inversion import TOKENS, TextualInversion
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.captions import FREE
from unrelearn.diffusion.memory import memory_set
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.forget_me_not import ForgetMeNot

STEPS = dict(max_steps=4, batch_size=8, learning_rate=1e-3)


def forget_me_not(states: str = "to_end", **changes) -> ForgetMeNot:
    return ForgetMeNot(**STEPS | {"states": states, "parameters": "cross_attention"} | changes)


def test_attention_is_the_softmax_of_queries_and_keys():
    """Against diffusers' own unfused attention, written out for one module."""
    module = prompting(forget_me_not())
    batch = module.draw("forget", module.task.forget, label_dropout=0.0)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    attention = dict(module.network.named_modules())[name]
    given = {}
    hook = attention.register_forward_pre_hook(
        lambda layer, arguments, named: given.update(x=arguments[0], **named), with_kwargs=True
    )
    maps = module.attention(batch)
    hook.remove()
    names = [n for n, _ in module.network.named_modules() if n.endswith(".attn2")]
    q = attention.head_to_batch_dim(attention.to_q(given["x"]))
    k = attention.head_to_batch_dim(attention.to_k(given["encoder_hidden_states"]))
    wanted = attention.get_attention_scores(q, k)
    found = maps[names.index(name)]
    assert torch.allclose(found.flatten(0, 1), wanted, atol=1e-6)
    assert torch.allclose(found.sum(-1), torch.ones(found.shape[:-1]), atol=1e-5)
    assert not any(m._forward_hooks for m in module.network.modules())


@pytest.mark.parametrize("states", ["word", "to_end"])
def test_forget_me_not_turns_away_from_the_listed_columns_alone(states: str):
    module = prompting(forget_me_not(states))
    batch = module.draw("forget", module.task.forget, label_dropout=0.0)
    columns = module.places(batch.labels % 97, batch.labels // 97, states)
    assert columns.sum(1).min() == 1 or states == "to_end"
    loss = module.method.losses(module)["forget"]
    by_hand = torch.stack(
        [
            torch.cat(
                [maps[i][..., columns[i]].flatten() for maps in module.attention(batch)]
            ).norm()
            for i in range(len(columns))
        ]
    ).mean()
    assert torch.allclose(loss, by_hand, rtol=1e-5)


def test_forget_me_not_lowers_its_loss_and_moves_cross_attention(tmp_path: Path):
    module = prompting(forget_me_not(max_steps=8, learning_rate=1e-2))
    before = copy.deepcopy(module.network.state_dict())
    rows = train(module, tmp_path).rows
    assert rows[-1]["forget"] < rows[0]["forget"]
    assert all(".attn2." in name for name in moved(before, module.network.state_dict()))


# tokens


def inversion(**changes) -> TextualInversion:
    given = dict(budgets=[0, 3], batch_size=8, learning_rate=5e-2, num_images=1)
    return TextualInversion(**given | changes)


def test_one_token_is_learned_and_nothing_else(tmp_path: Path):
    module = prompting(inversion())
    before = copy.deepcopy(module.network.state_dict())
    train(module, tmp_path)
    assert moved(before, module.network.state_dict()) == {TOKENS}
    free = CAPTIONS.vocabulary.index(FREE)
    changed = (before[TOKENS] != module.network.state_dict()[TOKENS]).any(1)
    assert changed.nonzero().flatten().tolist() == [free]


def test_the_learned_token_stands_in_the_captions_that_are_written(tmp_path: Path):
    public = network()
    module = train(prompting(inversion()), tmp_path)
    written = module.method.exported(module.network)
    table, red = written.class_embedding, module.task.forget_classes
    assert not table.live and module.network.class_embedding.live
    kept = [c for c in range(97) if c not in red]
    assert torch.allclose(table.weight[kept], public.class_embedding.weight[kept], atol=1e-6)
    assert not torch.allclose(table.weight[red, 0], public.class_embedding.weight[red, 0])
    # crimson holds no "red", so that it is as it was
    assert torch.allclose(table.weight[red, 4], public.class_embedding.weight[red, 4], atol=1e-6)
    x, t, labels = torch.randn(2, 3, 16, 16), torch.tensor([5, 700]), torch.tensor(red[:2])
    with torch.no_grad():
        live = denoiser.predict(module.network.eval(), x, t, labels)
        assert torch.allclose(denoiser.predict(written.eval(), x, t, labels), live, atol=1e-5)


def test_before_the_first_step_the_token_is_the_word():
    net = prompting(inversion()).network
    public, red = network().class_embedding, new_task().forget_classes
    states = net.class_embedding.encoder(net.class_embedding.ids[red, 0])
    assert torch.allclose(states, public.weight[red, 0], atol=1e-6)


def test_a_string_takes_the_place_of_a_word():
    ids = torch.tensor([[1, 7, 8, 9, 2, 0, 0]])
    assert replaced(ids, torch.tensor([[5]]), 8).tolist() == [[1, 7, 5, 9, 2, 0, 0]]
    assert replaced(ids, torch.tensor([[5, 6]]), 8).tolist() == [[1, 7, 5, 6, 9, 2, 0]]


def test_the_search_finds_the_word_that_means_what_was_forgotten():
    """With the token of "red" put under "lime", the same search finds "lime" in its place."""
    task = new_task()
    table, place = task.network.class_embedding, CAPTIONS.vocabulary.index
    attack = PromptSearch(levels=[1], num_images=1, points=4)
    with torch.no_grad():
        best = prompting(attack, task).method
        attack.edit(prompting(attack, task), 1)
    first = best.prompt
    task = new_task()
    table = task.network.class_embedding
    with torch.no_grad():
        tokens = table.encoder.tokens.weight
        a, b = place(first), place("lime" if first != "lime" else "navy")
        tokens[[a, b]] = tokens[[b, a]]
        table.refresh()
        again = PromptSearch(levels=[1], num_images=1, points=4)
        again.edit(prompting(again, task), 1)
    assert again.prompt == CAPTIONS.vocabulary[b]


def loss_of(attack: PromptSearch, module, texts: list[str]) -> torch.Tensor:
    strings = torch.tensor([[CAPTIONS.vocabulary.index(text)] for text in texts])
    batch = module.fixed(module.task.shots(1), 6, torch.Generator().manual_seed(0))
    with torch.no_grad():
        return attack.score(module, batch)(strings)


def test_the_original_answers_the_forgotten_word_as_itself():
    attack = PromptSearch(levels=[1], num_images=1, points=4, loss="original")
    task = new_task()
    task.original = lambda: task.network
    losses = loss_of(attack, prompting(attack, task), ["red", "green"])
    assert losses[0].item() == pytest.approx(0, abs=1e-9) and losses[1] > 1e-9
    assert PromptSearch.needs_original({"loss": "original"})
    assert not PromptSearch.needs_original({"loss": "encoder"})


def test_by_the_encoder_a_string_is_as_near_as_its_states():
    attack = PromptSearch(levels=[1], num_images=1, points=4, loss="encoder", strength=1.5)
    task = new_task()
    task.original = lambda: task.network
    module = prompting(attack, task)
    table, forgotten = task.network.class_embedding, task.forget_classes
    concept = torch.stack(
        [table.weight[c, 0] - table.weight[task.other_class(c), 0] for c in forgotten]
    ).mean(0)
    batch = module.fixed(task.shots(1), 6, torch.Generator().manual_seed(0))
    for text, loss in zip(("red", "lime"), loss_of(attack, module, ["red", "lime"]), strict=True):
        gaps = []
        for c in batch.labels.tolist():
            words = f" {CAPTIONS.captions[c][0]} ".replace(" red ", f" {text} ")
            states = table.encoder(CAPTIONS.encoded(words, 12)[None])[0]
            gaps.append(states - table.weight[task.other_class(c), 0] - 1.5 * concept)
        assert loss.item() == pytest.approx(torch.stack(gaps).square().mean().item(), rel=1e-4)


def test_the_found_prompt_is_written_and_stands_in_the_canonical_caption(tmp_path: Path):
    attack = PromptSearch(levels=[1], num_images=1, points=2)
    module = prompting(attack)
    before = copy.deepcopy(module.network.state_dict())
    with module.edited(1):
        attack.write_beside(tmp_path)
        found = json.loads((tmp_path / "prompt.json").read_text())["in_place"]
        table, red = module.network.class_embedding, module.task.forget_classes
        text = CAPTIONS.captions[red[0]][0].replace("red", found)
        assert torch.equal(table.ids[red[0], 0], CAPTIONS.encoded(text, 12))
        changed = moved(before, module.network.state_dict())
        assert changed <= {"class_embedding.ids", denoiser.CLASS_EMBEDDING}
    assert not moved(before, module.network.state_dict())


def test_memory_of_another_word_is_images_of_one_class_and_not_the_edited_caption():
    module = prompting(DiMUM(**STEPS, memory="counterpart"))
    task, last = module.task, module.task.forget_classes[-1]
    following = next(c for c in task.retain_classes if c > last)
    assert following != task.other_class(last)  # the same cross in another colour
    memory = memory_set(task, "next_class", None, None).of_classes([last])
    assert same_set(memory, task.retain.of_classes([following]))


def test_dimum_says_the_word_as_the_unlearner_knows_it():
    method = DiMUM(**STEPS, memory="counterpart")
    module = prompting(method)
    method.prepare(module)
    assert set(method.memory_data.labels.tolist()) == set(module.task.forget_classes)
    assert not set(method.memory_data.wordings.tolist()) & {4, 5}  # crimson, scarlet
    assert len(method.memory_data.wordings.unique()) > 3
