"""Concept Ablation: the answer of the original model under an anchor class."""

from dataclasses import replace

import pytest
import torch
from formulas import answer, flat_gradient, mean_squared_error, same_set, stepped, x_t
from makers import concept_ablation
from tiny import new_task

KINDS = ["epsilon", "v_prediction"]


@pytest.mark.parametrize(("anchor_class", "anchors"), [(None, {3: 4, 7: 8}), (2, {3: 2, 7: 2})])
@pytest.mark.parametrize("kind", KINDS)
def test_concept_ablation_matches_the_original_under_the_anchor_class_on_its_images(
    kind: str, anchor_class, anchors: dict
):
    module = stepped(
        concept_ablation(new_task((3, 7), prediction_type=kind), anchor_class=anchor_class)
    )
    for c, other in anchors.items():
        assert same_set(
            module.method.anchors.of_classes([c]), module.task.retain.of_classes([other])
        )
    batch = module.draw("anchor", module.method.anchors, label_dropout=0.0)
    assert set(batch.labels.tolist()) == {3, 7}
    other = torch.tensor([anchors[int(c)] for c in batch.labels])
    teacher = answer(new_task().network, x_t(batch), batch.t, other).detach()
    expected = ((answer(module.network, x_t(batch), batch.t, batch.labels) - teacher) ** 2).mean()
    losses = module.method.losses(module)
    assert losses["forget"].item() == pytest.approx(expected.item(), rel=1e-4)
    kept = 2.0 * mean_squared_error(module, module.draw("retain", module.task.retain), kind)
    assert losses["retain"].item() == pytest.approx(kept.item(), rel=1e-4)
    torch.testing.assert_close(
        flat_gradient(module.network, sum(losses.values())),
        flat_gradient(module.network, expected + kept),
        rtol=1e-3,
        atol=1e-5,
    )


def test_both_terms_of_concept_ablation_are_means_also_where_losses_are_sums():
    def losses(reduction: str) -> dict[str, float]:
        module = stepped(concept_ablation(replace(new_task(), loss_reduction=reduction)))
        return {name: loss.item() for name, loss in module.method.losses(module).items()}

    assert losses("sum") == pytest.approx(losses("mean"), rel=1e-5)


def test_generated_anchors_are_drawn_by_the_original_model():
    module = concept_ablation(anchor="generated", anchor_size=3, retain_weight=0.0)
    module.prepare()
    assert (
        module.method.anchors.images.shape == (3, 1, 8, 8)
        and module.method.anchors.labels.tolist() == [7] * 3
    )
    assert module.method.losses(module).keys() == {"forget"}
