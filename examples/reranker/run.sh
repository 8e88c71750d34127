#!/usr/bin/env bash
# Shows documents ranked for a question by one function in the languages of four services: Text Embeddings Inference, Cohere,
# Jina, and its own. Their clients' requests go unchanged to their old paths (examples/tenon.toml); docs/reranker.md has the
# fields. Builds what is missing, starts a host, and stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly HERE=examples/reranker DATA=.tenon/examples-data
source examples/host.sh

start_services
json=(-H 'content-type: application/json')
call tei.json /rerank "${json[@]}" --data "@$HERE/tei.json"
expect tei.json $HERE/tei.answer.json
call cohere.json /v2/rerank "${json[@]}" --data "@$HERE/cohere.json"
expect cohere.json $HERE/cohere.answer.json
call jina.json /v1/rerank "${json[@]}" --data "@$HERE/jina.json"
expect jina.json $HERE/jina.answer.json
