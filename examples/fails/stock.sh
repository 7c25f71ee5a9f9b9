#!/bin/sh
# A command that fails.
echo "looking at the shelf"
echo "the shelf is empty" >&2
exit 3
