"""The one kind of error that ends a stage without a traceback, and its one line."""


class UserError(Exception):
    """Something a person can put right; the message says what was wrong, where, and what to do."""


def one_line(text: object) -> str:
    """`text` as a terminal can show it on one line."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in " ".join(str(text).split()))
