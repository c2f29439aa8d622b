"""The one exception a user can cause: it carries lines that say what to type, and ends the program with exit code 2."""

import re


def one_line(text: str) -> str:
    """Text with line breaks, control characters and bytes that are no UTF-8 written as escapes: a
    class may be called "a\\nb", and its name must not break the line that it stands in."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]",
                  lambda match: match[0].encode("unicode_escape").decode(), text)


class UsageError(Exception):
    """Bad input or a damaged store.

    Args:
        problems: one line, or a list of lines. Each names the key, the value, what is allowed, and the fix.
    """

    def __init__(self, problems: str | list[str]):
        problems = [problems] if isinstance(problems, str) else problems
        self.problems = [one_line(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


class RefusedCommand(UsageError):
    """What is asked for can not work in any run of a multirun, so none is started."""
