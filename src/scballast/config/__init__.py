"""What may be asked: the schema, how it is composed, and addresses."""
