"""Parts of the generation tracing screen."""
