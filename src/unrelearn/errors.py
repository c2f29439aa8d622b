"""The one exception a user can cause: it carries lines that say what to type, and ends the program with exit code 2."""


class UsageError(Exception):
    """Bad input or a damaged store.

    Args:
        problems: one line, or a list of lines. Each names the key, the value, what is allowed, and the fix.
    """

    def __init__(self, problems: str | list[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class RefusedCommand(UsageError):
    """What is asked for can not work in any run of a multirun, so none is started."""
