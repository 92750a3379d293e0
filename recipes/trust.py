"""What a recipe names that runs code: the reason why a look at a run of somebody else asks for `--trust`.

A recipe of one's own may name any code. That of a received run is data: whoever made the run chose what stands in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .schema import Recipe
from .travel import places

STORES = (
    *("file", "local", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "memory"),
    *("sftp", "ssh", "hdfs", "webhdfs", "oci", "oss"),
)
"""File systems that read files and do nothing else. Others of fsspec's nest file systems, or fill in templates."""


def named_code(recipe: Recipe, resolved: Mapping[str, Any], plans: bool = False) -> Iterator[str]:
    """Each reader, plug-in, data set and file system of a recipe that runs code of others, in words that name it.

    Args:
        resolved: the mapping that the recipe was parsed from.
        plans: not only the sources are read: the stages run.
    """
    for name, source in recipe.sources.items():
        if source.reader:
            yield f"the reader {source.reader} (sources.{name}.reader)"
        if source.dataset:
            yield f"the data set {source.dataset} (sources.{name}.dataset), read by the library `datasets`"
    for key, place in places(resolved):
        scheme, remote, _ = place.partition("://")
        read = plans or key.startswith(("sources.", "held_out."))
        if read and remote and (scheme not in STORES or "::" in place):
            yield f"the file system of {place} ({key})"
    if plans:
        for step in recipe.steps:
            yield f"the step {step.name}: {step.target} (before_scan.{step.name})"
        for plugin in recipe.plugins.values():
            yield f"the plug-in {plugin.name}: {plugin.target} (plugins.{plugin.name})"
        for benchmark in recipe.contamination.benchmarks:
            if benchmark.dataset:
                yield f"the data set {benchmark.dataset} (contamination.benchmarks.{benchmark.name}), read by `datasets`"
