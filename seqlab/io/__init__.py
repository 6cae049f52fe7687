"""Files: safe reading, atomic writing, tables and the cache; nothing here knows a run or a model."""
