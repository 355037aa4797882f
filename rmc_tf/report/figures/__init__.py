"""The paper's figures, each from plain data to PNG, SVG and CSV. Needs no TensorFlow.

A new one is one file here and one line of `of_records`.
"""
