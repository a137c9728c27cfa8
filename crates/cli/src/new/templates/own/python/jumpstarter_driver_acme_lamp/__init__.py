"""The Python client of the driver acme-lamp."""
