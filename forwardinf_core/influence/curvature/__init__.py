"""Curvature of the training loss: (F + λI)⁻¹ applied to a query's gradient, METHOD 3.1. One file per kind."""
