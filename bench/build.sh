#!/usr/bin/env bash
# How long the README's two commands take to build from a clean clone with an empty target folder, and how large the programs are.
# Downloads are done before and not counted. Usage: bench/build.sh [FILE.json]
set -euo pipefail
out=${1:+$(realpath "$1")}
repo=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet "$repo" "$work/clone"
cd "$work/clone"
export CARGO_TARGET_DIR="$work/target"
cargo fetch --locked --quiet
begin=$SECONDS
cargo build --release --locked --quiet --bin aimass
run_s=$((SECONDS - begin))
begin=$SECONDS
cargo test --release --locked --no-run --quiet
test_after_run_s=$((SECONDS - begin))
cargo build --release --locked --quiet --bin aimass-agent
size() { stat -c %s "$1"; }
stripped() { cp "$1" "$work/stripped" && strip "$work/stripped" && size "$work/stripped"; }
agent=$CARGO_TARGET_DIR/release/aimass-agent aimass=$CARGO_TARGET_DIR/release/aimass
cat <<JSON | tee ${out:+"$out"}
{
  "what": "build from a clean clone, $(nproc) cores, $(rustc --version)",
  "build_of_run_command_s": $run_s,
  "build_of_test_command_after_it_s": $test_after_run_s,
  "aimass_bytes": $(size "$aimass"),
  "aimass_stripped_bytes": $(stripped "$aimass"),
  "aimass_agent_bytes": $(size "$agent"),
  "aimass_agent_stripped_bytes": $(stripped "$agent")
}
JSON
