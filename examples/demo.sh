#!/usr/bin/env bash
# Shows a real question answered through Tenon: a host starts, a sandboxed plugin turns a question and some
# documents into rows, a real model scores them in one batch, and the plugin ranks the answer.
#
# `make demo` calls it when everything is built. By itself it needs only the built binaries, models/ and
# functions/ and python3. It stops the host that it started, and nothing else.
#
#   make demo QUESTION="how long may I keep a film?"     ask something of your own
#   DOCUMENTS=my.txt make demo                           among your own documents, one a line
#   KEEP=1 make demo                                     leave the host running until Ctrl-C
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Shares no telling word with its answer. The model is small and can be fooled by shared words: asked "My loaf is not
# getting bigger before it goes into the oven. What can I do?", it puts the baking powder before the yeast.
readonly QUESTION=${QUESTION:-When does the last boat go?}
readonly DOCUMENTS=${DOCUMENTS:-examples/documents.txt}
readonly DATA=.tenon/demo-data
source examples/host.sh

ask() {
    if ! "$TENON" --host "$host" invoke demo/reranker --body "$DATA/request.json" --json >"$1" 2>"$DATA/invoke.err" </dev/null; then
        sed 's/^/  /' "$DATA/invoke.err" "$1" >&2
        fail "the question got no answer" "$TENON functions --host $host; $TENON doctor"
    fi
}

# Where the time went: the host's own account of it.
timings() {
    python3 - "$1" <<'PYTHON'
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    timing = json.load(file)["timing"]
took = timing.get("process_time_ms")
print(f"  {took:.1f} ms in the host" if took is not None else f"  {timing['elapsed_ms']:.1f} ms seen from here", end="")
stages = ", ".join(f"{stage['name']} {stage['dur_ms']:.2f}" for stage in timing.get("stages", []))
print(f": {stages} (ms)" if stages else "")
PYTHON
}

for file in "$TENON" "$TENON-host" models functions "$DOCUMENTS"; do
    [[ -e $file ]] || fail "$file is missing" "run \`make demo\`, which builds and lays out everything"
done
mkdir -p "$DATA"
: >"$LOG"

python3 - "$QUESTION" "$DOCUMENTS" >"$DATA/request.json" <<'PYTHON' || fail "cannot use $DOCUMENTS"
import json, sys
question, path = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    documents = [line.strip() for line in file if line.strip()]
if not documents:
    sys.exit(f"{path} has no documents; put one on each line")
json.dump({"query": question, "documents": documents}, sys.stdout, ensure_ascii=False)
PYTHON

start_host models functions

say ""
say "${bold}Question${off}"
say "  $QUESTION"
ask "$DATA/answer.json"
say ""
say "${bold}Documents, best first${off} ${dim}(cosine of question and document)${off}"
python3 - "$DATA/request.json" "$DATA/answer.json" "$bold$green" "$off" <<'PYTHON' || fail "the answer is not what a reranker says: $DATA/answer.json"
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    documents = json.load(file)["documents"]
with open(sys.argv[2], encoding="utf-8") as file:
    body = json.load(file)["body"]
best, off = sys.argv[3:]
for rank, result in enumerate(sorted(body["results"], key=lambda result: -result["relevance_score"])):
    before, after = (best, off) if rank == 0 else ("", "")
    print(f"  {before}{result['relevance_score']:+.4f}  {documents[result['index']]}{after}")
PYTHON
say ""
say "${bold}Where the time went${off}"
timings "$DATA/answer.json"
say "${bold}The same question again, whose answer is remembered${off}"
ask "$DATA/again.json"
timings "$DATA/again.json"

say ""
say "${bold}How to go on${off}"
if [[ -z ${KEEP:-} ]]; then
    say "  keep the host running   KEEP=1 make demo    (then, in another terminal:)"
fi
say "  ask with curl           curl -s $host/v1/functions/demo/reranker -H 'content-type: application/json' --data @$DATA/request.json"
say "  ask with tenon          $TENON --host $host invoke demo/reranker --body $DATA/request.json"
say "  what is there           $TENON --host $host functions; $TENON --host $host models"
say "  what is wrong           $TENON doctor"
say "  the host's log          $LOG"
if [[ -n ${KEEP:-} ]]; then
    say "  stop the host           Ctrl-C here"
    trap 'exit 0' INT # from here on, the way it is meant to end
    wait "$host_pid" || fail "the host ended by itself"
else
    say "${dim}Stopping the host.${off}"
fi
