"""Steps of a datatrove pipeline, as users write them; recipes of the tests name them by this file."""

import re
from collections.abc import Iterator
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.extractors.base import BaseExtractor
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters.base import BaseFormatter


class Bare(BaseExtractor):
    """The text between the tags of a page, without its navigation."""

    name = "bare"

    def __init__(self, keep_navigation: bool = False) -> None:
        super().__init__()
        self.keep_navigation = keep_navigation

    def extract(self, text: str) -> str:
        if "<!broken" in text:
            raise ValueError("this page is broken")
        page = text if self.keep_navigation else re.sub("<nav>.*?</nav>", "", text)
        return re.sub("<[^>]*>", "", page).strip()


class Fewer(BaseFilter):
    """Drops what says too often that it is advertised, and cuts the word from the rest."""

    name = "fewer"

    def __init__(self, most: int = 1, exclusion_writer: Any = None) -> None:
        super().__init__(exclusion_writer)
        self.most = most

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        found = doc.text.count("advertised")
        doc.text = doc.text.replace(" advertised", "")
        return (False, f"{found} times") if found > self.most else True


class Louder(BaseFormatter):
    name = "louder"

    def format(self, text: str) -> str:
        if "hush" in text:
            raise RuntimeError("hush")
        return text.upper()


class Numbered(PipelineStep):
    """Writes before a text how many this step has seen: it remembers."""

    name = "numbered"

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for document in data:
            self.seen += 1
            document.text = f"{self.seen}. {document.text}"
            document.id, document.metadata["seen"] = "changed", self.seen
            yield document


class Copied(PipelineStep):
    """Hands on documents of its own with the ids that it was given, and drops some with a reason."""

    name = "copied"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for document in list(data)[::-1]:
            if "odd" in document.text:
                document.metadata["filter_reason"] = "is odd"
                continue
            yield Document(f"copy of {document.text}", document.id, metadata={"of": "a copy"})


class Twice(PipelineStep):
    name = "twice"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for document in data:
            yield document
            yield document


class Others(PipelineStep):
    name = "others"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for document in data:
            yield Document(document.text, "some other id")


class Wrong(PipelineStep):
    """Leaves what is no text."""

    name = "wrong"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for document in data:
            document.text = {"a": None, "b": "\0", "c": "\ud800"}.get(document.text, document.text)  # type: ignore[assignment]
            yield document


class Unread(BaseFormatter):
    """Needs a file that is not there."""

    name = "unread"

    def format(self, text: str) -> str:
        return open("/no/such/file").read()


def function(text: str, row: Any) -> bool:
    return True
