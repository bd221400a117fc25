"""A bug of gemtune's: one line, and a file to send that holds nothing of the user's."""

from __future__ import annotations

from gemtune.cli.bug import crash_lines


def test_a_crash_names_what_led_to_it() -> None:
    try:
        try:
            raise ValueError("a row")
        except ValueError as error:
            raise TypeError("another") from error
    except TypeError as error:
        text = "\n".join(crash_lines(error))
    assert "builtins.TypeError" in text and "builtins.ValueError" in text and "a row" not in text.replace('"a row"', "")
