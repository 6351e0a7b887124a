"""Private parts of the libraries: each that is used, in the file of its library, so that an upgrade fails in a test."""
