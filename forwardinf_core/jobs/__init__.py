"""Long work: registered functions, one queue a machine, a worker that survives kills, forecast, cancel, resume."""
