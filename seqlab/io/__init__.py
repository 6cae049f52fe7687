"""Files: safe reading, atomic writing, tables and the cache, without knowledge of runs or models."""
