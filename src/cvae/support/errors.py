"""The one kind of error that ends a stage without a traceback, and what no message may hold."""

import os
import re


class UserError(Exception):
    """Something a person can put right; the message says what was wrong, where, and what to do.

    It may be printed and logged as it is: it is kept as `shown` makes it.
    """

    def __init__(self, message: str):
        super().__init__(shown(message))


def shown(text: str) -> str:
    """`text` without the user names, passwords and queries of addresses, and with `~` for the home folder.

    What comes before the last `@` of an address goes: a password may hold a / or # that should have been %2F or %23.
    Control characters go too: a server's answer must not write to a terminal what it likes.
    """
    text = re.sub(r"://\S*@", "://", text)
    text = re.sub(r"\?[^\s?=]+=[^\s'\")]*", "?…", text)
    text = re.sub(r"\b(Basic|Bearer) [\w.~+/-]+=*", r"\1 …", text)  # a header, in what a server quotes of a request
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
    home = os.path.expanduser("~")
    for folder in {home, os.path.realpath(home)} - {os.sep}:
        text = re.sub(rf"(?<![\w.-]){re.escape(folder)}(?![\w-])", "~", text)
    return text


def one_line(text: object) -> str:
    """`text` as a terminal can show it on one line."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in " ".join(str(text).split()))
