"""Words of the command line as suggestions show them: what is pasted into a shell is read as it was meant."""

from __future__ import annotations

import re
import shlex

from scballast.config.hydra_compat import parse_override


def shown_word(key: str, value: str) -> str:
    """Return ``key=value`` so that a shell and Hydra together read exactly this text.

    Parameters
    ----------
    key
        Of the configuration: ``data.layer``.
    value
        Any text: ``counts``, ``counts `` with a blank at its end, ``true``, ``a=b, c``.

    Returns
    -------
    str
        As short as it can be: quoted for Hydra where a sign has a meaning there (or the text looks like a number or
        a truth value), and for the shell where one has a meaning there.

    Examples
    --------
    >>> print(shown_word("data.layer", "counts"))
    data.layer=counts
    >>> print(shown_word("data.layer", "counts "))
    data.layer='"counts "'
    """
    # What is left of ${…} after Hydra is another key, unless a backslash stands before it.
    text = re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + "\\${", value)
    inside = re.sub(r"(\\*)($|\")", lambda match: 2 * match[1] + match[2].replace('"', '\\"'), text)
    for candidate in (text, f'"{inside}"'):
        if value_of(f"{key}={candidate}") == text:
            break
    return f"{key}={_for_shell(candidate)}"


def _for_shell(text: str) -> str:
    """Quote for a shell, on one line: what cannot be seen stands as its number, which bash and zsh read."""
    if text.isprintable():
        return shlex.quote(text)
    signs = ("\\" + sign if sign in "\\'" else sign if sign.isprintable() else _number(sign) for sign in text)
    return f"$'{''.join(signs)}'"


def _number(sign: str) -> str:
    # \xNN is a byte to a shell, and a character below 128 only.
    return f"\\u{ord(sign):04x}" if 128 <= ord(sign) < 2**16 else sign.encode("unicode_escape").decode()


def value_of(word: str) -> object:
    """Return the value that Hydra reads in a word; None: it reads none."""
    from hydra.errors import HydraException

    try:
        word.encode()  # the parser crashes on lone surrogates
        return parse_override(word).value()
    except (HydraException, UnicodeEncodeError):
        return None
