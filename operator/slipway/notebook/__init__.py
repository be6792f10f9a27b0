"""Models in notebooks and scripts: ``slipway.model("fraud")``.

A handle shows itself in Jupyter, predicts, waits, and gives the commands that ``kubectl slipway`` gives.
It has no rights but its user's.
"""
