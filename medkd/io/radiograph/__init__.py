"""Read chest radiographs: `read` is the entry point; the other modules are its parts."""
