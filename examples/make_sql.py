"""Write sql.jsonl: small text-to-SQL questions over twelve everyday SQLite databases, every answer checked."""

# ruff: noqa: S608 - every part of the SQL is written in this file

import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Each pair of lines is the wordings of one question, separated by " | ", and the SQL that answers it.
# The fields in braces come from Schema.words().
TEMPLATES = """
How many {items} are there? | Count all the {items}. | What is the total number of {items}?
SELECT COUNT(*) FROM {table}
List the {label}s of all {items} in alphabetical order. | Show every {item} {label}, sorted from A to Z.
SELECT {label} FROM {table} ORDER BY {label}
What is the {label} of the {big_top}? | Find the {label} of the {big_top}. | Give me the {label} of the {big_top}.
SELECT {label} FROM {table} ORDER BY {big} DESC LIMIT 1
Show the {label} of the {big_low}. | What is the {label} of the {big_low}? | Tell me the {label} of the {big_low}.
SELECT {label} FROM {table} ORDER BY {big} LIMIT 1
Find the {label} of the {mid_top}. | What is the {label} of the {mid_top}?
SELECT {label} FROM {table} ORDER BY {mid} DESC LIMIT 1
List the {label}s of the three {items} with the highest {big_noun}, highest first. | Which three {items} have the \
highest {big_noun}? Show their {label}s, highest first.
SELECT {label} FROM {table} ORDER BY {big} DESC LIMIT 3
Show the {label}s and {mid_noun}s of all {items}, from the highest {mid_noun} to the lowest. | List every {item} \
{label} with the {mid_noun}, highest {mid_noun} first.
SELECT {label}, {mid} FROM {table} ORDER BY {mid} DESC
What is the average {big_noun} of all {items}? | Compute the mean {big_noun} over all {items}.
SELECT AVG({big}) FROM {table}
What is the total {big_noun} of all {items}? | Add up the {big_noun} of every {item}.
SELECT SUM({big}) FROM {table}
What is the highest {big_noun} of any {item}? | Find the maximum {big_noun} among the {items}.
SELECT MAX({big}) FROM {table}
What is the lowest {mid_noun} of any {item}? | Find the minimum {mid_noun} among the {items}.
SELECT MIN({mid}) FROM {table}
List the {label}s of {items} {big_over}. | What are the {label}s of the {items} {big_over}?
SELECT {label} FROM {table} WHERE {big} > {big_high}
How many {items} {big_under} are there? | Count the {items} {big_under}. | Find the number of {items} {big_under}.
SELECT COUNT(*) FROM {table} WHERE {big} < {big_small}
Show the {label}s of {items} {big_between}. | Give me the {label}s of all {items} {big_between}.
SELECT {label} FROM {table} WHERE {big} BETWEEN {big_small} AND {big_high}
How many {items} {mid_over} are there? | What is the number of {items} {mid_over}? | Count the {items} {mid_over}.
SELECT COUNT(*) FROM {table} WHERE {mid} > {mid_high}
Find the {label}s of {items} {mid_under}. | Give the {label}s of the {items} {mid_under}.
SELECT {label} FROM {table} WHERE {mid} < {mid_small}
List the {label}s of {items} {in_cat}. | What are the {label}s of the {items} {in_cat}? | Give me the {label} of \
each {item} {in_cat}.
SELECT {label} FROM {table} WHERE {cat} = '{cat_1}'
How many {items} {in_cat_2} are there? | Count the {items} {in_cat_2}. | Find the number of {items} {in_cat_2}.
SELECT COUNT(*) FROM {table} WHERE {cat} = '{cat_2}'
Show the {label}s of {items} {in_either}. | Give me the {label}s of all {items} {in_either}.
SELECT {label} FROM {table} WHERE {cat} IN ('{cat_1}', '{cat_2}')
List the {label}s of {items} that are not {in_cat}. | What are the {label}s of the {items} that are not {in_cat}?
SELECT {label} FROM {table} WHERE {cat} <> '{cat_1}'
List the {label}s of {items} {in_cat} {big_over_small}. | Find the {label}s of all {items} {in_cat} {big_over_small}.
SELECT {label} FROM {table} WHERE {cat} = '{cat_1}' AND {big} > {big_small}
What is the average {mid_noun} of {items} {in_cat_2}? | Find the mean {mid_noun} of the {items} {in_cat_2}.
SELECT AVG({mid}) FROM {table} WHERE {cat} = '{cat_2}'
How many {items} are there for each {cat}? | Show each {cat} and its number of {items}. | Count the {items} per {cat}.
SELECT {cat}, COUNT(*) FROM {table} GROUP BY {cat}
What is the average {big_noun} of the {items} for each {cat}? | Show each {cat} with the mean {big_noun} of its {items}.
SELECT {cat}, AVG({big}) FROM {table} GROUP BY {cat}
For each {cat}, what is the highest {mid_noun} of its {items}? | Show every {cat} with the maximum {mid_noun} of its \
{items}.
SELECT {cat}, MAX({mid}) FROM {table} GROUP BY {cat}
List the different {cats} of the {items} in alphabetical order. | Show each distinct {item} {cat} once, from A to Z.
SELECT DISTINCT {cat} FROM {table} ORDER BY {cat}
How many different {cats} do the {items} have? | Count the distinct {cats} among the {items}.
SELECT COUNT(DISTINCT {cat}) FROM {table}
Which {cats} have more than two {items}? | Find the {cats} with more than two {items}.
SELECT {cat} FROM {table} GROUP BY {cat} HAVING COUNT(*) > 2
Which {items} have a {label} that starts with '{start}'? | List the {item} {label}s that begin with '{start}'.
SELECT {label} FROM {table} WHERE {label} LIKE '{start}%'
Show the {label}s of {items} {is_null}. | List the {label}s of all {items} {is_null}.
SELECT {label} FROM {table} WHERE {null} IS NULL
How many {items} {not_null} are there? | Count the {items} {not_null}.
SELECT COUNT(*) FROM {table} WHERE {null} IS NOT NULL
List the {label}s of {items} whose {big_noun} is above the average. | Which {items} have a higher {big_noun} than the \
average? Show their {label}s.
SELECT {label} FROM {table} WHERE {big} > (SELECT AVG({big}) FROM {table})
What is the {big_noun} of {pick}? | Look up the {big_noun} of {pick}. | Tell me the {big_noun} of {pick}.
SELECT {big} FROM {table} WHERE {label} = '{pick}'
What are the {cat} and the {mid_noun} of {other}? | Show the {cat} and {mid_noun} of {other}.
SELECT {cat}, {mid} FROM {table} WHERE {label} = '{other}'
Show the {label} of each {item} together with the name of the {own}. | List every {item} {label} with the {own} name.
SELECT {table}.{label}, {owns}.name FROM {table} JOIN {owns} ON {table}.{own}_id = {owns}.id
List the {label}s of {items} {by_1}. | What are the {label}s of {items} {by_1}? | Give the {label}s of {items} {by_1}.
SELECT {table}.{label} FROM {table} JOIN {owns} ON {table}.{own}_id = {owns}.id WHERE {owns}.name = '{own_1}'
How many {items} {by_2} are there? | Count the {items} {by_2}. | Find the number of {items} {by_2}.
SELECT COUNT(*) FROM {table} JOIN {owns} ON {table}.{own}_id = {owns}.id WHERE {owns}.name = '{own_2}'
What is the average {big_noun} of the {items} {by_1}? | Find the mean {big_noun} of {items} {by_1}.
SELECT AVG({table}.{big}) FROM {table} JOIN {owns} ON {table}.{own}_id = {owns}.id WHERE {owns}.name = '{own_1}'
For each {own} with at least one {item}, show the name and the number of {items}. | Count the {items} per {own} name, \
leaving out {owns} without {items}.
SELECT {owns}.name, COUNT(*) FROM {table} JOIN {owns} ON {table}.{own}_id = {owns}.id GROUP BY {owns}.name
Which {owns} have more than two {items}? Show their names. | Find the names of {owns} with more than two {items}.
SELECT {owns}.name FROM {table} JOIN {owns} ON {table}.{own}_id = {owns}.id GROUP BY {owns}.name HAVING COUNT(*) > 2
Which {owns} have no {items}? Show their names. | List the names of {owns} without any {items}.
SELECT name FROM {owns} WHERE id NOT IN (SELECT {own}_id FROM {table})
What is the name of the {own} of {pick}? | Find the name of the {own} for the {item} {pick}.
SELECT {owns}.name FROM {table} JOIN {owns} ON {table}.{own}_id = {owns}.id WHERE {table}.{label} = '{pick}'
"""


@dataclass(frozen=True)
class Schema:
    """One database: its tables, the words the templates need, and questions of its own."""

    db_id: str
    tables: str  # "table: columns" lines, each followed by rows split by "; " ("-" is NULL); ids are added from 1
    item: str  # singular | plural (the table the templates ask about) | label column (unique) | a first letter of it
    big: str  # column | noun | highest item | lowest item | over {} | under {} | between {} and {} | small | high
    mid: str  # the same for a second number column
    cat: str  # column | plural | modifier with {} | two of its values
    null: str  # column that may be NULL | modifier where it is NULL | modifier where it is not
    own: str  # owner | owners (its table) | modifier with {}
    extra: str  # a question line and an SQL line, again and again

    def statements(self) -> tuple[list[str], list[str]]:
        """Return the CREATE TABLE and the INSERT statements."""
        creates, inserts = [], []
        for name, columns, body in re.findall(r"^(\w+): (.+)\n((?:(?!\w+: ).+\n)+)", self.tables, re.MULTILINE):
            kinds = [column.split()[1] for column in columns.split(", ")]
            rows = [row.split(", ") for row in " ".join(body.split()).rstrip(";").split("; ")]
            values = [[literal(cell, kind) for cell, kind in zip(row, kinds, strict=True)] for row in rows]
            lines = [f"({', '.join([str(number), *row])})" for number, row in enumerate(values, 1)]
            creates.append(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, {columns})")
            inserts.append(f"INSERT INTO {name} VALUES {', '.join(lines)}")
        return creates, inserts

    def words(self, db: sqlite3.Connection) -> dict[str, str]:
        """Return every field that the templates use."""
        words = dict(zip(("item", "items", "label", "start"), self.item.split(" | "), strict=True))
        words |= {"table": words["items"]}
        for name, text in (("big", self.big), ("mid", self.mid)):
            column, noun, top, low, over, under, between, small, high = text.split(" | ")
            words |= {name: column, f"{name}_noun": noun, f"{name}_top": top, f"{name}_low": low}
            words |= {f"{name}_over": over.format(high), f"{name}_over_small": over.format(small)}
            words |= {f"{name}_under": under.format(small), f"{name}_between": between.format(small, high)}
            words |= {f"{name}_small": small, f"{name}_high": high}
        column, plural, within, first, second = self.cat.split(" | ")
        words |= {"cat": column, "cats": plural, "cat_1": first, "cat_2": second, "in_cat": within.format(first)}
        words |= {"in_cat_2": within.format(second), "in_either": within.format(f"{first} or {second}")}
        words |= dict(zip(("null", "is_null", "not_null"), self.null.split(" | "), strict=True))
        owner, owners, by = self.own.split(" | ")
        names = [name for (name,) in db.execute(f"SELECT name FROM {owners} ORDER BY id LIMIT 2")]
        words |= {"own": owner, "owns": owners, "own_1": names[0], "own_2": names[1]}
        words |= {"by_1": by.format(names[0]), "by_2": by.format(names[1])}
        labels = [label for (label,) in db.execute(f"SELECT {words['label']} FROM {words['table']} ORDER BY id")]
        return words | {"pick": labels[3], "other": labels[5]}


SCHEMAS = (
    Schema(
        db_id="library",
        tables="""
authors: name TEXT, country TEXT, born INTEGER
Ana Ruiz, Spain, 1951; Tom Birch, Ireland, 1964; Mei Tanaka, Japan, 1978; Omar Said, Egypt, 1959;
Eva Holm, Norway, 1983; Luc Morel, France, 1947
books: title TEXT, author_id INTEGER REFERENCES authors(id), genre TEXT, pages INTEGER, rating REAL, shelf TEXT
Salt Road, 1, fantasy, 412, 4.6, A1; Paper Moon, 1, romance, 238, 3.9, A2; The Iron King, 2, history, 520, 4.2, B1;
Moon Harbour, 2, fantasy, 305, 4.8, -; Quiet Rivers, 3, poetry, 96, 4.1, C1; Garden Paths, 3, history, 344, 3.5, B2;
The Last Train, 3, mystery, 271, 4.4, -; Silver Keys, 4, mystery, 198, 3.7, C2; Star Maps, 4, history, 388, 4.7, -
loans: book_id INTEGER REFERENCES books(id), member TEXT, days INTEGER
1, Kim, 14; 3, Raj, 21; 4, Kim, 7; 7, Lena, 10; 4, Paul, 12; 1, Lena, 18; 9, Kim, 5
""",
        item="book | books | title | S",
        big="pages | page count | longest book | shortest book | with more than {} pages | with fewer than {} pages | "
        "with between {} and {} pages | 250 | 380",
        mid="rating | rating | best rated book | worst rated book | rated above {} | rated below {} | "
        "rated between {} and {} | 4.0 | 4.5",
        cat="genre | genres | in the {} genre | fantasy | history",
        null="shelf | without a shelf | with a shelf",
        own="author | authors | written by {}",
        extra="""
Which authors were born after 1960? Show their names.
SELECT name FROM authors WHERE born > 1960
How many loans has each member made?
SELECT member, COUNT(*) FROM loans GROUP BY member
Which members have borrowed Moon Harbour?
SELECT loans.member FROM loans JOIN books ON loans.book_id = books.id WHERE books.title = 'Moon Harbour'
List the titles of books that have never been borrowed.
SELECT title FROM books WHERE id NOT IN (SELECT book_id FROM loans)
What is the title of the book with the longest loan in days?
SELECT books.title FROM loans JOIN books ON loans.book_id = books.id ORDER BY loans.days DESC LIMIT 1
""",
    ),
    Schema(
        db_id="clinic",
        tables="""
doctors: name TEXT, specialty TEXT, hired INTEGER
Dr Stone, skin, 2004; Dr Vega, heart, 2011; Dr Osei, children, 2018; Dr Lind, heart, 2015; Dr Park, eyes, 2020;
Dr Marsh, bones, 2009
patients: name TEXT, doctor_id INTEGER REFERENCES doctors(id), city TEXT, visits INTEGER, age INTEGER, phone TEXT
Nora Lake, 1, Leeds, 4, 34, 555-0101; Ben Frost, 2, York, 9, 67, -; Carla Diaz, 2, Leeds, 12, 71, 555-0103;
Dev Mehta, 3, York, 2, 8, 555-0104; Ella Wood, 3, Hull, 3, 5, -; Finn Byrne, 3, Leeds, 6, 11, 555-0106;
Gina Rossi, 4, Hull, 8, 58, 555-0107; Hugo Klein, 1, Leeds, 1, 29, -; Iris Novak, 5, York, 5, 45, 555-0109
bills: patient_id INTEGER REFERENCES patients(id), reason TEXT, amount INTEGER
1, checkup, 60; 2, surgery, 900; 3, scan, 240; 3, checkup, 65; 6, vaccine, 30; 7, scan, 260; 9, glasses, 150
""",
        item="patient | patients | name | N",
        big="visits | visit count | patient with the most visits | patient with the fewest visits | "
        "with more than {} visits | with fewer than {} visits | with between {} and {} visits | 3 | 8",
        mid="age | age | oldest patient | youngest patient | older than {} | younger than {} | "
        "aged between {} and {} | 18 | 60",
        cat="city | cities | from {} | Leeds | York",
        null="phone | without a phone number | with a phone number",
        own="doctor | doctors | treated by {}",
        extra="""
Which doctors work on the heart? Show their names.
SELECT name FROM doctors WHERE specialty = 'heart'
What is the total amount billed for each reason?
SELECT reason, SUM(amount) FROM bills GROUP BY reason
How much has Carla Diaz been billed in total?
SELECT SUM(bills.amount) FROM bills JOIN patients ON bills.patient_id = patients.id WHERE patients.name = 'Carla Diaz'
Show the names of patients who have no bills.
SELECT name FROM patients WHERE id NOT IN (SELECT patient_id FROM bills)
In which year was the first doctor hired?
SELECT MIN(hired) FROM doctors
""",
    ),
    Schema(
        db_id="bakery",
        tables="""
bakers: name TEXT, shift TEXT, hourly_pay INTEGER
Rosa, morning, 17; Pavel, night, 21; Amina, morning, 18; Jonas, evening, 16; Lucy, night, 20; Marco, evening, 15
products: name TEXT, baker_id INTEGER REFERENCES bakers(id), category TEXT, sold INTEGER, price REAL, topping TEXT
Rye Loaf, 1, bread, 85, 3.2, seeds; Baguette, 1, bread, 140, 1.9, -; Croissant, 2, pastry, 160, 1.6, -;
Carrot Cake, 3, cake, 24, 4.5, nuts; Apple Danish, 2, pastry, 70, 2.4, sugar; Lemon Cake, 3, cake, 31, 4.2, sugar;
Soda Bread, 4, bread, 52, 2.8, -; Chocolate Cake, 3, cake, 55, 4.8, cream; Cinnamon Roll, 5, pastry, 98, 2.1, sugar
""",
        item="product | products | name | C",
        big="sold | sales figure | best selling product | worst selling product | with more than {} sold | "
        "with fewer than {} sold | with between {} and {} sold | 50 | 95",
        mid="price | price | most expensive product | cheapest product | that cost more than {} | "
        "that cost less than {} | that cost between {} and {} | 2.0 | 4.0",
        cat="category | categories | in the {} category | cake | bread",
        null="topping | without a topping | with a topping",
        own="baker | bakers | made by {}",
        extra="""
Which bakers work the night shift? Show their names.
SELECT name FROM bakers WHERE shift = 'night'
What is the average hourly pay for each shift?
SELECT shift, AVG(hourly_pay) FROM bakers GROUP BY shift
Which products contain the word Cake in their name?
SELECT name FROM products WHERE name LIKE '%Cake%'
What is the total income of each category, that is the price times the number sold?
SELECT category, SUM(price * sold) FROM products GROUP BY category
List the names of products made by bakers on the morning shift.
SELECT products.name FROM products JOIN bakers ON products.baker_id = bakers.id WHERE bakers.shift = 'morning'
""",
    ),
    Schema(
        db_id="airline",
        tables="""
planes: name TEXT, seats INTEGER, built INTEGER
Blue Heron, 180, 2012; Red Kite, 150, 2008; Grey Goose, 220, 2019; White Stork, 90, 2003; Black Swift, 120, 2016;
Gold Finch, 60, 1999
flights: code TEXT, plane_id INTEGER REFERENCES planes(id), destination TEXT, distance INTEGER, fare INTEGER, gate TEXT
GT101, 1, Lisbon, 1580, 120, A4; GT102, 2, Oslo, 1150, 95, -; GT205, 3, Cairo, 3510, 310, B1;
GT210, 3, Lisbon, 1610, 135, A2; GT318, 1, Rome, 1430, 110, -; GT320, 4, Oslo, 1170, 88, C3;
GX401, 3, Cairo, 3490, 295, B2; GX455, 5, Rome, 1445, 150, C1; GX500, 2, Lisbon, 1595, 99, -
bookings: flight_id INTEGER REFERENCES flights(id), passenger TEXT, bags INTEGER
1, Ines, 1; 3, Karl, 2; 3, Yuki, 3; 4, Ines, 0; 6, Bola, 1; 8, Karl, 2; 9, Yuki, 1
""",
        item="flight | flights | code | GX",
        big="distance | distance | longest flight | shortest flight | longer than {} km | shorter than {} km | "
        "between {} and {} km long | 1430 | 1600",
        mid="fare | fare | most expensive flight | cheapest flight | that cost more than {} | "
        "that cost less than {} | that cost between {} and {} | 100 | 200",
        cat="destination | destinations | to {} | Lisbon | Oslo",
        null="gate | without a gate | with a gate",
        own="plane | planes | flown by the plane {}",
        extra="""
Which planes have at least 150 seats? Show their names.
SELECT name FROM planes WHERE seats >= 150
What is the name of the newest plane?
SELECT name FROM planes ORDER BY built DESC LIMIT 1
How many bags has each passenger booked in total?
SELECT passenger, SUM(bags) FROM bookings GROUP BY passenger
Which passengers have booked flight GT205?
SELECT bookings.passenger FROM bookings JOIN flights ON bookings.flight_id = flights.id WHERE flights.code = 'GT205'
Show the codes of flights that nobody has booked.
SELECT code FROM flights WHERE id NOT IN (SELECT flight_id FROM bookings)
""",
    ),
    Schema(
        db_id="cinema",
        tables="""
halls: name TEXT, seats INTEGER, floor INTEGER
Red Hall, 220, 1; Blue Hall, 140, 1; Star Hall, 90, 2; Attic, 40, 3; Green Hall, 160, 2; Studio, 60, 3
films: title TEXT, hall_id INTEGER REFERENCES halls(id), language TEXT, tickets INTEGER, minutes INTEGER, award TEXT
Night Ferry, 1, English, 640, 118, acting; Le Jardin, 2, French, 210, 97, -; Snow Country, 3, Japanese, 180, 134, -;
The Big Spoon, 1, English, 820, 102, -; Petit Nuage, 2, French, 260, 88, music; Red Lantern, 5, Japanese, 330, 125, -;
Two Cups, 4, English, 75, 91, -; The Clockmaker, 1, English, 540, 141, sound; La Marche, 3, French, 145, 110, -
""",
        item="film | films | title | The",
        big="tickets | ticket count | film with the most tickets sold | film with the fewest tickets sold | "
        "with more than {} tickets sold | with fewer than {} tickets sold | "
        "with between {} and {} tickets sold | 200 | 500",
        mid="minutes | running time | longest film | shortest film | longer than {} minutes | shorter than {} "
        "minutes | between {} and {} minutes long | 100 | 120",
        cat="language | languages | in {} | French | English",
        null="award | without an award | with an award",
        own="hall | halls | shown in the {}",
        extra="""
How many seats do all halls have together?
SELECT SUM(seats) FROM halls
How many halls are there on each floor?
SELECT floor, COUNT(*) FROM halls GROUP BY floor
List the names of the halls from the most seats to the fewest.
SELECT name FROM halls ORDER BY seats DESC
Show the titles of films shown on floor 1.
SELECT films.title FROM films JOIN halls ON films.hall_id = halls.id WHERE halls.floor = 1
Which films are shown in halls with fewer than 100 seats? Show their titles.
SELECT films.title FROM films JOIN halls ON films.hall_id = halls.id WHERE halls.seats < 100
""",
    ),
    Schema(
        db_id="school",
        tables="""
teachers: name TEXT, subject TEXT, years INTEGER
Ms Hale, maths, 12; Mr Duarte, art, 7; Mrs Okoro, science, 21; Mr Blom, music, 3; Ms Sato, history, 15;
Mr Quinn, sport, 9
students: name TEXT, teacher_id INTEGER REFERENCES teachers(id), club TEXT, score INTEGER, absences INTEGER, bus TEXT
Adam, 1, chess, 78, 3, B2; Bella, 1, drama, 91, 10, -; Chen, 2, chess, 66, 7, B1; Dina, 3, robotics, 95, 1, -;
Elif, 3, drama, 84, 4, B2; Farah, 3, chess, 59, 9, -; George, 4, choir, 73, 5, B3; Aisha, 5, robotics, 88, 2, B1;
Ivan, 1, drama, 70, 6, -; Alma, 2, choir, 81, 8, B3
""",
        item="student | students | name | A",
        big="score | score | student with the best score | student with the worst score | who scored more than {} | "
        "who scored less than {} | who scored between {} and {} | 72 | 85",
        mid="absences | absence count | student with the most absences | student with the fewest absences | "
        "with more than {} absences | with fewer than {} absences | with between {} and {} absences | 3 | 6",
        cat="club | clubs | in the {} club | chess | drama",
        null="bus | who do not take a bus | who take a bus",
        own="teacher | teachers | taught by {}",
        extra="""
Who teaches science?
SELECT name FROM teachers WHERE subject = 'science'
Which teachers have worked for more than 10 years? Show their names.
SELECT name FROM teachers WHERE years > 10
How many students take the bus B2?
SELECT COUNT(*) FROM students WHERE bus = 'B2'
What is the average score for each teacher with at least one student? Show the teacher name and the average.
SELECT teachers.name, AVG(students.score) FROM students JOIN teachers ON students.teacher_id = teachers.id \
GROUP BY teachers.name
Which students scored more than Adam? Show their names.
SELECT name FROM students WHERE score > (SELECT score FROM students WHERE name = 'Adam')
""",
    ),
    Schema(
        db_id="farm",
        tables="""
fields: name TEXT, soil TEXT, hectares REAL
North Field, clay, 4.5; Hill Field, sand, 2.0; River Field, loam, 6.5; Old Orchard, loam, 1.5; Mill Field, clay, 3.0;
Far Field, sand, 5.0
crops: name TEXT, field_id INTEGER REFERENCES fields(id), season TEXT, harvest INTEGER, price REAL, pest TEXT
Potato, 1, spring, 5200, 0.6, beetle; Carrot, 2, spring, 1800, 0.9, -; Pumpkin, 3, summer, 2600, 1.1, -;
Wheat, 3, autumn, 7400, 0.3, rust; Apple, 4, autumn, 3100, 1.4, moth; Tomato, 3, summer, 2200, 2.3, -;
Pea, 5, spring, 900, 1.8, -; Plum, 4, summer, 750, 2.6, moth; Cabbage, 1, autumn, 2900, 0.7, -
""",
        item="crop | crops | name | P",
        big="harvest | harvest | crop with the biggest harvest | crop with the smallest harvest | "
        "with a harvest above {} kg | with a harvest below {} kg | with a harvest between {} and {} kg | 2000 | 3000",
        mid="price | price | most expensive crop | cheapest crop | that cost more than {} per kg | "
        "that cost less than {} per kg | that cost between {} and {} per kg | 0.8 | 1.5",
        cat="season | seasons | planted in {} | spring | summer",
        null="pest | without a pest | with a pest",
        own="field | fields | grown in {}",
        extra="""
What is the total area of all fields in hectares?
SELECT SUM(hectares) FROM fields
Which fields have loam soil? Show their names.
SELECT name FROM fields WHERE soil = 'loam'
How many fields are there for each kind of soil?
SELECT soil, COUNT(*) FROM fields GROUP BY soil
Which crops suffer from moths? Show their names.
SELECT name FROM crops WHERE pest = 'moth'
List the names of crops grown on clay soil.
SELECT crops.name FROM crops JOIN fields ON crops.field_id = fields.id WHERE fields.soil = 'clay'
""",
    ),
    Schema(
        db_id="hotel",
        tables="""
rooms: name TEXT, floor INTEGER, beds INTEGER
Garden Suite, 1, 2; Sea Room, 2, 3; Tower Room, 4, 1; Family Room, 1, 6; Corner Room, 3, 4; Attic Room, 4, 5
guests: name TEXT, room_id INTEGER REFERENCES rooms(id), country TEXT, bill INTEGER, nights INTEGER, parking TEXT
Anders Berg, 1, Sweden, 640, 4, P1; Marta Silva, 2, Brazil, 390, 3, -; Kenji Mori, 3, Japan, 880, 7, -;
Lotte Visser, 2, Belgium, 260, 2, P2; Marie Dubois, 4, Belgium, 1120, 8, P3; Paulo Costa, 1, Brazil, 150, 1, -;
Sven Dahl, 2, Sweden, 720, 6, P4; Mio Abe, 5, Japan, 505, 5, -; Clara Nunes, 4, Brazil, 1340, 9, P5
""",
        item="guest | guests | name | M",
        big="bill | bill | guest with the biggest bill | guest with the smallest bill | with a bill above {} | "
        "with a bill below {} | with a bill between {} and {} | 400 | 800",
        mid="nights | stay length | guest with the longest stay | guest with the shortest stay | "
        "staying more than {} nights | staying fewer than {} nights | staying between {} and {} nights | 3 | 6",
        cat="country | countries | from {} | Brazil | Japan",
        null="parking | without a parking space | with a parking space",
        own="room | rooms | staying in the {}",
        extra="""
Which rooms are on floor 4? Show their names.
SELECT name FROM rooms WHERE floor = 4
What is the name of the room with the most beds?
SELECT name FROM rooms ORDER BY beds DESC LIMIT 1
How many beds are there on each floor?
SELECT floor, SUM(beds) FROM rooms GROUP BY floor
List the names of guests who sleep on floor 1.
SELECT guests.name FROM guests JOIN rooms ON guests.room_id = rooms.id WHERE rooms.floor = 1
What is the total bill for each country?
SELECT country, SUM(bill) FROM guests GROUP BY country
""",
    ),
    Schema(
        db_id="gym",
        tables="""
trainers: name TEXT, sport TEXT, wage INTEGER
Coach Lee, boxing, 26; Coach Ndiaye, yoga, 22; Coach Weber, rowing, 24; Coach Ortiz, yoga, 20; Coach Shah, dance, 23;
Coach Kaya, boxing, 28
members: name TEXT, trainer_id INTEGER REFERENCES trainers(id), plan TEXT, sessions INTEGER, age INTEGER, locker TEXT
Amy Cole, 1, gold, 48, 31, L1; Bruno Reis, 1, basic, 12, 24, -; Cathy Ng, 2, silver, 30, 45, L2;
Dario Conti, 2, gold, 52, 38, L3; Emil Svoboda, 3, basic, 8, 19, -; Freya Olsen, 2, silver, 27, 52, -;
Bianca Popa, 4, gold, 61, 29, L4; Hana Sykes, 1, basic, 15, 63, -; Basil Amin, 5, silver, 34, 41, L5
""",
        item="member | members | name | B",
        big="sessions | session count | member with the most sessions | member with the fewest sessions | "
        "with more than {} sessions | with fewer than {} sessions | with between {} and {} sessions | 20 | 40",
        mid="age | age | oldest member | youngest member | older than {} | younger than {} | "
        "aged between {} and {} | 30 | 50",
        cat="plan | plans | on the {} plan | gold | basic",
        null="locker | without a locker | with a locker",
        own="trainer | trainers | coached by {}",
        extra="""
Which trainers teach yoga? Show their names.
SELECT name FROM trainers WHERE sport = 'yoga'
What is the highest wage of any trainer?
SELECT MAX(wage) FROM trainers
List the different sports of the trainers from A to Z.
SELECT DISTINCT sport FROM trainers ORDER BY sport
How many members does each sport have? Show the sport and the number.
SELECT trainers.sport, COUNT(*) FROM members JOIN trainers ON members.trainer_id = trainers.id GROUP BY trainers.sport
Which members are older than Amy Cole? Show their names.
SELECT name FROM members WHERE age > (SELECT age FROM members WHERE name = 'Amy Cole')
""",
    ),
    Schema(
        db_id="warehouse",
        tables="""
suppliers: name TEXT, country TEXT, rating INTEGER
Alder Tools, Germany, 9; Bright Home, Poland, 7; Canal Paper, Poland, 8; Delta Toys, China, 6; Ember Light, Spain, 4;
Fjord Wood, Norway, 5
items: name TEXT, supplier_id INTEGER REFERENCES suppliers(id), section TEXT, quantity INTEGER, price REAL, expiry TEXT
Hammer, 1, tools, 120, 14.5, -; Screwdriver, 1, tools, 260, 6.9, -; Saw, 1, tools, 75, 19.0, -;
Candle, 2, home, 410, 2.5, 2027-03; Soap, 2, home, 530, 1.8, 2026-09; Notebook, 3, office, 640, 3.2, -;
Sticky Tape, 3, office, 300, 2.1, 2028-01; Lamp, 5, home, 60, 32.0, -; Stapler, 3, office, 95, 8.4, -
orders: item_id INTEGER REFERENCES items(id), customer TEXT, units INTEGER
1, Hotel Luna, 10; 4, Cafe Nord, 40; 5, Hotel Luna, 60; 6, City School, 150; 8, Cafe Nord, 6; 6, Hotel Luna, 25
""",
        item="item | items | name | S",
        big="quantity | quantity | item with the largest stock | item with the smallest stock | "
        "with more than {} in stock | with fewer than {} in stock | with between {} and {} in stock | 100 | 400",
        mid="price | price | most expensive item | cheapest item | that cost more than {} | "
        "that cost less than {} | that cost between {} and {} | 3.0 | 10.0",
        cat="section | sections | stored in the {} section | tools | office",
        null="expiry | without an expiry date | with an expiry date",
        own="supplier | suppliers | supplied by {}",
        extra="""
Which suppliers have a rating of at least 7? Show their names.
SELECT name FROM suppliers WHERE rating >= 7
How many suppliers are there in each country?
SELECT country, COUNT(*) FROM suppliers GROUP BY country
How many units has each customer ordered?
SELECT customer, SUM(units) FROM orders GROUP BY customer
Which customers ordered the Notebook?
SELECT orders.customer FROM orders JOIN items ON orders.item_id = items.id WHERE items.name = 'Notebook'
What is the total value of the stock, that is the quantity times the price of all items?
SELECT SUM(quantity * price) FROM items
""",
    ),
    Schema(
        db_id="music",
        tables="""
artists: name TEXT, country TEXT, formed INTEGER
The Lanterns, Canada, 1998; Nadia Blue, France, 2010; Low Tide, Australia, 2005; Dj Pepper, Brazil, 2014;
Ivory Hill, Canada, 1987; Kora Sisters, Mali, 2001
songs: title TEXT, artist_id INTEGER REFERENCES artists(id), style TEXT, plays INTEGER, seconds INTEGER, album TEXT
Slow Lights, 1, rock, 5400, 214, Harbour; Window Seat, 1, rock, 3100, 187, Harbour; Bleu Nuit, 2, jazz, 2700, 256, -;
Rain on Tin, 3, folk, 1900, 232, Shoreline; Salt Hair, 3, folk, 4200, 198, Shoreline; Hot Steps, 4, dance, 8800, 175, -;
Midnight Bus, 1, rock, 6100, 241, -; Sugar Drum, 4, dance, 7300, 163, -; Old Piano, 5, jazz, 1200, 305, Parlour;
Sea Glass, 3, folk, 2300, 221, Shoreline
""",
        item="song | songs | title | S",
        big="plays | play count | most played song | least played song | with more than {} plays | "
        "with fewer than {} plays | with between {} and {} plays | 2500 | 6000",
        mid="seconds | length | longest song | shortest song | longer than {} seconds | shorter than {} seconds | "
        "between {} and {} seconds long | 190 | 240",
        cat="style | styles | in the {} style | rock | folk",
        null="album | without an album | with an album",
        own="artist | artists | performed by {}",
        extra="""
Which artists were formed before 2000? Show their names.
SELECT name FROM artists WHERE formed < 2000
How many artists come from Canada?
SELECT COUNT(*) FROM artists WHERE country = 'Canada'
List the titles of songs on the album Shoreline from the shortest to the longest.
SELECT title FROM songs WHERE album = 'Shoreline' ORDER BY seconds
What is the total play count for each artist with at least one song? Show the name and the total.
SELECT artists.name, SUM(songs.plays) FROM songs JOIN artists ON songs.artist_id = artists.id GROUP BY artists.name
Show the titles of songs performed by artists from Brazil.
SELECT songs.title FROM songs JOIN artists ON songs.artist_id = artists.id WHERE artists.country = 'Brazil'
""",
    ),
    Schema(
        db_id="football",
        tables="""
teams: name TEXT, city TEXT, points INTEGER
Harbour Rovers, Porto, 41; Hill United, Bern, 38; Valley Town, Graz, 27; Lake City, Bern, 33; Old Mill, Lyon, 19;
Forest Athletic, Graz, 22
players: name TEXT, team_id INTEGER REFERENCES teams(id), position TEXT, goals INTEGER, age INTEGER, injury TEXT
Leo Pinto, 1, striker, 18, 24, -; Max Huber, 2, midfielder, 7, 29, knee; Rui Matos, 1, defender, 2, 31, -;
Jan Keller, 2, striker, 14, 21, -; Luka Babic, 3, midfielder, 5, 26, ankle; Paul Egger, 3, defender, 1, 34, -;
Yann Petit, 5, striker, 11, 27, back; Lars Meier, 4, midfielder, 9, 22, -; Nico Alves, 1, midfielder, 6, 19, knee
""",
        item="player | players | name | L",
        big="goals | goal count | player with the most goals | player with the fewest goals | "
        "with more than {} goals | with fewer than {} goals | with between {} and {} goals | 6 | 10",
        mid="age | age | oldest player | youngest player | older than {} | younger than {} | "
        "aged between {} and {} | 24 | 28",
        cat="position | positions | playing as a {} | striker | midfielder",
        null="injury | without an injury | with an injury",
        own="team | teams | on the team {}",
        extra="""
Which teams come from Bern? Show their names.
SELECT name FROM teams WHERE city = 'Bern'
List the names of the teams from the most points to the fewest.
SELECT name FROM teams ORDER BY points DESC
What is the highest number of points for each city?
SELECT city, MAX(points) FROM teams GROUP BY city
Which players have a knee injury? Show their names.
SELECT name FROM players WHERE injury = 'knee'
How many goals has each team with at least one player scored? Show the team name and the total.
SELECT teams.name, SUM(players.goals) FROM players JOIN teams ON players.team_id = teams.id GROUP BY teams.name
""",
    ),
)


def literal(cell: str, kind: str) -> str:
    """Return a cell as an SQL literal."""
    if cell == "-":
        return "NULL"
    return f"'{cell}'" if kind == "TEXT" else cell


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the (question, SQL) line pairs of a block."""
    lines = text.strip().splitlines()
    yield from zip(lines[::2], lines[1::2], strict=True)


def problem(db: sqlite3.Connection, sql: str) -> str | None:
    """Say what is wrong with a gold query, if anything."""
    try:
        answer = db.execute(sql).fetchall()
        if not any(cell for row in answer for cell in row):
            return "the answer is empty"
        ordered = re.fullmatch(r"SELECT (DISTINCT )?.+? (FROM .+) ORDER BY (.+?)( LIMIT \d+)?", sql)
        if ordered is None:
            return "LIMIT without ORDER BY" if "LIMIT" in sql else None
        keys = db.execute(f"SELECT {ordered[1] or ''}{ordered[3].replace(' DESC', '')} {ordered[2]}").fetchall()
        return "the order is not unique" if len(set(keys)) < len(keys) else None
    except sqlite3.Error as error:
        return str(error)


def build() -> list[dict[str, str]]:
    """Build and check every row."""
    rows: list[dict[str, str]] = []
    for number, schema in enumerate(SCHEMAS):
        creates, inserts = schema.statements()
        scripts = {"schema": ";\n".join(creates) + ";", "inserts": ";\n".join(inserts) + ";"}
        db = sqlite3.connect(":memory:")
        db.execute("PRAGMA foreign_keys = ON")
        db.executescript(scripts["schema"] + scripts["inserts"])
        words = schema.words(db)
        questions: set[str] = set()
        todo = [(wordings.format(**words), sql.format(**words)) for wordings, sql in pairs(TEMPLATES)]
        for position, (wordings, sql) in enumerate([*todo, *pairs(schema.extra)], 1):
            choices = wordings.split(" | ")
            question = choices[(number + position) % len(choices)]
            name = f"{schema.db_id}-{position:03}"
            wrong = "the question is repeated" if question in questions else problem(db, sql)
            if wrong:
                raise SystemExit(f"{name}: {wrong}: {sql}")
            questions.add(question)
            rows.append({"id": name, "db_id": schema.db_id, "question": question, "schema": scripts["schema"]})
            rows[-1] |= {"inserts": scripts["inserts"], "sql": sql}
        db.close()
    return rows


def main() -> None:
    """Write sql.jsonl next to this script."""
    target = Path(__file__).with_name("sql.jsonl")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in build())
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, target)
    print(f"wrote {text.count(chr(10))} rows to {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
