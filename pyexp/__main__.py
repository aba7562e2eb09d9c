from pyexp.look.commands import main

raise SystemExit(main())
