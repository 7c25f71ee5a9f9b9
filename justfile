# Short names for what is done often. `tests/run` needs none of this.

# Everything but the live tests.
test:
    tests/run --quick

# The live tests alone: a real Prefect server, real Python flows.
live:
    cargo nextest run --workspace --profile live

# Format and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Compare the golden corpus with the Prefect that a Python has; prints what changed.
golden python *arguments:
    {{ python }} tests/golden/generate.py --compare 3.8.8 {{ arguments }}

# Measure what is shipped; prints numbers, judges none.
bench:
    cargo build --profile dist -p worker-tests --bins
    target/dist/bench

# How soon a worker takes what is due, and how much it asks: ours beside the Python worker. Takes a quarter of an hour.
latency:
    cargo build --profile dist -p worker-tests --bins
    target/dist/latency

# What CI runs.
ci:
    .ci/run
