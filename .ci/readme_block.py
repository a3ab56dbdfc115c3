"""Print the README block whose fence says ```sh ci NAME."""

import re
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text(encoding="utf-8")
found = re.findall(rf"^```sh ci {re.escape(sys.argv[2])}\n(.*?)^```$", text, re.M | re.S)
if len(found) != 1:
    sys.exit(f"expected one block `sh ci {sys.argv[2]}` in {sys.argv[1]}, found {len(found)}")
sys.stdout.write(found[0])
