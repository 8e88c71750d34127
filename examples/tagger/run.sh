#!/usr/bin/env bash
# Shows cell types, markers and tissues marked in texts: in plain text, and in an article's markup, with places in the
# characters of what was sent. docs/tagger.md has the parameters. Builds what is missing, starts a host, and stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly HERE=examples/tagger DATA=.tenon/examples-data
source examples/host.sh

start_services
call text.json /tag -H 'content-type: text/plain; charset=utf-8' --data-binary "@$HERE/abstract.txt"
expect text.json $HERE/text.answer.json
call article.json /tag -H 'content-type: application/jats+xml' --data-binary "@$HERE/article.xml"
expect article.json $HERE/article.answer.json
