"""Tests. A package of its own, since some libraries install one that is called so, too."""
