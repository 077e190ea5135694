"""The HTTP door to a federation: fedjury gateway 10."""

from __future__ import annotations

from fedjury.config.program import Program, run_main
from fedjury.gateway.program import EXPECTED, parser_of, work

main = Program("fedjury gateway", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
