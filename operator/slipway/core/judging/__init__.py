"""What monitoring says of a model: from the counts of its window to what status remembers.

The figures are those of :mod:`slipway.core.monitoring`, which the rules for Prometheus compute too. What is
decided here is what is judged, from when on a verdict counts, and when it is worth writing down.
"""
