"""The text encoder of a model that reads captions: trained once, then frozen and public."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from unrelearn import distributed, progress
from unrelearn.artifact import write_json
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.images import OfData, decoded, images

if TYPE_CHECKING:
    from torch import nn

FILE = "encoder.safetensors"


class TextEncoding(OfData):
    """A text encoder, trained against the images of all classes."""

    name = "text"
    seconds = 60.0

    def needs(self) -> list[Stage]:
        return decoded(self.run)

    def config(self) -> dict[str, Any]:
        return {"dataset": self.run.data_slice, "text": self.run.slice(self.run.cfg.model.text)}

    def make(self, folder: Path) -> dict[str, Any]:
        from unrelearn.diffusion.captions import END
        from unrelearn.diffusion.text_training import EncoderRecipe, train_encoder

        settings = self.run.slice(self.run.cfg.model.text)
        recipe = EncoderRecipe(**{f.name: settings[f.name] for f in fields(EncoderRecipe)})
        network: Any = self.run.kind.build().to(self.run.device)
        end = list(network.config.vocabulary).index(END)
        with progress.alive(f"text {self.key}"):
            losses = train_encoder(network.class_embedding, images(self.run).train, end, recipe)
        if distributed.is_main():
            save_file(network.class_embedding.encoder.cpu().state_dict(), folder / FILE)
            write_json(folder / "losses.json", losses[::10])
        return {}

    def install(self, network: "nn.Module") -> None:
        """Put the finished encoder, and the states that it makes, into a network."""
        table: Any = network.class_embedding
        table.encoder.load_state_dict(load_file(self.build().path / FILE))
        table.refresh()


def encoders(run: Run) -> list[TextEncoding]:
    """What must be there before a model can be built that reads text."""
    return [] if run.cfg.model.text is None else [TextEncoding(run)]


def new_network(run: Run) -> "nn.Module":
    """Of random weights, but for a text encoder."""
    network = run.kind.build()
    for encoder in encoders(run):
        encoder.install(network)
    return network
