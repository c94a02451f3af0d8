"""Which rows does the model know only because it saw them?"""
