"""Which training rows carry a wrong label? Signals, one ranking, a suggested label and reasons in words."""
