"""Images per second, model FLOP utilisation and peak memory of a training step of the CIFAR-10
networks in bf16: as it is, compiled, and compiled into CUDA graphs.

    python benchmarks/mfu.py --seconds 60

What the box leaves no time for is named and left out. The utilisation is the FLOPs of forward and
backward over the time of the step, as a share of what a large bf16 matrix product reaches here.
Adam and the average of the weights are part of the step; drawing the batch is not, which
salun_unet.py measures. Target on a GPU: 35 % for salun_unet, compiled.
"""

import time
from collections.abc import Callable

import torch
from common import configuration, keep
from salun_unet import DEVICE, GPU, matmul_ceiling, new_network, peak_memory, wait

from unrelearn import launch, progress
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.kind import forward_cost

NETWORKS = ("ddpm_cifar10_small", "salun_unet", "ddpm_cifar10")
MODES = {"eager": None, "compiled": "default", "graphs": "reduce-overhead"}  # of torch.compile


def step_of(cfg: dict, size: int, mode: str | None) -> Callable[[], None]:
    network = new_network(cfg).train().to(memory_format=torch.channels_last)
    if mode is not None:
        network.compile(mode=mode)
    weights = list(network.parameters())
    average = [w.detach().clone() for w in weights]
    optimizer = torch.optim.Adam(weights, lr=1e-4, fused=GPU)
    x = torch.randn(size, 3, 32, 32, device=DEVICE).to(memory_format=torch.channels_last)
    t = torch.randint(1000, (size,), device=DEVICE)
    labels, noise = t % 10, torch.randn_like(x)

    def step() -> None:
        if mode is not None:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(DEVICE.type, torch.bfloat16):
            output = denoisers.predict(network, x, t, labels)
        (noise - output.float()).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, weights, 0.001)

    return step


def measured(cfg: dict, size: int, mode: str | None, steps: int) -> dict:
    peaks: dict[str, int] = {}
    with peak_memory(peaks, "mib"):
        step, began = step_of(cfg, size, mode), time.perf_counter()
        for _ in range(3):  # compiled in the first
            step()
        wait()
        warm = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
    seconds = (time.perf_counter() - warm) / steps
    shape = {"image_size": 32, "channels": 3, "num_classes": 10, **cfg["model"]["unet"]}
    flops = 3 * size * forward_cost(**shape)[0]
    return {
        "batch_size": size,
        "images_per_second": size / seconds,
        "flop_per_second": flops / seconds,
        "peak_memory_mib": peaks["mib"],
        "seconds_to_compile_and_warm_up": warm - began,
    }


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of all (default: 60)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--batch-size", type=int, default=128 if GPU else 2)
    parser.add_argument("--steps", type=int, default=30 if GPU else 1)
    arguments = parser.parse_args()
    progress.console.quiet = True
    end = time.monotonic() + arguments.seconds
    ceiling, rows, left_out = matmul_ceiling(), [], []
    for mode in arguments.modes:  # those that have to be compiled come last
        for name in arguments.networks:
            if time.monotonic() > end:
                left_out.append(f"{name} {mode}")
                continue
            cfg = configuration("dataset=cifar10", f"model={name}")
            row = measured(cfg, arguments.batch_size, MODES[mode], arguments.steps)
            row["model_flop_utilisation"] = row["flop_per_second"] / ceiling
            rows.append({"network": name, "mode": mode, **row})
            print(
                f"{name} {mode}: {row['images_per_second']:.4g} images/s, utilisation"
                f" {row['model_flop_utilisation']:.1%}, {row['peak_memory_mib']} MiB",
                flush=True,
            )
    if left_out:
        print(f"left out, no time: {', '.join(left_out)}")
    keep("mfu", {"matmul_flop_per_second": ceiling, "rows": rows, "left_out": left_out})
