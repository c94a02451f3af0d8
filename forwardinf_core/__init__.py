"""Forward-INF auditor: which training rows helped or hurt a prediction.

Layers, each importing only those to its right:
``ui → audits, verification, reports → jobs, store → projects → models, datasets → influence``.
"""

__version__ = "0.1.0"
