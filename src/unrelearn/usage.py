"""What `python run.py --help` prints: the text of conf/config.yaml, and what lies in conf/.

Hydra would print it too, but loads the whole configuration anew for each group, which takes longer
than all the rest.
"""

import textwrap

import yaml

from unrelearn.paths import CONF

OWN = ("hydra", "tune")  # of Hydra's own plugins, and of scripts/tune.py


def usage() -> str:
    config = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    text = config["hydra"]["help"]
    parts = {
        "${hydra.help.header}": text["header"],
        "${stages}": ", ".join(config["stages"]),
        "$APP_CONFIG_GROUPS": "\n".join([*groups(), ""]),
    }
    for name, part in parts.items():
        text["template"] = text["template"].replace(name, part)
    return str(text["template"])


def groups() -> list[str]:
    """A paragraph for each folder of conf/: its name and its options."""
    lines = []
    for folder in sorted(path for path in CONF.rglob("*") if path.is_dir()):
        group = folder.relative_to(CONF).as_posix()
        options = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        if options and group.split("/")[0] not in OWN:
            line = f"{group}: {options}"
            lines.append(textwrap.fill(line, 110, subsequent_indent="    ", break_on_hyphens=False))
    return lines
