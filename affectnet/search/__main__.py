"""`python -m affectnet.search`."""

from affectnet.search.search import main

if __name__ == "__main__":
    main()
