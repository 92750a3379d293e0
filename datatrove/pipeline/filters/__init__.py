"""datatrove's filters by their names: the same decisions, reasons and statistics, judged in batches."""

from .c4_filters import C4QualityFilter
from .fineweb_quality_filter import FineWebQualityFilter
from .gopher_quality_filter import GopherQualityFilter
from .gopher_repetition_filter import GopherRepetitionFilter
from .language_filter import LanguageFilter
from .url_filter import URLFilter

__all__ = [
    "C4QualityFilter",
    "FineWebQualityFilter",
    "GopherQualityFilter",
    "GopherRepetitionFilter",
    "LanguageFilter",
    "URLFilter",
]
