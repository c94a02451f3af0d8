"""Curvature of the training loss: (F + λI)⁻¹ applied to a query's gradient. One file per kind."""
