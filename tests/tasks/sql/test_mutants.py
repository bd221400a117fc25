"""Mutants: every one is another query that runs, and data tells the usual mistakes from the right answer."""

from __future__ import annotations

import sqlglot

from gemtune.tasks.sql.mutants import MOST_MUTANTS, mutants
from gemtune.tasks.sql.sandbox import execute
from tasks.sql.queries import PETS, ROWS

COLUMNS = {"owner": ("id", "city"), "pet": ("id", "name", "kind", "age", "owner_id")}
MISTAKES = {  # a query -> what a model writes instead
    "SELECT name FROM pet WHERE age > 4": ("SELECT name FROM pet", "SELECT name FROM pet WHERE age < 4"),
    "SELECT kind, AVG(age) FROM pet GROUP BY kind": ("SELECT kind, SUM(age) FROM pet GROUP BY kind",),
    "SELECT DISTINCT kind FROM pet": ("SELECT kind FROM pet",),
    "SELECT name FROM pet ORDER BY age DESC LIMIT 1": ("SELECT name FROM pet ORDER BY age ASC NULLS LAST LIMIT 1",),
    "SELECT city FROM owner WHERE id = 1 AND city = 'Rome'": ("SELECT city FROM owner WHERE id = 1 OR city = 'Rome'",),
    "DELETE FROM pet WHERE age > 4": ("DELETE FROM pet",),
}


def mutants_of(query: str) -> list[str]:
    return list(mutants(sqlglot.parse_one(query, read="sqlite"), COLUMNS))


def test_usual_mistakes_are_among_the_mutants() -> None:
    for query, mistakes in MISTAKES.items():
        assert set(mistakes) <= set(mutants_of(query)), query


def test_every_mutant_differs_and_runs() -> None:
    for query in MISTAKES:
        made = mutants_of(query)
        assert query not in made and len(set(made)) == len(made) <= MOST_MUTANTS
        for mutant in made:
            if mutant.startswith("SELECT"):
                execute(mutant, PETS, ROWS)


def test_the_statement_itself_is_left_as_it_was() -> None:
    for query in MISTAKES:
        tree = sqlglot.parse_one(query, read="sqlite")
        before = tree.sql("sqlite")
        list(mutants(tree, COLUMNS))
        assert tree.sql("sqlite") == before


def test_of_a_long_query_only_some_are_made() -> None:
    query = f"SELECT name FROM pet WHERE {' AND '.join(f'age > {number}' for number in range(60))}"
    assert len(mutants_of(query)) == MOST_MUTANTS
