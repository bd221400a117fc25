import pytest

from gemtune.documents.personal_data.labels import labelled
from gemtune.documents.personal_data.reading_orders import fold


def found(text):
    text = fold(text).text
    return [(kind, text[start:end]) for kind, start, end in labelled(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("الاسم: محمد أحمد علي", [("name", "محمد أحمد علي")]),
        ("الإسم : مُحَمَّد أحمد", [("name", "محمد أحمد")]),  # spelled and vowelled otherwise
        ("االسم: محمد", [("name", "محمد")]),  # lam-alef the wrong way round
        ("السيد/ خالد بن سعيد العتيبي المحترم", [("name", "خالد بن سعيد العتيبي المحترم")]),
        (
            "اسم المستفيد\u200f: فاطمة الزهراء رقم الحساب: 0012 3456 78",
            [("name", "فاطمة الزهراء"), ("account", "0012 3456 78")],
        ),
        ("الاسم:\nسعاد حسني\nالعنوان: القاهرة", [("name", "سعاد حسني")]),  # the value stands below
        ("Name: John O'Neil Smith\nDate: 1 May", [("name", "John O'Neil Smith")]),
        ("BENEFICIARY NAME : ALI HASSAN", [("name", "ALI HASSAN")]),
        ("Nom et prénom : Amélie Dupont", [("name", "Amélie Dupont")]),
        ("رقم الهوية: ١٠٩٨٧٦٥٤٣٧", [("national id", "1098765437")]),
        ("Passport No.: A1234567", [("national id", "A1234567")]),
        ("CIN: BE123456", [("national id", "BE123456")]),
        ("تاريخ الميلاد: ١٩٨٠/٠٥/١٢", [("birth date", "1980/05/12")]),
        ("Date of Birth: 12-05-1980", [("birth date", "12-05-1980")]),
    ],
)
def test_what_stands_behind_a_label_is_found(text, expected):
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "الاسم: التاريخ: التوقيع:",  # an empty form
        "الاسم: ................",
        "السيد/ المدير العام",
        "المستفيد: شركة النور للتجارة",
        "السيد الرئيس قال",
        "هذا الاسم معروف",
        "Name: Date: Signature:",
        "the name of the game: chess",
        "filename: report",
        "رقم الحساب: 12",
        "CIN: none",
    ],
)
def test_a_form_without_a_value_or_with_an_office_names_nobody(text):
    assert found(text) == []
