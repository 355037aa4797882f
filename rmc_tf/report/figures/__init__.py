"""The paper's figures, each from plain data to PNG, SVG and CSV. Needs no TensorFlow.

A new one is one function that draws it and one entry of `of_records`.
"""
