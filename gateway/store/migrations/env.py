"""How Alembic runs the steps: inside the transaction that `migrate` has begun, so that they happen whole or not."""

from alembic import context

from gateway.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
context.run_migrations()
