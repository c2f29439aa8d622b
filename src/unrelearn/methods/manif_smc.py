"""ManiF-SMC: move each forgotten image in feature space with respect to its nearest retained
neighbours, until a margin of its own is reached. No label is read.

Wang et al. 2026, "ManiF-SMC" (KDD 2026, arXiv 2605.22871), of which only the abstract, the code and
two answers to reviewers could be read. With z = f(x) the features, z^o those of the original model,
N(u) the k retained images whose z^o has the largest cosine with z^o_u, n_u their mean, c_u the mean
of z^o over the images that the original puts into the class into which it puts x_u, and d the
squared distance in units of its mean over random pairs of retained images:

    towards   L_u = max(0, d(z_u, n_u) - d(z_u, c_u) + a_u)        as the abstract says
    away      L_u = max(0, d(z_p, n_u) - d(z_u, n_u) + a_u)        as released; p drawn from N(u)
    L = mean_u L_u + beta mean_{u, j in N(u)} d(z_j, z^o_j)

on the features' weights alone: the head is frozen, and BatchNorm answers by its running statistics,
which stay. Margins a_u are computed once, from a network in its own feature space, with the sets
that the original's features define: max(0, d(z_u, c_u) - d(z_u, n_u)) towards, max(0, d(z_u, n_u) -
mean_p d(z_p, n_u)) away.

    zero, fixed     0, and `fixed_margin` for every image
    own             the original itself
    trained_curve   "self mode connectivity": the middle of a quadratic Bezier curve from theta_u to
                    theta_o whose control point was trained on the neighbours alone. When it is
                    trained theta_u is still theta_o, so that it is half theta_o and half a model
                    tuned on the neighbours
    random_curve    as released: half theta_o, half a network with random weights
    retrain         `retrained` networks trained on D_r; margins are their mean. An upper bound of
                    the idea: it knows the answer. Their seeds begin at 200000, those of the models
                    that everything is compared with at 100000
    short_retrain   the same with a share `short_share` of the recipe's steps. Ours
    permute_margins hands the same margins to other images, `scale_margins` brings their mean to
                    `fixed_margin`: controls that show whether it matters whose margin is whose.

What the released code does and the abstract does not say: it drives z_u away from its neighbours.
No curve is trained: the margin comes from an average with a new random network in each batch (here
one for all, with the statistics of BatchNorm taken anew from the neighbours). Margin and hinge are
one number for a batch, so that the margin can do no more than switch the batch off. n_u is a mean
of normalised features and z_u is not normalised. The script for MNIST adds the cross-entropy with
the forgotten image's label. Features are a sampled code of a variational bottleneck whose training
reconstructs images. The files that the tables are said to come from now do something else.

Cost: a step sends the images and k neighbours of each through the network. Before the first step
come one forward pass over all images, one more for each network that has margins, `curve_steps`
steps of the curve, or `retrained` trainings, whole or short, which a step's `passes` can not name.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unrelearn.classification import manifold
from unrelearn.classification.manifold import Direction, FeatureLayout, FeatureSpace, State, Tuning
from unrelearn.classification.networks import Network
from unrelearn.data import ImageData
from unrelearn.method import Method
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, Rate, Share, Steps, Weight

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying

Margin = Literal[
    "zero", "fixed", "own", "trained_curve", "random_curve", "short_retrain", "retrain"
]
FIRST_SEED = 200_000  # of networks retrained for their margins


@dataclass(kw_only=True)
class ManifSMC(Method):
    direction: Direction
    margin: Margin
    fixed_margin: Weight  # in units of the mean squared distance of retained images
    scale_margins: bool  # to a mean of fixed_margin
    permute_margins: bool  # over the forgotten images
    neighbours: Count  # k
    beta: Weight  # of what keeps the neighbours where they were
    curve_steps: Steps  # of SGD on the control point
    curve_learning_rate: Rate
    retrained: Count  # networks whose margins are averaged
    short_share: Share  # of the steps of retraining

    @property
    def passes(self) -> tuple[float, float]:  # type: ignore[override]
        return 1 + self.neighbours, 0

    def begin(self, t: "Classifying") -> None:
        t.network.head.requires_grad_(False)

    def prepare(self, t: "Classifying") -> None:
        forget, retain = (
            manifold.features(t.network, data) for data in (t.task.forget, t.task.retain)
        )
        g = generator_for(t.task.seed, self.stage, "pairs")
        layout = manifold.layout(t.network, forget, retain, self.neighbours, g)
        self.space = FeatureSpace(layout, forget, retain)
        self.margins = self.margins_of(t)

    def margins_of(self, t: "Classifying") -> Tensor:
        """a_u of each forgotten image, (n_f,)."""
        like = self.space.unit.new_ones(len(t.task.forget))
        if self.margin in ("zero", "fixed"):
            return like * (self.fixed_margin if self.margin == "fixed" else 0)
        layout = self.space.layout
        each = [self.seen_by(t, other).margins(self.direction) for other in self.others(t, layout)]
        margins = torch.stack(each).mean(0)
        if self.scale_margins:
            margins = margins * self.fixed_margin / margins.mean().clamp(min=manifold.TINY)
        if not self.permute_margins:
            return margins
        g = generator_for(t.task.seed, self.stage, "permutation")
        return margins[torch.randperm(len(margins), generator=g).to(margins.device)]

    def seen_by(self, t: "Classifying", network: Network) -> FeatureSpace:
        if network is t.network:
            return self.space
        forget, retain = (
            manifold.features(network, data) for data in (t.task.forget, t.task.retain)
        )
        return FeatureSpace(self.space.layout, forget, retain)

    def others(self, t: "Classifying", layout: FeatureLayout) -> list[Network]:
        """The networks whose margins are taken."""
        network = t.network
        if self.margin == "own":
            return [network]
        if self.margin in ("retrain", "short_retrain"):
            return manifold.loaded(network, self.bank(t))
        rows = layout.neighbours.unique()
        near = t.task.retain.take(rows.to(t.task.retain.labels.device))
        g = generator_for(t.task.seed, self.stage, "curve")
        if self.margin == "random_curve":
            control = manifold.untrained(network, g.initial_seed())
        else:
            tuning = Tuning(self.curve_steps, self.curve_learning_rate, self.batch_size)
            control = manifold.tuned_control(network, near, tuning, g)
        return [manifold.halfway(network, control, near)]

    def bank(self, t: "Classifying") -> State:
        """The weights of retrained networks, which are made once."""
        task = t.task
        assert task.recipe is not None
        share = self.short_share if self.margin == "short_retrain" else 1
        recipe = replace(task.recipe, max_steps=max(1, round(share * task.recipe.max_steps)))
        first = FIRST_SEED + task.run_seed * self.retrained
        seeds = list(range(first, first + self.retrained))
        # of the run `forget_classes` would not tell one random forget set from another
        sets = ImageData(task.retain.to("cpu"), task.forget.to("cpu"), task.class_names).digest()
        settings = {"seeds": seeds, "sets": sets, **asdict(recipe)}
        return task.cached(
            "retrained", settings, lambda: manifold.retrained(t.network, task.retain, recipe, seeds)
        )

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        t.network.eval()  # in each step, as the training puts it back
        task, space = t.task, self.space
        batch = t.draw("forget", task.forget)
        # those of the batch, which `draw` takes by the same rule
        u = t.part(t.indexes("forget", len(task.forget), t.step)).to(t.device)
        near = space.layout.neighbours[u]  # (B, k)
        some = task.retain.take(near.flatten().to(task.retain.labels.device))
        x = torch.cat([batch.x_0, *manifold.pictures(some, t.device)])
        z, others = t.network.features(x).float().split([len(u), near.numel()])
        z_near = others.view(*near.shape, -1)
        kept = space.distance(z_near, space.retain[near]).mean()
        return {"forget": self.hinge(t, u, z, z_near).mean(), "retain": self.beta * kept}

    def hinge(self, t: "Classifying", u: Tensor, z: Tensor, z_near: Tensor) -> Tensor:
        """L_u (B,) of the images u (B,) with features z (B, F), and z_near (B, k, F) of their
        neighbours.
        """
        space, margins = self.space, self.margins[u]
        here = space.distance(z, space.centres[u])
        if self.direction == "towards":
            return (here - space.distance(z, space.own[u]) + margins).relu()
        drawn = (t.uniform("positive") * z_near.shape[1]).long()
        positive = z_near[torch.arange(len(u), device=z.device), drawn]
        return (space.distance(positive, space.centres[u]) - here + margins).relu()
