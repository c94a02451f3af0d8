"""One file per question a person asks. They own names, files, jobs and validation, and return frozen records."""
