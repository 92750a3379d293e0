"""Near-duplicates by fox1's signatures, verified; datatrove's filter reads what is written."""

from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupFilter

from .minhash import MinhashDedupDecide, MinhashDedupSignature

__all__ = ["MinhashConfig", "MinhashDedupDecide", "MinhashDedupFilter", "MinhashDedupSignature"]
