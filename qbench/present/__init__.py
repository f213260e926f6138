"""Values to words, terminal tables, pages, sites, pictures and export files."""
