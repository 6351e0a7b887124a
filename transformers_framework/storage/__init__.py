"""Files and folders: written whole or not at all, remote or local, and those of a run."""
