"""The parts of the memorisation screen."""
