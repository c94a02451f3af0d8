"""Long work on the screen: the panel in the sidebar, the progress of an answer in its place, and what they ask."""
