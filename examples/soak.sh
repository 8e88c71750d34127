#!/usr/bin/env bash
# Shows that a host neither leaks nor breaks under what it meets for a long time: a million invocations with the
# process's memory sampled, 200 swaps and 200 unloads of models under load, likewise, all fuzz targets with 100,000 cases
# each, then for the rest of the time the hostile plugins and the swaps of functions under load, in rotation. `make soak`;
# the minutes are the argument (default 10). Invocations, cycles and cases are done whatever the minutes are: on two cores
# they take some 10 of them.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:-10}
begun=$SECONDS
cycles=${MODEL_CYCLES:-200}
invocations=${SOAK_INVOCATIONS:-1000000}
cases=${PROPTEST_CASES:-100000}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# One test after the other, each suite in a process of its own, so that what one holds is not taken for another's.
run() {
    local name=$1
    shift
    printf '==> %s (%s s so far)\n' "$name" "$((SECONDS - begun))"
    if ! cargo test --quiet --workspace --test it -- --nocapture --test-threads 1 "$@" >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        printf 'error: %s failed\n' "$name" >&2
        exit 1
    fi
    # A name that fits no test any more would pass as well.
    if ! grep -qE 'test result: ok\. [1-9]' "$log"; then
        printf 'error: no test is called %s\n' "$*" >&2
        exit 1
    fi
    grep -E 'invocations,|resident:|cycles,|[0-9] cases' "$log" || true
}

cargo test --quiet --workspace --test it --no-run
SOAK_INVOCATIONS=$invocations run "$invocations invocations of the empty function" soak::
MODEL_CYCLES=$cycles run "$cycles swaps and unloads of models under load" models::models_come_and_go
SWAPS=${SWAPS:-500} run '500 swaps of revisions under 16 callers' traffic::swaps_under_load
DEPLOY_CYCLES=${DEPLOY_CYCLES:-1000} run '1000 deployments under 8 callers' traffic::deployments_come_and_go
printf '==> a Redis cluster of three (%s s so far)\n' "$((SECONDS - begun))"
REDIS_CLUSTER=1 cargo test --quiet --workspace --lib -- redis::tests::cluster >"$log" 2>&1 || { tail -n 60 "$log" >&2; exit 1; }
grep -qE 'test result: ok\. 1' "$log" || { printf 'error: the cluster was not tried\n' >&2; exit 1; }
KILLS=${KILLS:-200} run '200 kills amid deployments' crash::
for target in texts::function texts::model texts::tenon requests::bytes requests::requests tensors::; do
    PROPTEST_CASES=$cases run "fuzz $target" "fuzz::$target"
done
rounds=0
while ((SECONDS - begun < minutes * 60 || rounds == 0)); do
    rounds=$((rounds + 1))
    for suite in hostile:: absurd:: crafted:: bounds:: folder::changes_under_load overload::everybody; do
        run "round $rounds: $suite" "$suite"
    done
done
printf 'soak: %s invocations, %s cases for each target, %s rounds of hostile plugins and swaps in %s s: nothing grew, nothing broke\n' \
    "$invocations" "$cases" "$rounds" "$((SECONDS - begun))"
