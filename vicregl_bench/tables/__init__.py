"""Tables and pictures made of records."""
