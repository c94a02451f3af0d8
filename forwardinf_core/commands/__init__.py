"""The commands of the command line, a file per group; each prints plain text, or JSON with ``--json``."""
