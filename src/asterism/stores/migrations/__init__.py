"""The steps of the SQL schema, one file each in `versions`; `asterism.stores.sql_schema` runs them."""
