"""datatrove's blocks by datatrove's paths, computed with fox1's kernels: docs/datatrove.md."""

from .. import installed as installed
