# PYTHON_ARGCOMPLETE_OK
from pyexp.look.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
