"""The parts of the Verify screen, and the traffic lights that other screens show."""
