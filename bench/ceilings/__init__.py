"""What the same machine does without HIVE's code. The benchmark runs each of these beside HIVE, in turns."""
