"""The error that ends a stage without a traceback, and the removal of secrets from messages."""

import difflib
import os
import re
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix; the message says what was wrong, where, and what to do.

    `shown` has removed secrets from the message, so it is safe to print and log.
    """

    def __init__(self, message: str):
        super().__init__(shown(message))


def shown(text: str) -> str:
    """Return `text` without user names, passwords and queries in URLs, and with `~` for the home folder.

    Everything before the last `@` of a URL is removed, since a password may contain a / or # that should have been
    written %2F or %23. Control characters are removed too, so that a server's answer cannot control the terminal.
    """
    text = re.sub(r"://\S*@", "://", text)
    text = re.sub(r"\?[^\s?=]+=[^\s'\")]*", "?…", text)
    text = re.sub(r"\b(Basic|Bearer) [\w.~+/-]+=*", r"\1 …", text)  # a header that a server quotes
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
    home = os.path.expanduser("~")
    for folder in {home, os.path.realpath(home)} - {os.sep}:
        text = re.sub(rf"(?<![\w.-]){re.escape(folder)}(?![\w-])", "~", text)
    return text


def one_line(text: object) -> str:
    """Return `text` on one line, with unprintable characters escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in " ".join(str(text).split()))


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Advise on a `name` that is not among `known`: the one that was probably meant, or `otherwise`."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}?" if close else otherwise
