"""How quickly events reach their readers, beside what PostgreSQL, Valkey and a bare socket could do without HIVE."""
