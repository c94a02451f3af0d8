"""The parts of the attribution screen, each drawn by one function."""
