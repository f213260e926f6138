"""The host's work around an inference: decode pictures, tokenize texts, run a card's preprocessing
steps, and postprocess the outputs.

The parent uses these functions for evaluations, and the scenario ``pipeline`` times them in a
worker, so they need the standard library and NumPy only. Pillow and tokenizers are imported for
items that need them.
"""
