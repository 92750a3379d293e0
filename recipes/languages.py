"""Language codes in a recipe: those that the scan writes, and what to say of others."""

from __future__ import annotations

import difflib
import functools
from typing import Any

from ..pipeline.signals.language import ALIASES, UNDETERMINED, load_model

_OTHERWISE = """
af afr afrikaans | am amh amharic | ar ara arabic | az aze azerbaijani | be bel belarusian | bg bul bulgarian | bn ben bengali
br bre breton | bs bos bosnian | ca cat catalan | cs ces cze czech | cy cym wel welsh | da dan danish | de deu ger german deutsch
el ell gre greek | en eng english | eo epo esperanto | es spa spanish español | et est estonian | eu eus baq basque
fa fas per persian farsi | fi fin finnish | fo fao faroese | fr fra fre french français | ga gle irish | gl glg galician
gu guj gujarati | ha hau hausa | he heb hebrew iw | hi hin hindi | hr hrv croatian | ht hat haitian | hu hun hungarian
hy hye arm armenian | id ind indonesian in | ig ibo igbo | is isl ice icelandic | it ita italian italiano | ja jpn japanese jp
jv jav javanese | ka kat geo georgian | kk kaz kazakh | km khm khmer | kn kan kannada | ko kor korean kr | ku kur kurdish
ky kir kyrgyz | la lat latin | lb ltz luxembourgish | lo lao | lt lit lithuanian | lv lav latvian | mg mlg malagasy
mk mkd mac macedonian | ml mal malayalam | mn mon mongolian | mr mar marathi | ms msa may malay | mt mlt maltese
my mya bur burmese | ne nep nepali | nl nld dut dutch | nn nno nynorsk | no nor norwegian nb nob bokmål | oc oci occitan
or ori odia | pa pan punjabi | pl pol polish | ps pus pashto | pt por portuguese português | qu que quechua
ro ron rum romanian mo | ru rus russian | rw kin kinyarwanda | sa san sanskrit | si sin sinhala | sk slk slo slovak
sl slv slovenian slovene | so som somali | sq sqi alb albanian | sr srp serbian | sv swe swedish | sw swa swahili | ta tam tamil
te tel telugu | tg tgk tajik | th tha thai | tk tuk turkmen | tl tgl tagalog filipino fil | tr tur turkish | tt tat tatar
ug uig uyghur | uk ukr ukrainian ua | ur urd urdu | uz uzb uzbek | vi vie vietnamese | xh xho xhosa | yo yor yoruba
zh zho chi chinese mandarin cmn cn | zu zul zulu | und unknown unk
"""
"""A code of the model, and what else its language is called: ISO 639-2 and 639-3, names, codes of old and of countries."""


@functools.cache
def known_languages() -> frozenset[str]:
    """The codes that a document can have."""
    return frozenset([*load_model().languages, UNDETERMINED])


def check_languages(value: Any) -> None:
    """Refuse a list of languages that holds a code which no document can have, and would drop them all.

    Raises:
        ValueError: naming the entry, and the code that it may stand for.
    """
    if value is False:
        raise ValueError("languages: YAML reads no as false; quote it in a list: ['no']")
    if not isinstance(value, list):
        raise ValueError("languages: write a list, such as [en]")
    if not value:
        raise ValueError("languages: an empty list keeps no document; write null to keep all languages")
    for code in value:
        if code is False:
            raise ValueError("languages: YAML reads no as false; quote it: 'no'")
        if not isinstance(code, str):
            raise ValueError(f"languages: {code!r} is not a language code; write text, such as en, or quote it")
        if code not in known_languages():
            raise ValueError(f"languages: no language {code!r}{meant(code) or _all()}")


def _all() -> str:
    return f"; the language model has {', '.join(sorted(known_languages()))}"


def meant(code: str, similar: bool = True) -> str:
    """What to add to a message about an unknown code: the known ones that it may stand for; empty if it stands for none.

    Args:
        similar: also those that are spelt like it.
    """
    words = {
        word: line.split()[0] for line in _OTHERWISE.replace("|", "\n").split("\n") if line for word in line.split()
    }
    words |= {c: c for c in known_languages()}
    plain = code.strip().lower().replace("_", "-")
    # Of a tag such as zh-Hans or pt_BR the language.
    for form in (plain, plain.split("-")[0]):
        if form in ALIASES:
            return f" (the language model counts it as `{ALIASES[form]}`)"
        if form in words:
            return f" (did you mean `{words[form]}`?)"
    if not similar:
        return ""
    close = list(dict.fromkeys(words[w] for w in difflib.get_close_matches(plain, words, 3)))
    if close:
        return f" (did you mean {' or '.join(f'`{c}`' for c in close)}?)"
    return ""
