"""The parts of the memorization screen."""
