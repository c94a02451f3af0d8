"""The parts of the leakage screen."""
