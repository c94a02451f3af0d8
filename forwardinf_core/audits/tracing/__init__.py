"""Which training texts made a language model say that? (The paper's application "tracing behaviour".)"""
