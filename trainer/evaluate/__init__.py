"""What a trained model can do: benchmark scores and generated text.

In: a checkpoint, or an exported folder, with its tokenizer; the published files of the benchmarks, or a network.
Out: scores beside those of the released Fox-1; memory and speed of generation; text. Needs more than torch: the
tokenizer's libraries, and lm-eval for the scores.

    text_model.py      a model with its tokenizer: text in, text out
    generate.py        tokens one by one with a key-value cache; log probabilities of continuations
    evaluate.py        the six benchmarks, run by lm-eval; what generating costs
    harness.py         a Fox-1 as a model of lm-eval
    benchmark_data.py  the benchmarks' published files as rows of lm-eval's tasks
"""
