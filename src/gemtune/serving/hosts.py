"""What a Host header names: a web page may reach a server on this machine by a name of its own (DNS rebinding)."""

from __future__ import annotations

import ipaddress


def host_name(header: str) -> str:
    """The name in a Host header.

    >>> host_name("LocalHost:8000"), host_name("[::1]:8000"), host_name("10.0.0.1")
    ('localhost', '::1', '10.0.0.1')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def is_address(name: str) -> bool:
    """
    >>> is_address("127.0.0.1"), is_address("::1"), is_address("evil.example"), is_address("")
    (True, True, False, False)
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::1")
    (True, True, False, True)
    """
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
