"""Parts of the text tracing screen."""
