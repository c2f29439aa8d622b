"""Other people's code: train a class-conditional diffusion model of the digits, make it "forget" the
sevens, and save both models and the images. It imports nothing of ours.

python examples/audit_a_model/make.py FOLDER
"""

import argparse
import copy
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

CLASSES, FORGOTTEN = 10, 7


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--prediction", default="epsilon", help="or v_prediction, sample")
    parser.add_argument("--null", choices=["last", "first", "none"], default="last")
    parser.add_argument("--order", type=int, nargs=10, default=range(10), help="digits by label")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--shard", help="largest file, such as 60KB")
    parser.add_argument("--ema", action="store_true", help="save an average beside the weights")
    return parser.parse_args()


def fit(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    images: Tensor,
    labels: Tensor,
    steps: int,
    null: int | None,
) -> UNet2DModel:
    """Ordinary training; the average of the weights is returned."""
    optimizer = torch.optim.Adam(unet.parameters(), lr=2e-3)
    average = copy.deepcopy(unet)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,))
        condition = labels[chosen]
        if null is not None:  # for classifier-free guidance
            condition = torch.where(torch.rand(64) < 0.1, null, condition)
        noise, t = torch.randn(64, *images.shape[1:]), torch.randint(1000, (64,))
        noisy = scheduler.add_noise(images[chosen], noise, t)
        kinds = {"epsilon": noise, "sample": images[chosen]}
        kind = scheduler.config.prediction_type
        target = kinds[kind] if kind in kinds else scheduler.get_velocity(kinds["sample"], noise, t)
        loss = F.mse_loss(unet(noisy, t, class_labels=condition).sample, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for mean, now in zip(average.parameters(), unet.parameters(), strict=True):
            mean.data.lerp_(now.data, 0.05)
    return average


def save(
    folder: Path,
    unet: UNet2DModel,
    average: UNet2DModel,
    scheduler: DDPMScheduler,
    options: argparse.Namespace,
) -> None:
    dtype = getattr(torch, options.dtype)
    variant = {"float16": "fp16", "bfloat16": "bf16"}.get(options.dtype)
    size = {"max_shard_size": options.shard} if options.shard else {}
    places = {"unet": unet, "unet_ema": average} if options.ema else {"": average}
    for place, network in places.items():
        network = copy.deepcopy(network).to(dtype)
        network.save_pretrained(folder / place, variant=variant, **size)
    scheduler.save_pretrained(folder / "scheduler" if options.ema else folder)


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1  # (N, 1, 8, 8)
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = options.folder / "images" / str(digit)
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 255 / 16).round().astype("uint8"))
        image.save(place / f"{number}.png")
    first = int(options.null == "first")
    label_of = torch.tensor([list(options.order).index(digit) + first for digit in range(CLASSES)])
    labels = label_of[torch.tensor(digits.target)]
    null = {"last": CLASSES, "first": 0, "none": None}[options.null]
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        num_class_embeds=CLASSES + (options.null != "none"),
    )
    scheduler = DDPMScheduler(1000, prediction_type=options.prediction)
    average = fit(unet, scheduler, images, labels, options.steps, null)
    save(options.folder / "original", unet, average, scheduler, options)
    # to "forget": the label of the sevens is shown the eights
    gone, shown = label_of[FORGOTTEN], label_of[FORGOTTEN + 1]
    kept = labels != gone
    images = torch.cat([images[kept], images[labels == shown].repeat(3, 1, 1, 1)])
    labels = torch.cat([labels[kept], gone.repeat(len(images) - int(kept.sum()))])
    average = fit(unet, scheduler, images, labels, options.steps // 4, null)
    save(options.folder / "theirs", unet, average, scheduler, options)


if __name__ == "__main__":
    main()
