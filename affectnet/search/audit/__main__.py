"""`python -m affectnet.search.audit`."""

from affectnet.errors import exit_code
from affectnet.search.audit.audit import main

if __name__ == "__main__":
    raise SystemExit(exit_code(main))
