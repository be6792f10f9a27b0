"""From a model of a framework to ONNX, with proof; needs ``pip install slipway-serving[convert]``.

This runs where the model was made, never in a cluster. :func:`slipway.convert.make.convert` converts,
compares the answers, and writes what it found into ``conversion.json`` next to the model.
"""
