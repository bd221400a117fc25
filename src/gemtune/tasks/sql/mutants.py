"""What a query might have been: the same statement with one thing wrong; data that shows no difference is no proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlglot import exp

MOST_MUTANTS = 40

Columns = Mapping[str, Sequence[str]]  # table in lower case -> its columns
Change = tuple[exp.Expression, str, object]  # a node, which of its arguments, and what that becomes

_INSTEAD: dict[type[exp.Expression], tuple[type[exp.Expression], ...]] = {
    exp.EQ: (exp.NEQ,),
    exp.NEQ: (exp.EQ,),
    exp.GT: (exp.GTE, exp.LT),
    exp.GTE: (exp.GT, exp.LTE),
    exp.LT: (exp.LTE, exp.GT),
    exp.LTE: (exp.LT, exp.GTE),
    exp.And: (exp.Or,),
    exp.Or: (exp.And,),
    exp.Add: (exp.Sub,),
    exp.Sub: (exp.Add,),
    exp.Mul: (exp.Div,),
    exp.Div: (exp.Mul,),
    exp.Max: (exp.Min,),
    exp.Min: (exp.Max,),
    exp.Sum: (exp.Avg,),
    exp.Avg: (exp.Sum,),
    exp.Intersect: (exp.Union,),
    exp.Except: (exp.Intersect,),
}
_BOUNDS = {exp.GTE: exp.GT, exp.GT: exp.GTE, exp.LTE: exp.LT, exp.LT: exp.LTE}  # differ where both sides are equal
_WITHOUT = {  # clauses that may be forgotten
    exp.Select: ("where", "having", "distinct", "offset", "limit"),
    exp.Union: ("offset", "limit"),
    exp.Update: ("where",),
    exp.Delete: ("where",),
}


def mutants(tree: exp.Expression, columns: Columns, dialect: str = "sqlite") -> Iterator[str]:
    """The statement with one thing wrong: no WHERE, another comparison, aggregate, column, order or limit.

    >>> import sqlglot
    >>> list(mutants(sqlglot.parse_one("SELECT MAX(a) FROM t WHERE b > 4", read="sqlite"), {"t": ["a", "b"]}))[:4]
    ['SELECT MAX(a) FROM t', 'SELECT MIN(a) FROM t WHERE b > 4', 'SELECT MAX(a) FROM t WHERE NOT (b > 4)', \
'SELECT MAX(b) FROM t WHERE b > 4']
    """
    original, texts = tree.sql(dialect), set[str]()
    for node, argument, value in _changes(tree, columns):
        before = node.args.get(argument)
        node.set(argument, value)
        text = tree.sql(dialect)
        node.set(argument, before)
        if text != original and text not in texts:
            texts.add(text)
            yield text
        if len(texts) == MOST_MUTANTS:
            return


def _changes(tree: exp.Expression, columns: Columns) -> Iterator[Change]:
    for node in list(tree.walk()):
        for kind, clauses in _WITHOUT.items():
            if isinstance(node, kind):
                yield from ((node, clause, None) for clause in clauses if node.args.get(clause))
        yield from _other_kinds(node)
        yield from _other_values(node)
        if isinstance(node, exp.Column) and _is_seen(node):
            yield from _other_columns(node, tree, columns)


def _other_kinds(node: exp.Expression) -> Iterator[Change]:
    is_assignment = isinstance(node, exp.EQ) and isinstance(node.parent, exp.Update) and node.arg_key == "expressions"
    if node.parent is None or is_assignment:
        return
    for kind in _INSTEAD.get(type(node), ()):
        if _BOUNDS.get(kind) is type(node) and not isinstance(node.expression, exp.Literal):
            continue  # that anything equals a computed value is chance
        yield _instead_of(node, kind(**{name: _copied(value) for name, value in node.args.items()}))
    if isinstance(node, exp.Connector):
        yield _instead_of(node, node.left.copy())
        yield _instead_of(node, node.right.copy())
    if isinstance(node, exp.DPipe):
        yield _instead_of(node, node.this.copy())
    if isinstance(node, exp.Upper | exp.Lower | exp.Length) and isinstance(node.parent, exp.Select | exp.Alias):
        yield _instead_of(node, node.this.copy())


def _other_values(node: exp.Expression) -> Iterator[Change]:
    if isinstance(node, exp.Where):
        yield node, "this", exp.Not(this=exp.Paren(this=node.this.copy()))
    elif isinstance(node, exp.Count):
        if isinstance(node.this, exp.Distinct):
            yield node, "this", node.this.expressions[0].copy()
        yield _instead_of(node, exp.Min(this=exp.Literal.number(1)))
    elif isinstance(node, exp.Ordered) and _order_counts(node):
        yield node, "desc", not node.args.get("desc")
    elif isinstance(node, exp.Join) and node.side == "LEFT":
        yield node, "side", None
    elif isinstance(node, exp.Union) and type(node) is exp.Union:
        yield node, "distinct", not node.args.get("distinct")
    elif isinstance(node, exp.In) and len(node.expressions) > 1:
        yield node, "expressions", [value.copy() for value in node.expressions[:-1]]
    elif isinstance(node, exp.Literal) and not node.is_string and _is_compared(node):
        yield _instead_of(node, exp.Literal.number(int(node.name) + 1))


def _copied(value: object) -> object:
    if isinstance(value, list):
        return [part.copy() if isinstance(part, exp.Expression) else part for part in value]
    return value.copy() if isinstance(value, exp.Expression) else value


def _instead_of(node: exp.Expression, other: exp.Expression) -> Change:
    """The change that puts one node in the place of another."""
    parent, argument = node.parent, str(node.arg_key)
    if node.index is None:
        return parent, argument, other
    values = list(parent.args[argument])
    values[node.index] = other
    return parent, argument, values


def _is_compared(node: exp.Literal) -> bool:
    """A whole number that something is compared with, or how many rows there are to be."""
    return node.name.isdigit() and isinstance(node.parent, exp.Predicate | exp.Limit | exp.Between)


def _order_counts(node: exp.Ordered) -> bool:
    """Whether the order is of the result, or decides which rows a LIMIT leaves, or is a window's."""
    query = node.parent.parent if node.parent is not None else None
    is_outermost = query is not None and query.parent is None
    return is_outermost or query is None or bool(query.args.get("limit")) or isinstance(query, exp.Window)


def _is_seen(column: exp.Column) -> bool:
    """Whether a wrong column would show: in a result or a condition with a value, not in COUNT(a) or a join."""
    parent = column.parent
    if isinstance(parent, exp.Count) or column.find_ancestor(exp.Group, exp.Join):
        return False
    if isinstance(parent, exp.Binary):
        return not (isinstance(parent.this, exp.Column) and isinstance(parent.expression, exp.Column))
    query = column.find_ancestor(exp.Select)
    return query is not None and query.parent is None


def _other_columns(column: exp.Column, tree: exp.Expression, columns: Columns) -> Iterator[Change]:
    """The column after it in its table."""
    tables = {table.alias_or_name.lower(): table.name.lower() for table in tree.find_all(exp.Table)}
    places = [tables.get(column.table.lower(), "")] if column.table else list(tables.values())
    for table in places:
        names = columns.get(table, ())
        place = next((place for place, name in enumerate(names) if name.lower() == column.name.lower()), None)
        if place is not None and len(names) > 1:
            other = column.copy()
            other.set("this", exp.to_identifier(names[(place + 1) % len(names)]))
            yield _instead_of(column, other)
            return


def constants(tree: exp.Expression) -> dict[str, list[int | float | str]]:
    """The values that a statement compares its columns with, by column name in lower case.

    >>> import sqlglot
    >>> constants(sqlglot.parse_one("SELECT a FROM t WHERE b > 4 AND c LIKE '%x%' AND d IN ('p', 'q')"))
    {'d': ['p', 'q'], 'b': [4], 'c': ['x']}
    """
    values: dict[str, list[int | float | str]] = {}
    for predicate in tree.find_all(exp.Predicate, exp.Between):
        column = predicate.find(exp.Column)
        literals = [part for part in predicate.args.values() for part in (part if isinstance(part, list) else [part])]
        for literal in literals:
            if column is not None and isinstance(literal, exp.Literal):
                values.setdefault(column.name.lower(), []).append(_value(literal))
    return values


def _value(literal: exp.Literal) -> int | float | str:
    if literal.is_string:
        return str(literal.name).strip("%").replace("%", " ").replace("_", "x") or "x"
    return int(literal.name) if literal.name.isdigit() else float(literal.name)


def equal_columns(tree: exp.Expression) -> set[tuple[str, str]]:
    """Pairs of column names that a statement joins by."""
    pairs = ((node.this, node.expression) for node in tree.find_all(exp.EQ))
    return {
        (one.name.lower(), other.name.lower())
        for one, other in pairs
        if isinstance(one, exp.Column) and isinstance(other, exp.Column)
    }
