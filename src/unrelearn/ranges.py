"""Kinds of values that a configuration holds: a type with its range, which stands beside the name.

A range of its own is written out where it is needed: `Annotated[float, Field(gt=0, le=0.99)]`.
"""

from typing import Annotated, Literal

from pydantic import Field

Share = Annotated[float, Field(gt=0, le=1)]  # of a whole, of which there must be something
Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]  # of a term of a loss; a guidance scale
Positive = Annotated[float, Field(gt=0)]
Delta = Annotated[float, Field(gt=0, le=0.1)]  # of (epsilon, delta)-privacy
Rate = Annotated[float, Field(ge=0, le=10)]  # of learning
Steps = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Devices = Count | Literal["auto"]
Seed = Annotated[int, Field(ge=0, le=2**31)]
ImageSize = Annotated[int, Field(ge=4, le=1024)]  # pixels
# over the steps of a training
LearningRates = Literal["constant", "one_cycle", "cosine", "multistep"]
