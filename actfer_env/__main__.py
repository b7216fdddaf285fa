"""`python -m actfer_env` is `actfer`."""

from actfer_env.cli import main

main()
