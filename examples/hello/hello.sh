#!/bin/sh
# What the flow run does. Its output becomes the flow run's log, its exit code the flow run's end.
echo "Hello from a git repository."
echo "This is flow run ${PREFECT__FLOW_RUN_ID:-unknown}."
