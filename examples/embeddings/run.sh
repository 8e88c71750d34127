#!/usr/bin/env bash
# Shows texts turned into vectors by one function in the languages of two services: OpenAI's /v1/embeddings and Text
# Embeddings Inference's /embed, at their old paths (examples/tenon.toml). Builds what is missing, starts a host, and stops it.
#
# OpenAI's own client works unchanged: OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="-").embeddings.create(...)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly HERE=examples/embeddings DATA=.tenon/examples-data
source examples/host.sh

start_services
json=(-H 'content-type: application/json')
call openai.json /v1/embeddings "${json[@]}" --data "@$HERE/openai.json"
expect openai.json $HERE/openai.answer.json
call embed.json /embed "${json[@]}" --data "@$HERE/tei.json"
expect embed.json $HERE/tei.answer.json
