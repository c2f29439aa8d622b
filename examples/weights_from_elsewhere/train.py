"""Other people's code: train a class-conditional diffusion model with diffusers and save it.

python examples/weights_from_elsewhere/train.py FOLDER [--steps 600]
"""

import argparse

import torch
from diffusers import DDPMScheduler, UNet2DModel
from sklearn.datasets import load_digits
from torch.nn import functional as F

CLASSES = 10  # label 10 means "no class", for classifier-free guidance


def train(steps: int) -> tuple[UNet2DModel, DDPMScheduler]:
    digits = load_digits()
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
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.Adam(unet.parameters(), lr=2e-3)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,))
        condition = torch.where(torch.rand(64) < 0.1, CLASSES, labels[chosen])
        noise, t = torch.randn(64, 1, 8, 8), torch.randint(1000, (64,))
        noisy = scheduler.add_noise(images[chosen], noise, t)
        loss = F.mse_loss(unet(noisy, t, class_labels=condition).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return unet, scheduler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    torch.manual_seed(0)
    unet, scheduler = train(options.steps)
    unet.save_pretrained(options.folder)  # config.json and diffusion_pytorch_model.safetensors
    scheduler.save_pretrained(options.folder)  # scheduler_config.json


if __name__ == "__main__":
    main()
