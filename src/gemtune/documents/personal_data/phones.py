"""Phone numbers: what phonenumbers takes for valid, and mobile numbers of Arab states however they are grouped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

from gemtune.documents.personal_data.numbers import Number, is_dates
from gemtune.errors import MissingExtra, RecipeError

# Region: its country code, and its mobile numbers without the leading 0. phonenumbers knows them, too, but overlooks
# one of two in "01228762033 / 01061319140".
_MOBILE = {
    "AE": ("971", r"5[024568]\d{7}"),
    "BH": ("973", r"3\d{7}"),
    "DZ": ("213", r"[567]\d{8}"),
    "EG": ("20", r"1[0125]\d{8}"),
    "IQ": ("964", r"7[3-9]\d{8}"),
    "JO": ("962", r"7[789]\d{7}"),
    "KW": ("965", r"[569]\d{7}"),
    "LB": ("961", r"(?:3|7[0168]|81)\d{6}"),
    "LY": ("218", r"9[1-6]\d{7}"),
    "MA": ("212", r"[67]\d{8}"),
    "OM": ("968", r"[79]\d{7}"),
    "PS": ("970", r"5[69]\d{7}"),
    "QA": ("974", r"[3567]\d{7}"),
    "SA": ("966", r"5\d{8}"),
    "SD": ("249", r"[19]\d{8}"),
    "SY": ("963", r"9\d{8}"),
    "TN": ("216", r"[2459]\d{7}"),
    "YE": ("967", r"7[01378]\d{7}"),
}
_WITHOUT_TRUNK = ("BH", "KW", "OM", "QA", "TN")  # no leading 0 there: only with the country code
_PREFIX = re.compile(r"\(?(?:\+|0)")  # of a country or a network: without one, any eight digits are a number in Kuwait
_LABEL = re.compile(
    r"(?:هاتف|تل[يف]|ت|جو[اّ]ل|موبايل|محمول|نقال|فاكس|واتس|اتصل|tel|phone|mobile|mob|cell|gsm|fax|whatsapp|call|contact)"
    r"[^0-9\n]{0,15}+$",
    re.IGNORECASE,
)
_BEFORE = 30  # characters that are looked at for a label
_PHONE = re.compile(r"(?<![A-Za-z0-9])(?:\+ ?|\()?[0-9](?:[ ()./-]{0,3}[0-9]){6,16}(?![A-Za-z0-9])")


@cache
def _mobile(regions: tuple[str, ...]) -> re.Pattern[str]:
    numbers = []
    for region in regions:
        if region in _MOBILE:
            code, number = _MOBILE[region]
            numbers.append(rf"(?:00)?{code}0?{number}" + ("" if region in _WITHOUT_TRUNK else f"|0{number}"))
    return re.compile("|".join(numbers) or "(?!)")


def is_mobile(number: Number, regions: tuple[str, ...]) -> bool:
    """Whether it is a mobile number of one of the regions, as dialled there or from elsewhere."""
    return bool(_mobile(regions).fullmatch(number.digits)) and _may_be_a_phone(number.text)


def phones(text: str, regions: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """What phonenumbers takes for a valid number of one of the regions, or of any country after a "+"."""
    for candidate in _PHONE.finditer(text):
        for start, end in _valid(candidate[0], regions):
            start, end = candidate.start() + start, candidate.start() + end
            if _PREFIX.match(text, start) or _LABEL.search(text[max(0, start - _BEFORE) : start]):
                yield start, end


@lru_cache(50_000)
def _valid(text: str, regions: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    found = (match for region in regions for match in PhoneNumberMatcher(text, region, Leniency.VALID))
    return tuple({(match.start, match.end): None for match in found if _may_be_a_phone(match.raw_string)})


def require_regions(regions: Sequence[str]) -> None:
    """MissingExtra without phonenumbers, and RecipeError for a region that it does not know."""
    try:
        from phonenumbers import SUPPORTED_REGIONS
    except ModuleNotFoundError as error:
        raise MissingExtra("looking for phone numbers", "documents") from error
    if unknown := [region for region in regions if region not in SUPPORTED_REGIONS]:
        raise RecipeError(f"privacy.regions: {unknown[0]} is no country that phonenumbers knows; wanted one such as EG")


def _may_be_a_phone(text: str) -> bool:
    """Not dates, and not decimals of a table: where there is a point, there is one between all groups.

    >>> [_may_be_a_phone(text) for text in ("02.2345.6789", "997.22 251", "05/12/2010 12")]
    [True, False, False]
    """
    return not is_dates(text) and not ("." in text and set(text) & set(" -/"))
