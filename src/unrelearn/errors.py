"""The one exception a user can cause: it carries lines that say what to type, and ends the program
with exit code 2.
"""


def one_line(text: str) -> str:
    """Text with what can not be printed (line breaks, control characters, bytes that are no UTF-8)
    as
    escapes: a class may be called "a\\nb", and its name must not break the line that it stands in.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UsageError(Exception):
    """Bad input or a damaged store.

    Args:
        problems: one line, or a list of lines. Each names the key, the value, what is allowed, and
            the fix.
    """

    def __init__(self, problems: str | list[str]):
        problems = [problems] if isinstance(problems, str) else problems
        self.problems = [one_line(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


class RefusedCommand(UsageError):
    """What is asked for can not work in any run of a multirun, so none is started."""
