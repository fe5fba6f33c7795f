"""What is measured, one module for each library.

Each module runs in its own subject's environment, so it imports the standard library, its siblings in this folder, and
the one library that it is named after.
"""
