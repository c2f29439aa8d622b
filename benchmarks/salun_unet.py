"""SalUn's 38.6 M UNet: that code line's training step and sampling, written plainly, against ours
at equal maths.

    python benchmarks/salun_unet.py

Theirs (Selective Amnesia, SalUn): float32, the loss summed over pixels, its value copied to the
host in every step, Adam and the average weight by weight, the images picked on the host, two
forward passes for guidance, 1000 steps. Ours: the Lightning module with precision=bf16-mixed (on a
GPU also channels_last and torch.compile), one forward pass for guidance, the steps of the default
protocol. Both use our network, so a faster attention does not count. Seconds of a whole 500-image
evaluation are the seconds of a step times the number of steps. On a GPU the model FLOP utilisation
is printed as well: FLOPs of the step over its time, as a share of what a large bf16 matrix product
reaches on the same device.
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path

import torch
from common import configuration, interleaved, report

from unrelearn import launch, progress
from unrelearn.data import ImageSet, to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.denoising import DenoiserPretraining, Denoising, DenoisingTask
from unrelearn.diffusion.kind import forward_cost, recipe
from unrelearn.diffusion.sampling import sample
from unrelearn.fit import FitOptions, fit

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
WARM_UP, GUIDANCE, THEIR_STEPS = (20, 3.0, 1000) if GPU else (1, 3.0, 1000)


def wait() -> None:
    if GPU:
        torch.cuda.synchronize()


@contextlib.contextmanager
def peak_memory(peaks: dict, name: str):
    """MiB at the most while the block ran: of the device, or of the process."""
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")
    yield
    lines = Path("/proc/self/status").read_text().splitlines()
    host = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    peaks[name] = round(torch.cuda.max_memory_allocated() / 2**20 if GPU else host)


def new_network(cfg: dict):
    network = denoisers.build(image_size=32, channels=3, num_classes=10, **cfg["model"]["unet"])
    denoisers.reinitialise(network, 0)
    return network.to(DEVICE)


def their_step(cfg: dict, data: ImageSet, batch_size: int, steps: int) -> float:
    """Seconds per step."""
    network, settings = new_network(cfg).train(), recipe(cfg["model"]["pretrain"])
    schedule = maths.alphas_cumprod().to(DEVICE)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings["learning_rate"], foreach=False)
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    images, labels = data.images.cpu(), data.labels.cpu()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            wait()
            started = time.perf_counter()
        index = torch.randint(len(labels), (batch_size,))
        x_0, c = to_model_range(images[index]).to(DEVICE), labels[index].to(DEVICE)
        half = torch.randint(1000, (batch_size // 2 + 1,), device=DEVICE)
        t = torch.cat([half, 999 - half])[:batch_size]
        noise = torch.randn_like(x_0)
        c = torch.where(torch.rand(batch_size, device=DEVICE) < settings["label_dropout"], 10, c)
        output = denoisers.predict(network, maths.add_noise(x_0, noise, t, schedule), t, c)
        loss = (noise - output).square().sum((1, 2, 3)).mean()
        loss.item()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings["grad_clip"], foreach=False)
        optimizer.step()
        for name, p in network.named_parameters():
            average[name].data = (1.0 - settings["ema_decay"]) * p.data + settings[
                "ema_decay"
            ] * average[name].data
    wait()
    return (time.perf_counter() - started) / steps


def our_step(cfg: dict, data: ImageSet, batch_size: int, steps: int, outside: list[float]) -> float:
    """Seconds per step; the seconds of a step that are spent on making its batch are added to
    `outside`.
    """
    stamps, drawing = {}, []

    class Timed(Denoising):
        def draw(self, *arguments, **keywords):
            started = time.perf_counter()
            batch = super().draw(*arguments, **keywords)
            wait()
            drawing.append(time.perf_counter() - started)
            return batch

    task = DenoisingTask(
        network=new_network(cfg),
        schedule=cfg["model"]["schedule"],
        forget=data.of_classes([]),
        retain=data,
        forget_classes=[],
        class_names=tuple(map(str, range(10))),
        seed=0,
        horizontal_flip=True,
        loss_reduction="sum",
        antithetic=True,
    )
    arguments = recipe(cfg["model"]["pretrain"]) | {
        "max_steps": WARM_UP + steps,
        "batch_size": batch_size,
    }

    def note(step: int, row: dict) -> None:
        wait()
        stamps[step] = time.perf_counter()

    options = FitOptions(
        precision="bf16-mixed",
        channels_last=GPU,
        compile=GPU,
        log_every_n_steps=WARM_UP,
        log_row=note,
        checkpoint_every_n_steps=10**9,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(Timed(DenoiserPretraining(**arguments), task), Path(folder), "ours", options)
    seconds = (stamps[WARM_UP + steps] - stamps[WARM_UP]) / steps
    outside.append(sum(drawing[WARM_UP:]) / steps / seconds)
    return seconds


@torch.inference_mode()
def their_sampling_step(network, n: int, steps: int) -> float:
    x, c = torch.randn(n, 3, 32, 32, device=DEVICE), torch.zeros(n, dtype=torch.long, device=DEVICE)
    abar, null = maths.alphas_cumprod().to(DEVICE), torch.full_like(c, 10)
    wait()
    started = time.perf_counter()
    for t in range(999, 999 - steps, -1):
        conditional, unconditional = (
            denoisers.predict(network, x, torch.tensor(t, device=DEVICE), label)
            for label in (c, null)
        )
        noise = GUIDANCE * conditional - (GUIDANCE - 1) * unconditional
        x_0 = (x - noise * (1 - abar[t]).sqrt()) / abar[t].sqrt()
        spread = ((1 - abar[t] / abar[t - 1]) * (1 - abar[t - 1]) / (1 - abar[t])).sqrt()
        x = (
            abar[t - 1].sqrt() * x_0
            + spread * torch.randn_like(x)
            + ((1 - abar[t - 1]) - spread**2).sqrt() * noise
        )
    wait()
    return (time.perf_counter() - started) / steps


def our_sampling_step(network, cfg: dict, n: int, steps: int) -> float:
    started = time.perf_counter()
    with torch.autocast(DEVICE.type, torch.bfloat16):
        sample(
            network,
            torch.zeros(n, dtype=torch.long),
            schedule=cfg["model"]["schedule"],
            name=cfg["sampler"]["name"],
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            batch_size=n,
        )
    return (time.perf_counter() - started) / steps


def matmul_ceiling() -> float:
    """FLOP/s of a large bf16 matrix product on this device, the best of five."""
    side = 8192 if GPU else 1024
    a = torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(5):
        wait()
        started = time.perf_counter()
        for _ in range(10):
            a @ a
        wait()
        best = min(best, (time.perf_counter() - started) / 10)
    return 2 * side**3 / best


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128 if GPU else 8)
    parser.add_argument("--steps", type=int, default=100 if GPU else 2)
    arguments = parser.parse_args()
    progress.console.quiet = True
    os.environ.setdefault("WANDB_MODE", "offline")
    with tempfile.TemporaryDirectory() as outputs:
        cfg = configuration("model=salun_unet", f"paths.outputs={outputs}")
    g = torch.Generator().manual_seed(0)
    data = ImageSet(
        torch.randint(256, (2048, 3, 32, 32), generator=g, dtype=torch.uint8),
        torch.arange(2048) % 10,
    ).to(DEVICE)
    size, steps, peaks, outside = arguments.batch_size, arguments.steps, {}, []

    def measured(name: str, action) -> float:
        with peak_memory(peaks, name):
            return action()

    seconds = interleaved(
        arguments.rounds,
        theirs=lambda: measured("theirs", lambda: their_step(cfg, data, size, steps)),
        ours=lambda: measured("ours", lambda: our_step(cfg, data, size, steps, outside)),
    )
    more = {
        "peak_memory_mib": dict(peaks),
        "share_outside_the_model": sorted(outside)[len(outside) // 2],
    }
    if GPU:
        flops = (
            3
            * size
            * forward_cost(image_size=32, channels=3, num_classes=10, **cfg["model"]["unet"])[0]
        )
        best = min(seconds["ours"])
        more |= {
            "images_per_second": size / best,
            "model_flop_utilisation": flops / best / matmul_ceiling(),
        }
    report(
        "salun_unet_training_step",
        seconds["ours"],
        seconds["theirs"],
        ">= 4" if GPU else ">= 1.8",
        speedup=True,
        what=f"seconds per step, batch {size}",
        **more,
    )

    network, n = new_network(cfg).eval(), 500 if GPU else size
    seconds = interleaved(
        arguments.rounds,
        theirs=lambda: measured("theirs", lambda: their_sampling_step(network, n, steps)),
        ours=lambda: measured("ours", lambda: our_sampling_step(network, cfg, n, steps)),
    )
    report(
        "salun_unet_sampling_step",
        seconds["ours"],
        seconds["theirs"],
        ">= 4" if GPU else ">= 1.8",
        speedup=True,
        what=f"seconds per guided step of {n} images",
        peak_memory_mib=dict(peaks),
    )
    ours = cfg["sampler"]["num_inference_steps"]
    report(
        "salun_unet_evaluation",
        [s * ours * 500 / n for s in seconds["ours"]],
        [s * THEIR_STEPS * 500 / n for s in seconds["theirs"]],
        ">= 40",
        speedup=True,
        what=(
            f"seconds for 500 guided images: {THEIR_STEPS} steps against {ours}, from seconds per"
            " step"
        ),
    )
