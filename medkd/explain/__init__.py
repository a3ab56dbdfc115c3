"""Why a model says what it says: heat maps of scans and radiographs, and where models disagree."""
