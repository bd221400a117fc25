"""DuckDB, PostgreSQL and MySQL: how each is connected to, limited to what it may do, and left with nothing in it."""

from __future__ import annotations

import atexit
import functools
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from gemtune.tasks.sql.driven import SAVEPOINT, SECONDS, Connection, Driven, Server
from gemtune.tasks.sql.engines import Engine, Sqlite


class Unreachable(Exception):
    """A server that does not answer, or that must not be used; the text is one line."""


def _duckdb() -> Server:
    import duckdb

    def connect() -> Connection:
        return duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "memory_limit": "256MB",
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "lock_configuration": "true",
            },
        )

    return Server("duckdb", connect, duckdb.Error, interrupt=lambda cursor: cursor.interrupt())


def _postgres(url: str, password: str | None) -> Server:
    import psycopg

    def connect() -> Connection:
        try:
            connection = psycopg.connect(url, password=password, connect_timeout=3)
            with connection.cursor() as cursor:
                if cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() != (False,):
                    raise Unreachable(
                        "its user is a superuser, whom nothing stops; name one who may only CREATE schemas"
                    )
                name = f"gemtune_{secrets.token_hex(8)}"
                cursor.execute(f"CREATE SCHEMA {name}")
                cursor.execute(f"SET LOCAL search_path TO {name}")
                cursor.execute(f"SET LOCAL statement_timeout = {int(SECONDS * 1000)}")
        except psycopg.Error as error:
            raise Unreachable(" ".join(str(error).split())[:300]) from None
        return connection  # its one transaction is never committed

    return Server("postgres", connect, psycopg.Error, begin=SAVEPOINT, back="ROLLBACK TO SAVEPOINT gemtune")


def _mysql(url: str, password: str | None) -> Server:
    import pymysql

    place = urlsplit(url)
    atexit.register(_close_all, lambda connection: close(connection))

    def connect() -> Connection:
        try:
            connection = pymysql.connect(
                host=place.hostname or "localhost",
                port=place.port or 3306,
                user=place.username,
                password=password or "",
                connect_timeout=3,
                read_timeout=int(SECONDS) + 2,
                local_infile=False,
                autocommit=True,
                sql_mode="TRADITIONAL",
            )
            with connection.cursor() as cursor:
                cursor.execute("SHOW GRANTS")
                if any("ON *.*" in grant and "USAGE ON" not in grant for (grant,) in cursor.fetchall()):
                    raise Unreachable(r"its user may do things on *.*; name one with rights on `gemtune\_%`.* alone")
                name = f"gemtune_{os.getppid()}_{secrets.token_hex(4)}"
                _drop_left_over(cursor)
                cursor.execute(f"CREATE DATABASE `{name}`")
                cursor.execute(f"USE `{name}`")
                with suppress(
                    pymysql.Error
                ):  # MariaDB's, for every statement; MySQL's is for SELECT and in milliseconds
                    cursor.execute(f"SET max_statement_time = {SECONDS}")
                with suppress(pymysql.Error):
                    cursor.execute(f"SET max_execution_time = {int(SECONDS * 1000)}")
        except pymysql.Error as error:
            raise Unreachable(" ".join(str(error).split())[:300]) from None
        _MADE[name] = connection
        return connection

    def close(connection: Connection) -> None:
        for name in [name for name, made in _MADE.items() if made is connection]:
            with suppress(pymysql.Error), connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
            del _MADE[name]
        connection.close()

    return Server("mysql", connect, pymysql.Error, close, quote="`")


_MADE: dict[str, Connection] = {}  # scratch databases of a MySQL server


def _close_all(close: Callable[[Connection], None]) -> None:
    for connection in list(_MADE.values()):
        close(connection)


def _drop_left_over(cursor: Any) -> None:
    """What a child of the same process left when it was killed."""
    cursor.execute("SHOW DATABASES")
    for (name,) in cursor.fetchall():
        if name.startswith(f"gemtune_{os.getppid()}_") and name not in _MADE:
            cursor.execute(f"DROP DATABASE `{name}`")


@functools.lru_cache(maxsize=2)
def engine_of(name: str, password: str | None) -> Engine:
    """The engine of a recipe's `sql.engine`."""
    if name == "sqlite":
        return Sqlite()
    if name == "duckdb":
        return Driven(_duckdb())
    return Driven(_postgres(name, password) if name.startswith("postgres") else _mysql(name, password))
