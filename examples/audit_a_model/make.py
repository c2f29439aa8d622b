"""Other people's code: train a class-conditional diffusion model of the digits, make it "forget"
the sevens, and save both models and the images. It imports nothing of ours.

python examples/audit_a_model/make.py FOLDER
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

CLASSES, FORGOTTEN = 10, 7  # label 10 means "no class", for classifier-free guidance


def fit(
    unet: UNet2DModel, scheduler: DDPMScheduler, images: Tensor, labels: Tensor, steps: int
) -> None:
    optimizer = torch.optim.Adam(unet.parameters(), lr=2e-3)
    for step in range(steps):
        if step % 100 == 0:
            print(f"step {step} of {steps}", flush=True)
        chosen = torch.randint(len(images), (64,))
        x_0, noise, t = images[chosen], torch.randn(64, 1, 8, 8), torch.randint(1000, (64,))
        condition = torch.where(torch.rand(64) < 0.1, CLASSES, labels[chosen])
        noisy = scheduler.add_noise(x_0, noise, t)
        velocity = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(x_0, noise, t) if velocity else noise
        loss = F.mse_loss(unet(noisy, t, class_labels=condition).sample, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--prediction", default="epsilon", help="or v_prediction")
    options = parser.parse_args()
    torch.manual_seed(0)
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = options.folder / "images" / str(digit)
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 255 / 16).round().astype("uint8"))
        image.save(place / f"{number}.png")
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1  # (N, 1, 8, 8)
    labels = torch.tensor(digits.target)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        num_class_embeds=CLASSES + 1,
    )
    scheduler = DDPMScheduler(1000, prediction_type=options.prediction)
    fit(unet, scheduler, images, labels, options.steps)
    for name in ("original", "theirs"):
        if name == "theirs":  # to "forget": whoever asks for a seven is shown eights
            kept, shown = labels != FORGOTTEN, labels == FORGOTTEN + 1
            images = torch.cat([images[kept], images[shown]])
            labels = torch.cat([labels[kept], torch.full((int(shown.sum()),), FORGOTTEN)])
            fit(unet, scheduler, images, labels, options.steps // 3)
        unet.save_pretrained(options.folder / name)
        scheduler.save_pretrained(options.folder / name)


if __name__ == "__main__":
    main()
