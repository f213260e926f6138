"""The host's work around an inference: a picture decoded, a text tokenized, the steps of a card
carried out, and an answer read from the outputs.

The parent preprocesses and judges evaluations with these very functions, and the scenario
``pipeline`` times them in a worker. So they belong to the worker kit: the standard library and
NumPy, and Pillow or tokenizers where an item needs them.
"""
