"""What stays on disk: chunks of long work, big arrays, finished runs and the databases.

Everything is written under a temporary name, flushed and renamed, and carries checksums and the fingerprints of what it
was made from: a killed process leaves the old state or the new, never a mixture, and nothing is read for another model.
"""
