"""The record: tables, migrations, queries. The only room that knows SQL."""
