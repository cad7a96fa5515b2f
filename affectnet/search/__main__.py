"""`python -m affectnet.search`."""

from affectnet.errors import exit_code
from affectnet.search.search import main

if __name__ == "__main__":
    raise SystemExit(exit_code(main))
