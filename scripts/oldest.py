"""The oldest versions that pyproject.toml allows, as constraints for pip.

python scripts/oldest.py > oldest.txt; PIP_CONSTRAINT=oldest.txt pip install -e '.[test]'
"""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
ENTRY = re.compile(r'^\s*"([\w-]+)(?:\[[\w,]+\])?>=([\w.]+)', re.MULTILINE)


def oldest(text: str) -> dict[str, str]:
    """Package -> the version behind its ">=", of the dependencies in a pyproject.toml."""
    return dict(ENTRY.findall(text.partition("dependencies = [")[2].partition("\n]")[0]))


def main() -> None:
    for name, version in oldest(PROJECT.read_text()).items():
        print(f"{name}~={version}.0" if version.count(".") < 2 else f"{name}=={version}")


if __name__ == "__main__":
    main()
