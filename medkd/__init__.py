"""medkd: a small lung-nodule model that knows what a big one knows.

Not a medical device. See README.md for what each room of the house is for.
"""

__version__ = "0.1.0"
