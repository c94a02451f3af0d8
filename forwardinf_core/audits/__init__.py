"""One file per question a person asks. Services: they own names, files, jobs and validation, and return frozen records."""
