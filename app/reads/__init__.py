"""The reads that are asked for most: one statement, whose answer PostgreSQL writes as the JSON that is sent.

- `json_columns.py`: columns as the response models write them.
- `page_parts.py`: a page of a list.
- `task_reads.py` and its like: the reads of one noun.

What may be seen, and which filters there are, is the services' to say: a read begins with their statements. A new
read is a statement in the file of its noun, and a test like those in `tests/integration/reads/test_reads.py` that its
answer is what the response model says. See ADR 27.
"""
