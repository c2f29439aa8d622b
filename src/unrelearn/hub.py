"""Folders of the Hugging Face hub: user/name in place of a folder."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from unrelearn import check
from unrelearn.advice import shown

ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
KEYS = ("model.checkpoint", "method.checkpoint")
# what is read of it (of a tokenizer merges.txt); pickles stay where they are
PATTERNS = ["*.json", "*.safetensors", "*.txt"]


def settle(settings: dict[str, Any]) -> list[str]:
    """Put the folder in which its files lie here for user/name; problems of those that can not be
    had. What is there as a folder of that name is meant as it stands.
    """
    problems = []
    for key in KEYS:
        name = check.at(settings, key)
        if isinstance(name, str) and ID.fullmatch(name) and not Path(name).exists():
            folder, why = fetched(name)
            group, _, last = key.partition(".")
            settings[group][last] = folder or name
            if why:
                problems.append(
                    f"{key}={shown(name)}: there is no such folder, and the hub can not be asked"
                    f" for one ({why}). Type {key}=FOLDER, or the same command with a network"
                )
    return problems


@cache
def fetched(name: str) -> tuple[str, str]:
    """(Folder in the hub's cache, "") of user/name, or ("", why there is none)."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(name, allow_patterns=PATTERNS, etag_timeout=10), ""
    except Exception as error:  # of the hub, of http, of the disk: each has its own
        return "", f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
