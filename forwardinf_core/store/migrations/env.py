"""Run by Alembic: migrates the open connection that store.database hands over."""

from alembic import context

settings = context.config.attributes
context.configure(connection=settings["connection"], version_table=settings["version_table"])
with context.begin_transaction():
    context.run_migrations()
