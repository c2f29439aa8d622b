"""Where the pixels of a text-conditional denoiser look."""

from collections.abc import Callable

from torch import Tensor, nn


def looks(network: nn.Module, forward: Callable[[], Tensor]) -> tuple[Tensor, list[Tensor]]:
    """What a forward pass of a network gives, and of every cross-attention where its pixels look:
    (B, heads, pixels, L), softmax over the caption's states.
    """
    inputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda layer, given, output: inputs.update({name: output})

    attentions = {n: layer for n, layer in network.named_modules() if n.endswith(".attn2")}
    hooks = [
        getattr(layer, part).register_forward_hook(keep(f"{name}.{part}"))
        for name, layer in attentions.items()
        for part in ("to_q", "to_k")
    ]
    output = forward()
    for hook in hooks:
        hook.remove()
    maps = []
    for name, layer in attentions.items():
        q, k = (
            inputs[f"{name}.{part}"].unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for part in ("to_q", "to_k")
        )
        maps.append((q @ k.transpose(-1, -2) * layer.scale).softmax(-1))
    return output, maps
