"""Methods of words, and the attacks that see through them."""

import copy
from pathlib import Path

import pytest
import torch
from tiny import moved, train
from tiny_text import CAPTIONS, SHAPES, new_task, prompting

from unrelearn.attacks.encoder_transplant import EncoderTransplant
from unrelearn.diffusion import denoiser
from unrelearn.methods.token_swap import TokenSwap
from unrelearn.methods.uce import UCE

KEYS = (".attn2.to_k.weight", ".attn2.to_v.weight")


def uce(**changes) -> UCE:
    given = {"states": "to_end", "ridge": 1e-6, "erase_weight": 1.0, "retain_weight": 0.0}
    return UCE(**given | changes)


def random_states(*rows: int) -> list[torch.Tensor]:
    """A weight (5, 8), and so many states of 8 dimensions."""
    g = torch.Generator().manual_seed(0)
    return [torch.randn(n, 8, generator=g, dtype=torch.float64) for n in (5, *rows)]


# closed form


def test_the_closed_form_is_the_minimum_in_float64():
    """Of ridge |W* - W|^2 + e mean |W* c_f - W c_a|^2 + r mean |W* c_r - W c_r|^2."""
    w, f, a, r = random_states(6, 6, 9)
    method = uce(ridge=0.1, erase_weight=0.7, retain_weight=0.3)

    def loss(new: torch.Tensor) -> torch.Tensor:
        erased = (f @ new.T - a @ w.T).square().sum(1).mean()
        kept = (r @ new.T - r @ w.T).square().sum(1).mean()
        return 0.1 * (new - w).square().sum() + 0.7 * erased + 0.3 * kept

    new = method.edited(w, f, a, r).requires_grad_(True)
    assert torch.autograd.grad(loss(new), new)[0].abs().max() < 1e-12
    assert loss(new) < loss(w)


def test_the_closed_form_in_its_limits():
    w, f, a, r = random_states(1, 1, 9)
    exact = uce(ridge=1e-10).edited(w, f, a, r)
    assert torch.allclose(exact @ f[0], w @ a[0], atol=1e-6)  # one concept, nothing else to keep
    untouched = uce(erase_weight=0.0, retain_weight=1.0).edited(w, f, a, r)
    assert torch.allclose(untouched, w, atol=1e-9)


@pytest.mark.parametrize("states", ["word", "to_end", "all"])
def test_uce_moves_keys_and_values_alone(states: str, tmp_path: Path):
    module = prompting(uce(states=states, retain_weight=1.0, ridge=1e-3))
    before = copy.deepcopy(module.network.state_dict())
    changed = moved(before, train(module, tmp_path).network.state_dict())
    assert changed == {name for name in before if name.endswith(KEYS)}


def test_which_states_are_edited():
    module = prompting(uce())
    at = CAPTIONS.captions[module.task.forget_classes[0]][0].split().index("red") + 1
    one = {states: module.concept_places(states)[0, 0] for states in ("word", "to_end", "all")}
    assert one["word"].nonzero().flatten().tolist() == [at]
    assert one["to_end"].nonzero().flatten().tolist() == list(range(at, 12)) and one["all"].all()
    assert module.concept_places("word").shape == (24, 6, 12)  # crimson and scarlet are held out


def test_uce_answers_the_word_as_its_stand_in(tmp_path: Path):
    module = train(prompting(uce(states="all", ridge=1e-7)), tmp_path)
    net, c = module.network, module.task.forget_classes[0]
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([10, 900])
    with torch.no_grad():
        red = denoiser.predict(net, x, t, torch.tensor([c, c]))
        green = denoiser.predict(
            prompting(uce()).network, x, t, torch.full((2,), module.task.other_class(c))
        )
        was = denoiser.predict(prompting(uce()).network, x, t, torch.tensor([c, c]))
    # 16 dimensions hold fewer constraints than six wordings of 24 classes make
    assert (red - green).norm() < 0.4 * (was - green).norm()


# the degenerate control


def test_token_swap_reads_red_as_green_and_moves_no_weight(tmp_path: Path):
    module = prompting(TokenSwap())
    before = copy.deepcopy(module.network.state_dict())
    after = train(module, tmp_path).network.state_dict()
    assert all(name.startswith(denoiser.TABLE) for name in moved(before, after))
    red, table = module.task.forget_classes, after[denoiser.CLASS_EMBEDDING]
    was = before[denoiser.CLASS_EMBEDDING]
    for c in red:
        assert torch.allclose(table[c, 0], was[module.task.other_class(c), 0], atol=1e-6)
        assert torch.allclose(table[c, 4], was[c, 4], atol=1e-6)  # crimson is as it was
    kept = [c for c in range(97) if c not in red]
    assert torch.allclose(table[kept], was[kept], atol=1e-6)


def test_the_public_encoder_undoes_it_to_the_bit(tmp_path: Path):
    task = new_task()
    public = copy.deepcopy(task.network)
    task.original = lambda: copy.deepcopy(public)
    swapped = train(prompting(TokenSwap(), task), tmp_path)
    assert moved(public.state_dict(), swapped.network.state_dict())
    attack = prompting(EncoderTransplant(levels=[1.0]), task)
    with attack.edited(1.0):
        assert not moved(public.state_dict(), task.network.state_dict())


def test_two_words_are_swapped_where_both_are_forgotten():
    module = prompting(TokenSwap(), new_task("small red"))
    own = {CAPTIONS.vocabulary[a]: CAPTIONS.vocabulary[b] for a, b in module.swaps.items()}
    # the nearest retained caption changes one of them
    assert own == {"small": "large"} and SHAPES.class_names[0].startswith("small red")
