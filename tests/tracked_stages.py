"""As a script: three stages, tracked one after the other.

python tracked_stages.py OUTPUTS MODE BACKEND MODULE...     MODULE: what is not installed
"""

import sys
from pathlib import Path

import torch

from unrelearn import tracking

outputs, mode, backend, *missing = sys.argv[1:]
sys.modules.update(dict.fromkeys(missing))  # None: an import of it fails
settings = dict(backend=backend, mode=mode, project="unrelearn", group=None, tags=[])
for stage in ("attack", "samples", "evaluate"):
    named = dict(key="k", group="g", config={}, name="n")
    axis = "attack/budget" if stage == "attack" else None
    about = tracking.About(stage=stage, axis=axis, **named)
    with tracking.run(settings, Path(outputs), about) as run:
        if stage == "attack":
            run.log({"a": 1.0}, 1)
            run.curve([(0, {"a": 1.0})])
        run.summary({"a": 1.0})
        run.images(forget=torch.zeros(40, 1, 8, 8, dtype=torch.uint8))
        if backend == "none":
            run.table("cells", [{"a": 1}])
print("done")
