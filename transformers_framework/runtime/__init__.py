"""The machine: precision, strategies, allocator, seeding, logging."""
