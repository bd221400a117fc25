"""What the documents of examples/documents/ say: invented letters, invoices, forms, tables, minutes and notices.

Nobody in them is real. A document is a list of blocks; `make_documents.py` draws them and writes down the truth.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

Kind = Literal[
    "title", "heading", "text", "item", "pair", "table", "header", "signature", "stamp", "space", "break", "foot"
]


@dataclass(frozen=True)
class Block:
    """A piece of a page. A table has rows, the first of them its head; a pair is a label and its value in a box."""

    kind: Kind
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    ticked: bool | None = None  # of an item: a box to tick


@dataclass(frozen=True)
class Document:
    """A document before it is drawn."""

    kind: str
    source: str
    reference: str
    day: date  # that it was issued on
    blocks: list[Block]
    addressee: str = ""
    subject: str = ""
    attachments: list[str] = field(default_factory=list)


ORGANISATIONS = [
    ("شركة النيل لتوريد المواد", "Nile Supplies Company"),
    ("هيئة المياه والري بالوادي", "Valley Water and Irrigation Authority"),
    ("مكتبة الواحة العامة", "Oasis Public Library"),
    ("بلدية المرسى", "Municipality of Al Marsa"),
    ("مدرسة الفجر الثانوية", "Al Fajr Secondary School"),
    ("مستشفى الساحل العام", "Coast General Hospital"),
    ("مؤسسة البيان للطباعة", "Al Bayan Printing House"),
    ("جمعية السهل الزراعية", "Plain Farmers' Cooperative"),
    ("إدارة ميناء الصفوة", "Safwa Port Administration"),
    ("مركز الأفق للتدريب", "Horizon Training Centre"),
]
OFFICES = ["إدارة المخازن", "إدارة المشتريات", "القسم الهندسي", "الشؤون المالية", "شؤون الطلاب", "إدارة الصيانة"]
TITLES = ["مدير عام المشتريات", "رئيس القسم الهندسي", "أمين المكتبة", "رئيس اللجنة", "مدير الشؤون المالية"]
PLACES = ["المبنى الرئيسي", "المخزن الشمالي", "محطة الوادي", "قاعة الاجتماعات", "الورشة المركزية", "رصيف رقم 3"]
SUBJECTS = [
    "توريد أجهزة الحاسب وملحقاتها",
    "صيانة شبكة المياه",
    "تجديد قاعة المطالعة",
    "نقل الأثاث إلى المبنى الجديد",
    "طباعة الكتب المدرسية",
    "برنامج التدريب الصيفي",
    "إصلاح المضخات القديمة",
    "جرد الموجودات السنوي",
    "تشغيل المختبر الجديد",
    "زراعة الأشجار على الطريق الساحلي",
]
OPENINGS = [
    "بالإشارة إلى خطابكم رقم {number} المؤرخ {day} بشأن {subject}، نود إفادتكم بأن اللجنة قد أتمت دراسة الموضوع من "
    "جميع جوانبه.",
    "تلقينا بكل تقدير كتابكم المؤرخ {day} المتعلق بموضوع {subject}، ونشكر لكم حسن تعاونكم معنا.",
    "إلحاقا بالاجتماع الذي عقد في {place} يوم {day}، نعرض عليكم ما انتهى إليه الرأي في {subject}.",
    "نفيدكم علما بأن العمل في {subject} قد بدأ يوم {day}، ويشرف عليه فريق من {office}.",
]
SENTENCES = [
    "وقد تبين من المعاينة أن الأعمال المنفذة بلغت {percent} في المئة من الكميات المتفق عليها، وأن الباقي يمكن إنجازه "
    "خلال {few} أسابيع من تاريخ تسليم الموقع.",
    "وترى اللجنة أن يتم التوريد على {few} دفعات متساوية، على أن تسلم الدفعة الأولى في {place} قبل يوم {day}.",
    "كما نرجو موافاتنا بكشف مفصل بالأصناف المطلوبة وأسعارها ومدة الضمان، حتى نتمكن من إدراجها في خطة العام القادم.",
    "وتبلغ القيمة التقديرية {money} جنيها، شاملة النقل والتركيب والتشغيل التجريبي.",
    "ونؤكد أن المواصفات الفنية المعتمدة لا تسمح باستبدال أي صنف إلا بعد موافقة كتابية من {office}.",
    "ومرفق بهذا الخطاب نسخة من محضر الاستلام وصورة من كراسة الشروط للاطلاع واتخاذ اللازم.",
    "وقد لوحظ تأخر وصول بعض الشحنات بسبب أعمال الطريق، ونعمل مع الناقل على تعويض هذا التأخير قبل نهاية الشهر.",
    "ولا يترتب على هذا التعديل أي أعباء مالية إضافية، إذ يخصم الفرق من بند الاحتياطي المعتمد في الموازنة.",
    "ويسعدنا أن ندعوكم إلى زيارة {place} للاطلاع على سير العمل، في أي يوم من أيام الأسبوع عدا الجمعة.",
    "وسيقدم {office} تقريرا أسبوعيا عن نسب الإنجاز والمعوقات، يرفع إلى الإدارة العليا في موعد أقصاه يوم {day}.",
    "ويبلغ عدد المستفيدين من المشروع {number} شخصا، ينتظر أن يزيد إلى الضعف بعد اكتمال المرحلة الثانية.",
    "ونرجو التنبيه على العاملين بضرورة ارتداء ملابس الوقاية، والالتزام بتعليمات السلامة طوال مدة العمل.",
]
ENGLISH = [
    "With reference to your letter of {day}, we confirm that the work has been inspected and accepted.",
    "The remaining quantities will be delivered to the main store within {few} weeks.",
    "The estimated value is {money} pounds, including transport and installation.",
    "Please note that no item may be replaced without written approval of the engineering office.",
    "A copy of the delivery report is attached for your information.",
    "The library is open to all readers from nine in the morning until eight in the evening.",
    "Borrowed books must be returned within {few} weeks; a card may be renewed once.",
]
CLOSINGS = ["وتفضلوا بقبول فائق الاحترام والتقدير.", "شاكرين لكم حسن تعاونكم.", "والله ولي التوفيق."]
GOODS = [
    ("ورق طباعة", "Printing paper"),
    ("حبر أسود", "Black ink"),
    ("مضخة مياه", "Water pump"),
    ("كابل نحاس", "Copper cable"),
    ("مصباح مكتب", "Desk lamp"),
    ("خزانة ملفات", "File cabinet"),
    ("صمام حديد", "Iron valve"),
    ("كرسي خشب", "Wooden chair"),
    ("لوح زجاج", "Glass panel"),
    ("شتلة زيتون", "Olive seedling"),
    ("دفتر حسابات", "Account book"),
    ("عدسة مجهر", "Microscope lens"),
]
PROVERBS = [
    "العِلْمُ نُورٌ وَالجَهْلُ ظَلَامٌ.",
    "مَنْ جَدَّ وَجَدَ، وَمَنْ زَرَعَ حَصَدَ.",
    "خَيْرُ الكَلَامِ مَا قَلَّ وَدَلَّ.",
    "الوَقْتُ كَالسَّيْفِ إِنْ لَمْ تَقْطَعْهُ قَطَعَكَ.",
    "اُطْلُبِ العِلْمَ مِنَ المَهْدِ إِلَى اللَّحْدِ.",
    "خَيْرُ جَلِيسٍ فِي الزَّمَانِ كِتَابٌ.",
    "الصَّدِيقُ وَقْتَ الضِّيقِ.",
    "مَنْ شَبَّ عَلَى شَيْءٍ شَابَ عَلَيْهِ.",
]
TERMS = [
    "تسلم البضاعة في مخازن المشتري خلال المدة المتفق عليها، ويتحمل المورد أجور النقل.",
    "يجوز رفض أي صنف لا يطابق العينة المعتمدة، ويلتزم المورد باستبداله خلال سبعة أيام.",
    "يسدد الثمن بعد الفحص والاستلام، ولا يعد توقيع السائق إقرارا بمطابقة البضاعة.",
    "تسري أحكام الضمان مدة سنة كاملة من تاريخ التشغيل.",
    "كل خلاف ينشأ عن هذا الاتفاق يحل بالتراضي، فإن تعذر فبالتحكيم.",
]
INDIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
SHARED = ("invoice/15.pdf", "invoice/19.pdf")  # they end with one and the same page of terms
CONTACT, EMPTY_BACK = (
    "letter/07.pdf",
    "letter/08.pdf",
)  # an e-mail address and a phone number; a page with nothing on it


class Writer:
    """Draws the words of one document."""

    def __init__(self, seed: str):
        self.draw = random.Random(seed)  # noqa: S311 (texts)
        self.source = self.draw.choice(ORGANISATIONS)
        self.day = self.some_day()
        self.subject = self.draw.choice(SUBJECTS)
        self.reference = f"{self.draw.randrange(100, 999)}/{self.draw.randrange(10, 99)}/{self.day.year}"
        self.indic = self.draw.random() < 0.6
        self.said: set[str] = set()

    def some_day(self) -> date:
        return date(2021, 1, 1) + timedelta(days=self.draw.randrange(1900))

    def written(self, day: date) -> str:
        return f"{day.day}/{day.month}/{day.year}"

    def money(self, amount: float) -> str:
        """As printed in Arabic text: 12,500.75, or with the digits and separators of the other system."""
        text = f"{amount:,.2f}"
        return self.digits(text.translate({ord(","): "٬", ord("."): "٫"})) if self.indic else text

    def digits(self, text: str) -> str:
        return text.translate(INDIC) if self.indic else text

    def filled(self, sentence: str) -> str:
        values = {
            "number": str(self.draw.randrange(40, 4000)),
            "day": self.written(self.some_day()),
            "subject": self.subject,
            "place": self.draw.choice(PLACES),
            "office": self.draw.choice(OFFICES),
            "percent": str(self.draw.randrange(20, 96)),
            "few": str(self.draw.randrange(3, 10)),
        }
        arabic = sentence[0] > "\u0600"
        money = self.draw.randrange(2000, 900_000) + self.draw.choice((0, 0.5, 0.75))
        values = {name: self.digits(value) for name, value in values.items()} if arabic else values
        return sentence.format(**values, money=self.money(money) if arabic else f"{money:,.2f}")

    def paragraph(self, bank: list[str], count: int) -> Block:
        """So many sentences, none of them twice in a document while there are others."""
        fresh = [sentence for sentence in bank if sentence not in self.said]
        chosen = self.draw.sample(fresh if len(fresh) >= count else bank, count)
        self.said.update(chosen)
        return Block("text", " ".join(self.filled(sentence) for sentence in chosen))

    def head(self, *more: Block) -> list[Block]:
        number = Block("header", self.digits(f"الرقم: {self.reference}    التاريخ: {self.written(self.day)}"))
        return [Block("title", self.source[0]), Block("header", self.source[1]), number, *more]

    def document(self, kind: str, blocks: list[Block], **labels: object) -> Document:
        return Document(kind, self.source[0], self.digits(self.reference), self.day, blocks, **labels)  # type: ignore[arg-type]


def letter(write: Writer, name: str) -> Document:
    office, title = write.draw.choice(OFFICES), write.draw.choice(TITLES)
    blocks = write.head(
        Block("text", f"السادة / {office}"),
        Block("heading", f"الموضوع: {write.subject}"),
        Block("text", "السلام عليكم ورحمة الله وبركاته، وبعد:"),
        write.paragraph(OPENINGS, 1),
    )
    blocks += [write.paragraph(SENTENCES, write.draw.randint(2, 3)) for _ in range(write.draw.randint(2, 3))]
    if name == CONTACT:
        blocks.append(Block("text", "للاستفسار يرجى الاتصال بنا أو المراسلة:"))
        blocks.append(Block("text", "Tel. 01012345678, purchasing@nile-supplies.example"))
    blocks += [Block("text", write.draw.choice(CLOSINGS)), Block("signature", title), Block("stamp", write.source[0])]
    attachments = write.draw.sample(["محضر الاستلام", "كراسة الشروط", "كشف الأصناف", "صورة الرخصة"], 2)
    blocks.append(Block("text", f"المرفقات: {attachments[0]}، {attachments[1]}"))
    if name == EMPTY_BACK:
        blocks += [Block("break"), Block("space"), Block("break")]
    if name == EMPTY_BACK or write.draw.random() < 0.8:
        blocks += [] if name == EMPTY_BACK else [Block("break")]
        blocks += [Block("heading", f"مرفق: {attachments[0]}"), write.paragraph(SENTENCES, 3), goods(write, 7)[0]]
    return write.document("letter", blocks, addressee=office, subject=write.subject, attachments=attachments)


def goods(write: Writer, count: int, prices: bool = False, both: bool = False) -> tuple[Block, float]:
    """A table of goods, and what they cost together."""
    head = ["م", "الصنف", "الكمية"] + (["سعر الوحدة", "الإجمالي"] if prices else ["الوحدة", "ملاحظات"])
    rows, total = [tuple(head)], 0.0
    for number, (arabic, english) in enumerate(write.draw.sample(GOODS, count), start=1):
        amount, price = write.draw.randrange(2, 90), write.draw.randrange(40, 4000) / 4
        total += amount * price
        name = f"{arabic} {english}" if both else arabic
        rest = (
            [write.money(price), write.money(amount * price)]
            if prices
            else [
                write.draw.choice(["قطعة", "صندوق", "متر"]),
                write.draw.choice(["تم الفحص", "مطابق", "يستبدل", "-"]),
            ]
        )
        rows.append((write.digits(str(number)), name, write.digits(str(amount)), *rest))
    return Block("table", rows=tuple(rows)), total


def invoice(write: Writer, name: str) -> Document:
    both = write.draw.random() < 0.6
    buyer = write.draw.choice([o for o in ORGANISATIONS if o != write.source])
    table, total = goods(write, write.draw.randint(5, 9), prices=True, both=both)
    tax = round(total * 0.14, 2)
    blocks = write.head(
        Block("heading", "فاتورة ضريبية Tax Invoice" if both else "فاتورة ضريبية"),
        Block("pair", buyer[0], rows=(("العميل",),)),
        Block("pair", f"INV-{write.day.year}-{write.draw.randrange(1000):04}", rows=(("رقم الفاتورة",),)),
        table,
        Block("pair", write.money(total), rows=(("المجموع",),)),
        Block("pair", write.money(tax), rows=((write.digits("ضريبة القيمة المضافة 14%"),),)),
        Block("pair", write.money(total + tax), rows=(("المبلغ المستحق",),)),
        Block("stamp", "خالص مع الشكر" if write.draw.random() < 0.4 else write.source[0]),
        Block("signature", "المحاسب"),
    )
    if name in SHARED or write.draw.random() < 0.6:
        terms = Writer("terms") if name in SHARED else write
        blocks += [Block("break"), Block("title", "الشروط العامة للبيع"), Block("heading", "General terms of sale")]
        blocks += [Block("item", term) for term in (TERMS if name in SHARED else write.draw.sample(TERMS, 4))]
        blocks += [terms.paragraph(SENTENCES, 3), terms.paragraph(SENTENCES, 2), terms.paragraph(ENGLISH, 2)]
    return write.document("invoice", blocks, addressee=buyer[0])


def form(write: Writer, name: str) -> Document:
    place, office = write.draw.choice(PLACES), write.draw.choice(OFFICES)
    pairs = [
        ("الجهة الطالبة", office),
        ("مكان التسليم", write.digits(place)),
        ("موضوع الطلب", write.subject),
        ("عدد الأفراد", write.digits(str(write.draw.randrange(2, 60)))),
        ("المدة بالأيام", write.digits(str(write.draw.randrange(2, 90)))),
        ("التكلفة المقدرة", write.money(write.draw.randrange(1000, 90_000))),
        ("تاريخ البدء", write.digits(write.written(write.some_day()))),
    ]
    asked = write.draw.sample(pairs, write.draw.randint(4, 7))
    boxes = ["عاجل", "يحتاج إلى نقل", "يحتاج إلى موافقة مالية", "له مرفقات"]
    blocks = write.head(
        Block("heading", "نموذج طلب خدمة"),
        *[write.paragraph(OPENINGS, 1)] * write.draw.randint(0, 1),
        *(Block("pair", value, rows=((label,),)) for label, value in asked),
        Block("heading", "خصائص الطلب"),
        *(Block("item", box, ticked=write.draw.random() < 0.5) for box in boxes),
        Block("heading", "وصف مختصر"),
        write.paragraph(SENTENCES, 2),
        Block("signature", write.draw.choice(TITLES)),
        Block("stamp", "اعتمد"),
    )
    if write.draw.random() < 0.7:
        blocks += [Block("break"), Block("heading", "كشف الأصناف المطلوبة"), goods(write, 8)[0]]
        blocks += [write.paragraph(SENTENCES, 2)]
    return write.document("form", blocks, addressee=office, subject=write.subject)


def statement(write: Writer, name: str) -> Document:
    """Tables, a page each, with a word before and after."""
    blocks = write.head(Block("heading", f"بيان {write.subject}"), write.paragraph(OPENINGS, 1))
    for part in range(write.draw.randint(2, 3)):
        if part:
            blocks += [Block("break"), Block("heading", "تابع البيان")]
        table, total = goods(write, write.draw.randint(9, 12), prices=part == 0)
        blocks += [table]
        blocks += [Block("pair", write.money(total), rows=(("الإجمالي",),))] if part == 0 else []
        blocks += [write.paragraph(SENTENCES, 2)]
    return write.document("statement", [*blocks, Block("signature", write.draw.choice(TITLES))], subject=write.subject)


def minutes(write: Writer, name: str) -> Document:
    place = write.draw.choice(PLACES)
    blocks = write.head(
        Block("heading", f"محضر اجتماع: {write.subject}"),
        Block("text", write.digits(f"عقد الاجتماع في {place} في تمام الساعة {write.draw.randrange(8, 12)}:30 صباحا.")),
        Block("heading", "جدول الأعمال"),
        *(Block("item", topic) for topic in write.draw.sample(SUBJECTS, 4)),
        Block("heading", "المناقشات"),
    )
    blocks += [write.paragraph(SENTENCES, write.draw.randint(2, 3)) for _ in range(3)]
    decisions = write.draw.sample(SENTENCES, write.draw.randint(2, 7))
    blocks += [Block("heading", "كشف المواد التي نوقشت"), goods(write, write.draw.randint(3, 6))[0]]
    blocks += [Block("heading", "القرارات"), *(Block("item", write.filled(decision)) for decision in decisions)]
    blocks += [write.paragraph(SENTENCES, write.draw.randint(1, 3)), Block("signature", "رئيس اللجنة")]
    return write.document("minutes", blocks, subject=write.subject)


def notice(write: Writer, name: str) -> Document:
    """Fully vowelled Arabic, then the same house in English."""
    blocks = write.head(Block("heading", "لوحة الحكمة Words of Wisdom"))
    blocks += [Block("item", proverb) for proverb in write.draw.sample(PROVERBS, 5)]
    blocks += [write.paragraph(SENTENCES, 2), Block("heading", "Notice to readers"), write.paragraph(ENGLISH, 4)]
    return write.document("notice", [*blocks, Block("stamp", write.source[0])])


# Kind -> how many there are, and what writes one.
KINDS: dict[str, tuple[int, Callable[[Writer, str], Document]]] = {
    "letter": (12, letter),
    "invoice": (9, invoice),
    "form": (8, form),
    "statement": (6, statement),
    "minutes": (4, minutes),
    "notice": (5, notice),
}


def documents(seed: int) -> Iterator[tuple[str, Document]]:
    """Every document with its file's name; the same seed gives the same ones."""
    number = 0
    for kind, (count, make) in KINDS.items():
        for _ in range(count):
            number += 1
            name = f"{kind}/{number:02}.pdf"
            yield name, make(Writer(f"{seed}/{name}"), name)
