"""One setting across a table: python scripts/pivot.py outputs/runs/*-dimra-* --by
attack.learning_rate
"""

import logging
import sys

from unrelearn import launch
from unrelearn.paths import given
from unrelearn.report.files import write_atomically
from unrelearn.report.pivot import put_into, to_markdown
from unrelearn.report.records import collect
from unrelearn.report.table import results

EXAMPLES = """
examples:
  python scripts/pivot.py outputs/runs/*-dimra-* --by attack.learning_rate
      what DiMRA brings back at each of its rates
  python scripts/pivot.py outputs/runs/*-dimra-* --by forget                 of each forgotten class
  python scripts/pivot.py outputs/runs/*-dimra-* --by method.learning_rate --into notes.md
"""


def main(arguments: list[str] | None = None) -> int:
    parser = launch.parser(__doc__, EXAMPLES)
    parser.add_argument(
        "results",
        nargs="+",
        type=given,
        metavar="RESULTS",
        help="folders with result.json, or such files",
    )
    parser.add_argument(
        "--by", required=True, metavar="KEY", help="forget, or a key such as attack.learning_rate"
    )
    parser.add_argument(
        "--into",
        type=given,
        metavar="FILE",
        help=(
            "put the tables between its lines <!-- by KEY --> and <!-- end --> instead of printing"
            " them"
        ),
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        if missing := [
            str(path) for path in [*options.results, options.into] if path and not path.exists()
        ]:
            raise ValueError(
                f"{missing[0]} does not exist. Type a folder of runs, such as outputs/runs, and for"
                " --into a page"
            )
        if not (records := collect(options.results)):
            raise ValueError(
                f"no result.json below {', '.join(map(str, options.results))}. Type a folder of"
                " runs: outputs/runs"
            )
        text = to_markdown(results(records), options.by)
        if options.into is None:
            print(text, end="")
        else:
            page = options.into.read_text(encoding="utf-8")
            write_atomically(options.into, put_into(page, f"by {options.by}", text))
    except (ValueError, OSError) as error:
        return launch.complain([str(error)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
