"""The embedded demo projects, built on first start from data that comes with the libraries. Nothing is downloaded."""
