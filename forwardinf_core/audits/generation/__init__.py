"""Which training images made this generated one? (The paper's application "data attribution in diffusion models".)"""
