"""A user's rows as a TrainingSet: stable ids, labels, payloads read on demand, fingerprint, thumbnails."""
