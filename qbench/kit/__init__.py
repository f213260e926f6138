"""All that runs in a worker's interpreter, and all that a plugin imports.

Modules run on Python 3.10 and need the standard library and NumPy only; a module that needs another
package says so in its docstring ("Needs onnx"). Nothing is imported here: a worker records its
start
before NumPy is loaded.
"""
