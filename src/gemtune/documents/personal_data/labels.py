"""Personal data that only a field's label gives away: names, and numbers of ids, passports and accounts."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Arabic labels: alef, ya and ta marbuta match in every spelling, and lam-alef also the wrong way round.
_NAMES = (
    "الاسم الكامل، الاسم الرباعي، الاسم الثلاثي، الاسم بالكامل، الاسم، اسم العميل، اسم المستفيد، اسم المريض، "
    "اسم المريضة، اسم الطالب، اسم الطالبة، اسم الموظف، اسم صاحب الحساب، اسم حامل البطاقة، اسم مقدم الطلب، "
    "اسم المشتري، اسم البائع، اسم المستأجر، اسم المؤجر، اسم الأب، اسم الأم، اسم الزوج، اسم الزوجة، اسم الكفيل، "
    "المستفيد، المستفيدة، العميل، المريض، المريضة، المستأجر، المؤجر، المشتري، البائع، الموكل، مقدم الطلب، "
    "صاحب الحساب، صاحب الطلب، السيد، السيدة، الآنسة، الأستاذ، الأستاذة، الدكتور، الدكتورة، المهندس"
)
_LATIN_NAMES = (
    "full name, first name, last name, family name, surname, customer name, client name, beneficiary name, "
    "patient name, student name, employee name, account name, name of beneficiary, name of the beneficiary, "
    "name of account holder, name, beneficiary, account holder, card holder, cardholder, patient, customer, client, "
    "employee, student, tenant, landlord, buyer, seller, payee, attention, attn, contact person, author, mr, mrs, ms, "
    "miss, dr, nom, prénom, nom et prénom, bénéficiaire, titulaire"
)
_IDS = (
    "الرقم القومي، رقم قومي، الرقم الوطني، الرقم المدني، رقم الهوية، رقم الهوية الوطنية، هوية رقم، السجل المدني، "
    "رقم السجل المدني، رقم البطاقة الشخصية، رقم بطاقة الهوية، بطاقة رقم، رقم الإقامة، رقم الإثبات، "
    "رقم البطاقة الوطنية، البطاقة الوطنية رقم، بطاقة التعريف الوطنية، الرقم الشخصي، رقم الجواز، رقم جواز السفر، "
    "جواز سفر رقم"
)
_LATIN_IDS = (
    "national id, national id no, national id number, id no, id number, identity no, civil id, civil id no, civil no, "
    "emirates id, emirates id no, iqama, iqama no, iqama number, cpr, cpr no, qid, qid no, cin, c.i.n, cnie, cin n°, "
    "passport no, passport number, passport"
)
_ACCOUNTS = "رقم الحساب، حساب رقم، رقم الحساب البنكي، رقم الآيبان، آيبان"
_LATIN_ACCOUNTS = "account no, account number, a/c no, acct no, iban, iban no"
_BIRTHS = "تاريخ الميلاد، تاريخ ومحل الميلاد، محل وتاريخ الميلاد، تاريخ الولادة"
_LATIN_BIRTHS = "date of birth, birth date, dob, d.o.b, date de naissance, né le, née le"

_SAME = {letter: f"[{letters}]" for letters in ("اأإآٱ", "يىئ", "هة", "وؤ") for letter in letters}
_SIGN = r" ?[.°]? ?[:/=][ \n]{0,4}"  # what ends a label
_WORD = r"[^\W\d_](?:[^\W\d_]|['’.-](?=[^\W\d_]))*+\.?+"
_NAME = rf"(?:{_WORD})(?: {{1,2}}{_WORD}){{0,5}}"
_CODE = r"(?=(?:[A-Za-z/ -]*[0-9]){5})[A-Za-z0-9](?:[ /-]?[A-Za-z0-9]){4,33}"
_DAY = r"\d{1,4} ?[/.-] ?\d{1,2} ?[/.-] ?\d{1,4}"

# Words of forms that follow a label and name nobody: the next label of an empty form, an office, a company.
_NO_NAME = (
    "اسم الاسم التاريخ تاريخ رقم العنوان عنوان الهاتف هاتف الجوال جوال التوقيع توقيع الوظيفة وظيفة الجنسية جنسية "
    "المهنة العمر السن الجنس البريد المدينة المبلغ المدير مدير الرئيس رئيس الوزير وزير القاضي السفير سفير المحافظ "
    "محافظ العميد عميد شركة الشركة مؤسسة بنك البنك مصرف وزارة جامعة الجامعة هيئة الهيئة جمعية مكتب إدارة الادارة "
    "الإدارة في من إلى على هو هي هذا هذه كل أي أو و ثم لا ما "
    "name date number no address phone tel telephone mobile email e-mail signature title position nationality age sex "
    "gender city amount company ltd llc inc bank ministry university department the of and or in is to a an"
)


def spellings(words: str) -> str:
    """A pattern of words in every Arabic spelling, and with lam-alef the wrong way round."""
    folded = "".join(_SAME.get(letter, re.escape(letter)) for letter in words)
    return folded.replace("ل" + _SAME["ا"], f"(?:ل{_SAME['ا']}|{_SAME['ا']}ل)")


def _either(arabic: str, latin: str) -> str:
    """A pattern of labels, the longest first."""
    labels = [re.escape(label) for label in latin.split(", ")]
    labels += map(spellings, arabic.split("، "))
    return "|".join(label.replace(r"\ ", " {1,2}") for label in sorted(labels, key=len, reverse=True))


_NAMES_NOBODY = frozenset(_NO_NAME.split())
_LABELLED = {
    kind: re.compile(rf"(?<!\w)(?:{_either(arabic, latin)}){_SIGN}(?P<value>{value})", re.IGNORECASE)
    for kind, arabic, latin, value in (
        ("name", _NAMES, _LATIN_NAMES, _NAME),
        ("national id", _IDS, _LATIN_IDS, _CODE),
        ("account", _ACCOUNTS, _LATIN_ACCOUNTS, _CODE),
        ("birth date", _BIRTHS, _LATIN_BIRTHS, _DAY),
    )
}


def labelled(text: str) -> Iterator[tuple[str, int, int]]:
    """What stands behind a label, in a folded text: its kind, start and end.

    >>> [(kind, text[start:end]) for text in ("السيد/ محمد علي", "Account No: 0123 456", "Name: Date:")
    ...     for kind, start, end in labelled(text)]
    [('name', 'محمد علي'), ('account', '0123 456')]
    """
    for kind, pattern in _LABELLED.items():
        for match in pattern.finditer(text):
            start, end = match.span("value")
            if kind == "name":
                end = start + _length_of_name(match["value"])
            if end > start:
                yield kind, start, end


def _length_of_name(words: str) -> int:
    """How much of what follows a label is a name: up to the first word that names nobody."""
    end = 0
    for word in re.finditer("[^ ]+", words):
        if word[0].lower().rstrip(".") in _NAMES_NOBODY:
            break
        end = word.end()
    return end
