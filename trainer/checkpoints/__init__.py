"""The state of a training on disk, and models in the layout of `transformers`.

In: a sharded model with its optimizer, and how far the training has come; or a folder in the layout of `LlamaForCausalLM`.
Out: checkpoint folders that are whole or absent, verified before they are read, loaded on any number of processes.

    checkpoint.py  the manifest; saving, publishing, pruning and loading
    reader.py      reads what torch wrote without running anything that a file names
    export.py      to and from `LlamaForCausalLM`; the tokenizer kept beside the checkpoints
    llama_config.py        its config.json: written, and read if it describes a Fox-1
    exported_tokenizer.py  its tokenizer.json, compared with the SentencePiece model; its chat template
"""
