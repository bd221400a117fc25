"""200 rows of our own in the shape of gretelai/synthetic_text_to_sql: data in the schema, mixed dialects, changes."""

from __future__ import annotations

from collections.abc import Iterator

Row = dict[str, str | int]

DOMAINS = {  # table -> (what a row has: a name, a kind, an amount), kinds
    "farms": (("farm", "crop", "tonnes"), ("wheat", "olives", "maize")),
    "museums": (("museum", "city", "visitors"), ("Lyon", "Porto", "Graz")),
    "wells": (("well", "field", "barrels"), ("Brent", "Troll", "Ekofisk")),
    "trials": (("trial", "phase", "patients"), ("one", "two", "three")),
    "satellites": (("satellite", "orbit", "mass_kg"), ("low", "medium", "high")),
    "schools": (("school", "district", "pupils"), ("North", "South", "Harbour")),
    "vessels": (("vessel", "flag", "crew"), ("Malta", "Panama", "Norway")),
    "grants": (("grant_name", "field", "euros"), ("physics", "botany", "law")),
    "buses": (("bus", "depot", "seats"), ("East", "West", "Old Mill")),
    "films": (("film", "genre", "minutes"), ("drama", "comedy", "noir")),
    "parks": (("park", "country", "hectares"), ("Chile", "Kenya", "Japan")),
    "clinics": (("clinic", "region", "beds"), ("Alps", "Coast", "Plain")),
    "mines": (("mine", "metal", "ounces"), ("gold", "tin", "zinc")),
    "courts": (("court", "state", "cases"), ("Ohio", "Utah", "Iowa")),
    "bridges": (("bridge", "river", "metres"), ("Rhine", "Seine", "Tiber")),
    "bakeries": (("bakery", "street", "loaves"), ("Elm", "Oak", "Ash")),
    "turbines": (("turbine", "maker", "kilowatts"), ("Nordex", "Vestas", "Enercon")),
    "auctions": (("lot", "artist", "price"), ("Klee", "Miro", "Goya")),
    "reefs": (("reef", "ocean", "species"), ("Indian", "Pacific", "Red Sea")),
    "teams": (("team", "league", "points"), ("first", "second", "third")),
}
NAMES = ("Alder", "Birch", "Cedar", "Dogwood", "Elder", "Fir")


def rows() -> Iterator[Row]:
    """Ten rows for each domain: a schema with its data, a question and SQL, in several dialects."""
    for number, (table, ((name, kind, amount), kinds)) in enumerate(DOMAINS.items()):
        for place, (schema, prompt, sql) in enumerate(_of_domain(table, name, kind, amount, kinds, number)):
            yield {
                "id": 10 * number + place + 1,
                "domain": table,
                "sql_complexity": "basic SQL",
                "sql_task_type": "analytics and reporting"
                if sql.startswith(("SELECT", "WITH"))
                else "data manipulation",
                "sql_prompt": prompt,
                "sql_context": schema,
                "sql": sql,
                "sql_explanation": f"It reads or changes {table}.",
            }


def _of_domain(
    table: str, name: str, kind: str, amount: str, kinds: tuple[str, ...], number: int
) -> Iterator[tuple[str, str, str]]:
    amounts = [(17 * (number + 3) * (place + 2)) % 97 + 10 for place in range(len(NAMES))]
    some = amounts[2]
    values = ", ".join(
        f"({place + 1}, '{word}', '{kinds[place % 3]}', {amounts[place]}, '202{place % 4}-0{place + 1}-15')"
        for place, word in enumerate(NAMES)
    )
    plain = (
        f"CREATE TABLE {table} (id INT, {name} VARCHAR(20), {kind} VARCHAR(20), {amount} INT, opened DATE); "
        f"INSERT INTO {table} (id, {name}, {kind}, {amount}, opened) VALUES {values};"
    )
    short = ", ".join(f"('{word}', '{kinds[place % 3]}', {amounts[place]})" for place, word in enumerate(NAMES))
    serial = (
        f"CREATE TABLE {table} (id SERIAL PRIMARY KEY, {name} TEXT, {kind} TEXT, {amount} INT); "
        f"INSERT INTO {table} ({name}, {kind}, {amount}) VALUES {short}; "
        f"CREATE TABLE {table}_notes (note_id SERIAL PRIMARY KEY, owner INT REFERENCES {table}(id), note TEXT); "
        f"INSERT INTO {table}_notes (owner, note) VALUES (1, 'new roof'), (1, 'sold'), (3, 'fire'), (4, 'prize');"
    )
    of_kind = ", ".join(f"'{value}'" for value in kinds)
    auto = (
        f"CREATE TABLE `{table}` (`id` INT NOT NULL AUTO_INCREMENT, `{name}` VARCHAR(20), `{kind}` ENUM({of_kind}), "
        f"`{amount}` INT UNSIGNED, PRIMARY KEY (`id`), KEY `by_kind` (`{kind}`)) ENGINE=InnoDB; "
        f"INSERT INTO `{table}` (`{name}`, `{kind}`, `{amount}`) VALUES {short};"
    )
    server = (
        f"CREATE TABLE {table} (id INT IDENTITY(1,1) PRIMARY KEY, {name} NVARCHAR(20), {kind} NVARCHAR(20), "
        f"{amount} INT); INSERT INTO {table} ({name}, {kind}, {amount}) VALUES {short};"
    )
    yield (
        plain,
        f"What is the total of {amount} per {kind} in {table}?",
        f"SELECT {kind}, SUM({amount}) FROM {table} GROUP BY {kind};",
    )
    yield (
        plain,
        f"Which {table} have more {amount} than {some}?",
        f"SELECT {name} FROM {table} WHERE {amount} > {some};",
    )
    yield (
        plain,
        f"How much {amount} did {table} that opened in 2021 have on average?",
        f"SELECT AVG({amount}) FROM {table} WHERE EXTRACT(YEAR FROM opened) = 2021;",
    )
    yield (
        plain,
        f"List the {table} opened within the last month.",
        f"SELECT {name} FROM {table} WHERE opened >= DATE_SUB(CURDATE(), INTERVAL 1 MONTH);",
    )
    yield (
        serial,
        f"Show every note with the name of its {name} in {table}.",
        f"SELECT t.{name}, n.note FROM {table} t JOIN {table}_notes n ON n.owner = t.id;",
    )
    yield (
        serial,
        f"For each of the {table}, which note came last?",
        f"SELECT t.{name}, l.note FROM {table} t, LATERAL (SELECT note FROM {table}_notes n WHERE n.owner = t.id "
        "ORDER BY note_id DESC LIMIT 1) l;",
    )
    yield (
        auto,
        f"How many {table} have the {kind} {kinds[0]}?",
        f"SELECT COUNT(*) FROM `{table}` WHERE `{kind}` = '{kinds[0]}';",
    )
    yield (
        server,
        f"Name the two {table} with the most {amount}, with their {kind}.",
        f"SELECT TOP 2 {name} + N', ' + {kind} FROM {table} ORDER BY {amount} DESC;",
    )
    yield (
        plain,
        f"Raise the {amount} of all {table} whose {kind} is {kinds[1]} by 5.",
        f"UPDATE {table} SET {amount} = {amount} + 5 WHERE {kind} = '{kinds[1]}';",
    )
    if number % 2:
        yield (
            plain,
            f"Remove the {table} with less {amount} than {some}.",
            f"DELETE FROM {table} WHERE {amount} < {some};",
        )
    else:
        yield (
            plain,
            f"Add {name} Gum, {kind} {kinds[2]}, with {some} {amount}, opened on 2 May 2024, to {table}.",
            f"INSERT INTO {table} (id, {name}, {kind}, {amount}, opened) VALUES (7, 'Gum', '{kinds[2]}', {some}, "
            "'2024-05-02');",
        )


def wrong_replies(sql: str) -> list[str]:
    """Replies that no row's SQL is: each gets less than full marks whatever the row."""
    return ["SELECT 1", "SELECT 'Alder'", "It is not known.", f"{sql} WHERE 0"]
