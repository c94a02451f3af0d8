"""Is a test row in the training set, as it is or in another form?"""
