"""Errors that the user can fix, and messages without secrets."""

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
    """Return `text` without the user names, passwords and queries of URLs, and with `~` for the home folder.

    Everything up to the last `@` of a URL is removed, because people write / and # in passwords unquoted. Control
    characters are removed too, so that a server's answer cannot control the terminal.
    """
    text = re.sub(r"://\S*@", "://", text)
    text = re.sub(r"\?[^\s?=]+=[^\s'\")]*", "?…", text)
    text = re.sub(r"\b(Basic|Bearer) [\w.~+/-]+=*", r"\1 …", text)  # in a header that a server repeats
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
